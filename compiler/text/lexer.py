"""The lexer: IR text as tokens that know their place, and the cursor that walks over them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, NoReturn, TypeVar

from ..errors import ParseError

T = TypeVar("T")


class Token(NamedTuple):
    """A piece of text.

    `kind` is "value" (`%x`), "function" (`@f`), "string", "float", "int", "name", "mark" or "end".
    """

    kind: str
    text: str
    line: int
    column: int

    def __str__(self) -> str:
        return self.text or "the end of the text"


_STRING = r'"(?:[^"\\\n]|\\.)*"'
_NAME = r"[^\W\d]\w*"
_SKIPPED = re.compile(r"\s+|(?<!\S)//[^\n]*")
"""White space and comments: `//` at a line's start or after a space; elsewhere it divides."""
_TOKEN = re.compile(
    rf"""
    (?P<value>%(?:[^\W\d][\w.]*|[0-9]+|{_STRING}))
    | (?P<function>@(?:[^\W\d][\w.]*|{_STRING}))
    | (?P<string>{_STRING})
    | (?P<float>[0-9]+(?:\.[0-9]+(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+))
    | (?P<int>[0-9]+)
    | (?P<name>taut-ir|{_NAME})
    | (?P<mark>->|//|[-+*~{{}}()\[\]<>,:=])
    """,
    re.VERBOSE,
)


def tokenize(text: str, source: str) -> Iterator[Token]:
    """The tokens of `text`, the last of kind "end".

    Raises:
        ParseError: a character belongs to no token.
    """
    position, line, line_start = 0, 1, 0
    while True:
        if skipped := _SKIPPED.match(text, position):
            line += skipped.group().count("\n")
            line_start = text.rfind("\n", 0, skipped.end()) + 1
            position = skipped.end()
            continue
        column = position - line_start + 1
        found = _TOKEN.match(text, position)
        if found is None:
            break
        yield Token(str(found.lastgroup), found.group(), line, column)
        position = found.end()
    if position < len(text):
        raise ParseError(_unreadable(text[position:]), line, column, source)
    yield Token("end", "", line, column)


def _unreadable(rest: str) -> str:
    if '"' in rest[:2]:
        return "this string has no closing quote"
    return f"unexpected character {rest[0]!r}"


def suggestion(word: str, options: Iterable[str]) -> str:
    """`; did you mean 'matmul'?`, or nothing if no option is close."""
    close = difflib.get_close_matches(word, list(options), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


class Cursor:
    """A position in the tokens of a text."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self._tokens = list(tokenize(text, source))
        self._position = 0

    @property
    def token(self) -> Token:
        """The next token."""
        return self._tokens[self._position]

    @property
    def after(self) -> Token:
        """The token after the next."""
        return self._tokens[min(self._position + 1, len(self._tokens) - 1)]

    def advance(self) -> Token:
        """Takes the next token; the last one stays."""
        token = self.token
        self._position = min(self._position + 1, len(self._tokens) - 1)
        return token

    def accept(self, text: str) -> bool:
        """Takes the next token if it is `text`."""
        if self.token.text != text or self.token.kind not in ("mark", "name"):
            return False
        self.advance()
        return True

    def expect(self, text: str) -> Token:
        """Takes the next token, which must be `text`."""
        token = self.token
        if not self.accept(text):
            self.fail(f"expected {text!r}, found {token}")
        return token

    def expect_kind(self, kind: str, what: str) -> Token:
        """Takes the next token, which must be of a kind; `what` it is for is said if it is not."""
        if self.token.kind != kind:
            self.fail(f"expected {what}, found {self.token}")
        return self.advance()

    def list_of(self, item: Callable[[], T], *, end: str) -> list[T]:
        """Items with commas between them, then `end`."""
        items: list[T] = []
        while not self.accept(end):
            if items and not self.accept(","):
                self.fail(f"expected ',' or {end!r}, found {self.token}")
            items.append(item())
        return items

    def integer(self, what: str) -> int:
        """Takes an integer literal."""
        token = self.expect_kind("int", what)
        try:
            return int(token.text)
        except ValueError:  # Python refuses thousands of digits
            self.fail("this number is too long", token)

    def string(self, what: str) -> str:
        """Takes a string literal and returns what it says."""
        return self.unquote(self.expect_kind("string", what))

    def unquote(self, token: Token) -> str:
        """What a string, or a name after its `%` or `@`, says."""
        text = token.text.lstrip("%@")
        if not text.startswith('"'):
            return text
        try:
            return str(json.loads(text))
        except json.JSONDecodeError:
            self.fail(f"{text} is not a string as JSON writes one", token)

    def fail(self, message: str, token: Token | None = None) -> NoReturn:
        """Raises a ParseError at `token`, or at the next one."""
        at = token or self.token
        raise ParseError(message, at.line, at.column, self.source)
