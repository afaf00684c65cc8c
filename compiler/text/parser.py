"""The parser: IR text back to a graph, by recursive descent.

    document  = "taut-ir" INT function
    function  = "func" [FUNCTION] ["<" NAME {"," NAME} ">"] "(" [binder {"," binder}] ")"
                "->" "(" [type {"," type}] ")" "{" {statement} "return" [result {"," result}] "}"
    statement = binder {"," binder} "=" NAME [VALUE {"," VALUE}] [attributes] [locations]
              | "check" VALUE STRING [locations]
    binder    = VALUE ":" type
    attributes = "{" [NAME "=" literal {"," NAME "=" literal}] "}"
    result    = VALUE ["->" VALUE]

Capitals are the lexer's tokens; `terms` reads types, literals and locations.  White space, line
ends and comments (`// ...`) mean nothing.  A value is defined before it is used; one that nothing
uses is dropped, as anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from .. import dtypes
from ..aval import Aval
from ..errors import IRError, ParseError
from ..ir import Check, Graph, Loc, Node, Value, make_node
from ..primitive import Primitive, all_primitives, get
from ..primitives.create import graph_input
from .attributes import missing_attribute, parse_attributes
from .lexer import Cursor, Token, suggestion
from .printer import VERSION
from .terms import WORDS, parse_locs, parse_type

_USERS_NAME = re.compile(r"\w+_[0-9a-f]{12}")


def parse_graph(text: str, source: str = "<text>") -> Graph:
    """The graph that `text` describes; the inverse of `print_graph`.

    Args:
        text: IR text, one function.
        source: where the text comes from, for messages.

    Raises:
        ParseError: the text is not well formed, or breaks a law of the IR; it names the place.
    """
    cursor = Cursor(text, source)
    try:
        _parse_version(cursor)
        graph = _parse_function(cursor)
    except RecursionError:
        raise ParseError("nested too deeply", 1, 1, source) from None
    if cursor.token.kind != "end":
        cursor.fail(f"expected the end of the text, found {cursor.token}")
    return graph


def _parse_version(cursor: Cursor) -> None:
    cursor.expect("taut-ir")
    token = cursor.token
    version = cursor.integer("a version")
    if version != VERSION:
        cursor.fail(f"version {version} of the text form is not known, only {VERSION} is", token)


class _Binder(NamedTuple):
    """`%x: f32[8]`, with the tokens to report errors at."""

    name: Token
    aval: Aval
    type: Token


@dataclass
class _Function:
    """What has been read of one function."""

    cursor: Cursor
    symbols: dict[str, Token] = field(default_factory=dict)
    values: dict[str | int, Value] = field(default_factory=dict)
    inputs: list[Value] = field(default_factory=list)
    lines: dict[str | int, int] = field(default_factory=dict)
    names: dict[Value, str] = field(default_factory=dict)
    locs: dict[Node, tuple[Loc, ...]] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

    def key(self, token: Token) -> str | int:
        """A value's name, or its number where it has none."""
        text = token.text[1:]
        return int(text) if text.isdecimal() else self.cursor.unquote(token)

    def define(self, token: Token, value: Value) -> None:
        key = self.key(token)
        if key in self.values:
            self.cursor.fail(f"{token} is defined already, in line {self.lines[key]}", token)
        self.values[key], self.lines[key] = value, token.line
        if isinstance(key, str):
            self.names.setdefault(value, key)

    def use(self) -> Value:
        token = self.cursor.expect_kind("value", "a value")
        key = self.key(token)
        if key not in self.values:
            hint = suggestion(token.text, (f"%{k}" for k in self.values if isinstance(k, str)))
            self.cursor.fail(f"{token} is not defined{hint}", token)
        return self.values[key]

    def locate(self, node: Node, locs: tuple[Loc, ...]) -> None:
        if locs:
            self.locs[node] = tuple(dict.fromkeys((*self.locs.get(node, ()), *locs)))


def _parse_function(cursor: Cursor) -> Graph:
    cursor.expect("func")
    name = cursor.unquote(cursor.advance()) if cursor.token.kind == "function" else ""
    function = _Function(cursor)
    _parse_symbols(function)
    _parse_inputs(function)
    cursor.expect("->")
    cursor.expect("(")
    types = cursor.list_of(lambda: (cursor.token, parse_type(cursor, function.symbols)), end=")")
    cursor.expect("{")
    while cursor.token.text != "return":
        _parse_statement(function)
    outputs, donations = _parse_return(function, types)
    cursor.expect("}")
    return Graph(
        name,
        tuple(function.inputs),
        tuple(outputs),
        tuple(donations),
        tuple(function.checks),
        function.names,
        function.locs,
    )


def _parse_symbols(function: _Function) -> None:
    cursor = function.cursor
    if cursor.accept("<"):
        for token in cursor.list_of(lambda: cursor.expect_kind("name", "a size's name"), end=">"):
            if token.text in WORDS:
                cursor.fail(f"a size cannot be called {token.text!r}", token)
            if token.text in function.symbols:
                cursor.fail(f"the size {token.text!r} is declared twice", token)
            function.symbols[token.text] = token


def _parse_inputs(function: _Function) -> None:
    cursor = function.cursor
    cursor.expect("(")
    for binder in cursor.list_of(lambda: _parse_binder(function), end=")"):
        value = graph_input(len(function.inputs), binder.aval)
        function.inputs.append(value)
        function.define(binder.name, value)
    bound = {name for value in function.inputs for name in value.aval.symbols}
    for name, token in function.symbols.items():
        if name not in bound:
            cursor.fail(f"no input has the size {name!r}", token)


def _parse_binder(function: _Function) -> _Binder:
    cursor = function.cursor
    name = cursor.expect_kind("value", "a value")
    cursor.expect(":")
    token = cursor.token
    return _Binder(name, parse_type(cursor, function.symbols), token)


def _parse_statement(function: _Function) -> None:
    cursor = function.cursor
    if cursor.accept("check"):
        _parse_check(function)
    elif cursor.token.kind == "value":
        _parse_node(function)
    else:
        cursor.fail(f"expected a statement or 'return', found {cursor.token}")


def _parse_check(function: _Function) -> None:
    cursor = function.cursor
    token = cursor.token
    condition = function.use()
    if condition.aval != Aval(dtypes.boolean):
        cursor.fail(f"a check needs a bool[], {token} is {condition.aval}", token)
    message = cursor.string("the message of the check in quotes")
    start = cursor.token
    locs = parse_locs(cursor)
    if len(locs) > 1:
        cursor.fail("a check has one location", start)
    function.checks.append(Check(condition, message, locs[0] if locs else None))


def _parse_node(function: _Function) -> None:
    cursor = function.cursor
    binders = [_parse_binder(function)]
    while cursor.accept(","):
        binders.append(_parse_binder(function))
    cursor.expect("=")
    start = cursor.token
    primitive = _parse_primitive(cursor)
    operands = _parse_operands(function)
    region = partial(_parse_function, cursor)
    params = parse_attributes(cursor, function.symbols, primitive, region)
    if missing := missing_attribute(primitive, params):
        cursor.fail(f"{primitive} needs the attribute {missing!r}", start)
    params |= {name: getattr(binders[0].aval, name) for name in primitive.from_type}
    try:
        node = make_node(primitive, operands, params)
    except IRError as error:
        cursor.fail(str(error), start)
    _bind(function, binders, node)
    function.locate(node, parse_locs(cursor))


def _parse_primitive(cursor: Cursor) -> Primitive:
    token = cursor.expect_kind("name", "a primitive")
    if token.text == "input":
        cursor.fail("inputs stand in the function's first line", token)
    try:
        return get(token.text)
    except KeyError:
        hint = suggestion(token.text, (p.name for p in all_primitives()))
        if not hint and _USERS_NAME.fullmatch(token.text):
            hint = (
                "; if it is a function that a user wrote, text holds its name alone: import what "
                "defines it, and call it once on tensors of these dtypes"
            )
        cursor.fail(f"unknown primitive {token.text!r}{hint}", token)


def _parse_operands(function: _Function) -> tuple[Value, ...]:
    """Values up to the next statement, which may begin with a value too: that one has a type."""
    cursor = function.cursor
    operands: list[Value] = []
    if cursor.token.kind == "value" and cursor.after.text != ":":
        operands.append(function.use())
        while cursor.accept(","):
            operands.append(function.use())
    return tuple(operands)


def _bind(function: _Function, binders: Sequence[_Binder], node: Node) -> None:
    cursor = function.cursor
    if len(binders) != len(node.results):
        counts = f"names for {len(binders)}, but {node.prim} has {len(node.results)}"
        cursor.fail(f"wrong number of results: {counts}", binders[0].name)
    for binder, result in zip(binders, node.results, strict=True):
        if binder.aval != result.aval:
            message = (
                f"{binder.name} is declared {binder.aval}, but {node.prim} gives {result.aval}"
            )
            cursor.fail(message, binder.type)
        function.define(binder.name, result)


def _parse_return(
    function: _Function, types: Sequence[tuple[Token, Aval]]
) -> tuple[list[Value], list[int | None]]:
    cursor = function.cursor
    start = cursor.expect("return")
    outputs: list[Value] = []
    donations: list[int | None] = []
    while cursor.token.text != "}":
        if outputs:
            cursor.expect(",")
        token = cursor.token
        outputs.append(function.use())
        donations.append(_parse_donation(function, token, outputs[-1], donations))
    if len(outputs) != len(types):
        cursor.fail(f"{len(types)} results are declared, {len(outputs)} returned", start)
    for (token, declared), output in zip(types, outputs, strict=True):
        if declared != output.aval:
            cursor.fail(f"this result is declared {declared}, but {output.aval} is returned", token)
    return outputs, donations


def _parse_donation(
    function: _Function, name: Token, output: Value, donations: Sequence[int | None]
) -> int | None:
    cursor = function.cursor
    if not cursor.accept("->"):
        return None
    token = cursor.token
    given = function.use()
    if given not in function.inputs:
        cursor.fail(f"{token} is no input, so {name} cannot replace it", token)
    position = function.inputs.index(given)
    if position in donations:
        cursor.fail(f"{token} is replaced already", token)
    if (given.aval.dtype, given.aval.shape) != (output.aval.dtype, output.aval.shape):
        cursor.fail(
            f"{name} of type {output.aval} cannot replace {token} of type {given.aval}", token
        )
    return position
