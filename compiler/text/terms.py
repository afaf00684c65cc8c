"""Reads the parts of IR text that stand inside statements: sizes, types, literals and locations."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from .. import dtypes
from ..aval import Aval, Dim, symbol
from ..ir import Graph, Loc
from .lexer import Cursor, Token, suggestion

DTYPES = {d.name: d for d in dtypes.ALL}
WORDS: dict[str, Any] = {
    "true": True,
    "false": False,
    "none": None,
    "inf": float("inf"),
    "nan": float("nan"),
    **DTYPES,
}
"""Literals that are words; no size can be called so."""

Symbols = Collection[str]


def parse_type(cursor: Cursor, symbols: Symbols) -> Aval:
    """`f32[B,8]`, or `~f64[]` for a Python scalar's type."""
    weak = cursor.accept("~")
    token = cursor.expect_kind("name", "a dtype")
    if token.text not in DTYPES:
        cursor.fail(f"unknown dtype {token.text!r}{suggestion(token.text, DTYPES)}", token)
    cursor.expect("[")
    shape = cursor.list_of(lambda: _parse_size(cursor, symbols), end="]")
    return Aval(DTYPES[token.text], tuple(shape), weak)


def _parse_size(cursor: Cursor, symbols: Symbols) -> Dim:
    start = cursor.token
    size = parse_dim(cursor, symbols)
    if isinstance(size, int) and size < 0:
        cursor.fail(f"a size cannot be negative, got {size}", start)
    return size


def parse_dim(cursor: Cursor, symbols: Symbols) -> Dim:
    """An integer expression over the declared sizes: `B*64`, `(B+1)//2`, `-3`."""
    negative = cursor.accept("-")
    total = _parse_product(cursor, symbols)
    total = total * -1 if negative else total
    while (sign := cursor.token).text in ("+", "-"):
        cursor.advance()
        term = _parse_product(cursor, symbols)
        total = total + term if sign.text == "+" else total - term
    return total


def _parse_product(cursor: Cursor, symbols: Symbols) -> Dim:
    value = _parse_atom(cursor, symbols)
    while True:
        if cursor.accept("*"):
            value = value * _parse_atom(cursor, symbols)
        elif cursor.accept("//"):
            value = value // _parse_divisor(cursor)
        else:
            return value


def _parse_divisor(cursor: Cursor) -> int:
    token = cursor.token
    divisor = cursor.integer("a number to divide by")
    if divisor == 0:
        cursor.fail("a size cannot be divided by 0", token)
    return divisor


def _parse_atom(cursor: Cursor, symbols: Symbols) -> Dim:
    if cursor.accept("("):
        inner = parse_dim(cursor, symbols)
        cursor.expect(")")
        return inner
    if cursor.token.kind == "int":
        return cursor.integer("a size")
    token = cursor.expect_kind("name", "a size")
    if token.text not in symbols:
        hint = suggestion(token.text, symbols)
        cursor.fail(f"the size {token.text!r} is not declared{hint}", token)
    return symbol(token.text)


def parse_literal(cursor: Cursor, symbols: Symbols, region: Callable[[], Graph]) -> Any:
    """The value of an attribute; `region` reads a function where one stands."""
    if cursor.accept("["):
        items = cursor.list_of(lambda: parse_literal(cursor, symbols, region), end="]")
        return tuple(items)
    if cursor.token.kind == "string":
        return cursor.string("a string")
    if cursor.token.text == "func":
        return region()
    return _parse_scalar(cursor, symbols)


def _parse_scalar(cursor: Cursor, symbols: Symbols) -> Any:
    token = cursor.token
    if token.kind == "name" and token.text not in symbols:
        return _parse_word(cursor)
    if _is_float(token) or (token.text == "-" and _is_float(cursor.after)):
        return _parse_float(cursor)
    if token.kind in ("int", "name") or token.text in ("(", "-"):
        return parse_dim(cursor, symbols)
    return cursor.fail(f"expected a value, found {token}")


def _parse_word(cursor: Cursor) -> Any:
    token = cursor.advance()
    if token.text not in WORDS:
        cursor.fail(f"unknown word {token.text!r}{suggestion(token.text, WORDS)}", token)
    return WORDS[token.text]


def _is_float(token: Token) -> bool:
    return token.kind == "float" or token.text in ("inf", "nan")


def _parse_float(cursor: Cursor) -> float:
    sign = -1.0 if cursor.accept("-") else 1.0
    return sign * float(cursor.advance().text)


def parse_locs(cursor: Cursor) -> tuple[Loc, ...]:
    """`loc("a.py":1:2, grad "b.py":3:4)`, where there is one."""
    if not cursor.accept("loc"):
        return ()
    cursor.expect("(")
    return tuple(cursor.list_of(lambda: _parse_loc(cursor), end=")"))


def _parse_loc(cursor: Cursor) -> Loc:
    grad = cursor.accept("grad")
    file = cursor.string("a file's name in quotes")
    cursor.expect(":")
    line = cursor.integer("a line")
    cursor.expect(":")
    return Loc(file, line, cursor.integer("a column"), grad)
