"""Reads a node's attributes: the parameters that its results' types do not imply."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from ..ir import Graph
from ..primitive import Primitive
from .lexer import Cursor, suggestion
from .terms import Symbols, parse_literal


class Attributes(NamedTuple):
    """The attributes that a primitive's text may have.

    Attributes:
        allowed: their names.
        required: the ones of these that it must have.
        others: whether it may have others too, which its type rule judges.
    """

    allowed: tuple[str, ...]
    required: tuple[str, ...]
    others: bool


@cache
def attributes_of(primitive: Primitive) -> Attributes:
    """Read off the type rule, whose keyword parameters are the primitive's parameters."""
    parameters = inspect.signature(primitive.type_rule).parameters.values()
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    shown = [p for p in keywords if p.name not in primitive.from_type]
    required = tuple(p.name for p in shown if p.default is p.empty)
    others = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return Attributes(tuple(p.name for p in shown), required, others)


def parse_attributes(
    cursor: Cursor, symbols: Symbols, primitive: Primitive, region: Callable[[], Graph]
) -> dict[str, Any]:
    """`{dims = [0], step = [1]}`, or nothing where no brace stands.

    Args:
        cursor: at the brace, if there is one.
        symbols: the sizes that values may mention.
        primitive: whose attributes they are.
        region: reads a function where one stands.
    """
    params: dict[str, Any] = {}

    def read() -> None:
        name = _parse_name(cursor, primitive, params)
        cursor.expect("=")
        params[name] = parse_literal(cursor, symbols, region)

    if cursor.accept("{"):
        cursor.list_of(read, end="}")
    return params


def missing_attribute(primitive: Primitive, params: dict[str, Any]) -> str | None:
    """An attribute that the primitive must have and that is not among `params`."""
    missing = (name for name in attributes_of(primitive).required if name not in params)
    return next(missing, None)


def _parse_name(cursor: Cursor, primitive: Primitive, given: dict[str, Any]) -> str:
    token = cursor.expect_kind("name", "an attribute's name")
    allowed, _, others = attributes_of(primitive)
    if token.text in primitive.from_type:
        cursor.fail(f"the type before '=' implies {token.text!r} of {primitive}", token)
    if token.text not in allowed and not others:
        hint = suggestion(token.text, allowed)
        cursor.fail(f"{primitive} has no attribute {token.text!r}{hint}", token)
    if token.text in given:
        cursor.fail(f"the attribute {token.text!r} is given twice", token)
    return token.text
