"""Python's numbers that change between calls: read at each call, and computed with in Python.

The first trace takes a number that it reads for constant.  If a later call finds another one there,
the function is traced again with a stand-in for it.  Arithmetic gives further stand-ins, which know
the expression that a call evaluates; an answer to a question (a comparison, a truth) is guarded;
what needs the value itself makes the program one for that value alone.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..context import current
from ..guards import Place, alike


@dataclass(frozen=True, eq=False)
class Expression:
    """What a call evaluates: a place, or a function of expressions and constants."""

    source: Place | Callable[..., Any]
    operands: tuple[Any, ...] = ()

    def text(self, names: dict[str, Any]) -> str:
        """The expression in Python; `names` learns what its names mean."""
        if isinstance(self.source, Place):
            owner, key = _name(names, self.source.owner), _name(names, self.source.key)
            return self.source.text.format(p=owner, k=key)
        parts = [
            o.text(names) if isinstance(o, Expression) else _name(names, o) for o in self.operands
        ]
        return f"{_name(names, self.source)}({', '.join(parts)})"

    def value(self) -> Any:
        """Its value now."""
        if isinstance(self.source, Place):
            return self.source.read()
        return self.source(*[o.value() if isinstance(o, Expression) else o for o in self.operands])


def _name(names: dict[str, Any], value: Any) -> str:
    name = f"o{id(value)}"
    names[name] = value  # also keeps it alive, so that no other object gets its identity
    return name


@dataclass(frozen=True, eq=False)
class Answer:
    """What a question about numbers was answered while tracing; a guard of the program."""

    expression: Expression
    seen: Any
    origin: str
    line: Any = None

    def holds(self) -> bool:
        """Whether the answer is the same now."""
        return alike(self.expression.value(), self.seen)

    def condition(self, n: int) -> str:
        """The same as an expression over the names that `names` binds."""
        return f"alike({self.expression.text({})}, s{n})"

    def names(self, n: int) -> dict[str, Any]:
        """What the condition's names mean."""
        names: dict[str, Any] = {f"s{n}": self.seen}
        self.expression.text(names)
        return names


class HostNumber:
    """A stand-in for a number that is read, or computed, in Python at each call.

    Attributes:
        number: its value at the call that is traced.
        expression: what a call evaluates.
    """

    __slots__ = ("expression", "number")

    def __init__(self, number: float, expression: Expression) -> None:
        self.number, self.expression = number, expression

    def settled(self) -> Any:
        """The value itself: from here on the program is for no other."""
        return _answered(self.expression, self.number)

    def __bool__(self) -> bool:
        return bool(_answered(Expression(bool, (self.expression,)), bool(self.number)))

    def __int__(self) -> int:
        return int(self.settled())

    def __float__(self) -> float:
        return float(self.settled())

    def __index__(self) -> int:
        return operator.index(self.settled())

    def __hash__(self) -> int:
        return hash(self.settled())

    def __str__(self) -> str:
        return str(self.settled())

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return format(self.settled(), spec)


def computed(function: Callable[..., Any], *operands: Any) -> Any:
    """`function` of operands of which some are stand-ins: another stand-in, if it is a number."""
    values = [o.number if isinstance(o, HostNumber) else o for o in operands]
    result = function(*values)
    expression = Expression(function, tuple([_expression(o) for o in operands]))
    if type(result) in (int, float):
        return HostNumber(result, expression)
    return _answered(expression, result)


def _expression(operand: Any) -> Any:
    return operand.expression if isinstance(operand, HostNumber) else operand


def note(expression: Expression, seen: Any) -> None:
    """Makes a guard of what an expression is while tracing."""
    trace = current().trace
    if trace is None:
        raise RuntimeError("a number that belongs to a trace was used after the trace had ended")
    trace.answer(expression, seen)


def _answered(expression: Expression, seen: Any) -> Any:
    note(expression, seen)
    return seen


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, HostNumber))


def _binary(function: Callable[..., Any]) -> tuple[Any, Any]:
    def method(self: HostNumber, other: Any) -> Any:
        return computed(function, self, other) if _is_number(other) else NotImplemented

    def reflected(self: HostNumber, other: Any) -> Any:
        return computed(function, other, self) if _is_number(other) else NotImplemented

    return method, reflected


def _unary(function: Callable[..., Any]) -> Any:
    return lambda self, *rest: computed(function, self, *rest)


for _symbol in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    _method, _reflected = _binary(getattr(operator, _symbol))
    setattr(HostNumber, f"__{_symbol}__", _method)
    setattr(HostNumber, f"__r{_symbol}__", _reflected)
for _symbol in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(HostNumber, f"__{_symbol}__", _binary(getattr(operator, _symbol))[0])
for _symbol in ("neg", "pos", "abs"):
    setattr(HostNumber, f"__{_symbol}__", _unary(getattr(operator, _symbol)))
for _function in (round, math.floor, math.ceil, math.trunc):
    setattr(HostNumber, f"__{_function.__name__}__", _unary(_function))

COMPUTING = frozenset(f for f in vars(math).values() if callable(f)) | {
    abs,
    divmod,
    float,
    int,
    max,
    min,
    pow,
    round,
    isinstance,
    bool,
}
"""Functions of numbers that a call may evaluate again."""
