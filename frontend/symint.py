"""A named size as traced code sees it (PyTorch's `SymInt`).

Arithmetic with integers stays symbolic, with floats it gives a scalar of the graph.  Whatever needs
the value (a comparison, an index, a hash, text) is answered for the call that is traced, and
guarded: see `size_guards`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..compiler import dtypes
from ..compiler.aval import Aval, Dim, SymDim
from ..compiler.errors import IRError
from ..compiler.primitive import Primitive
from ..compiler.primitives import create
from ..compiler.primitives import elementwise as E
from .context import current
from .size_guards import Sizes

Method = Callable[[Any, Any], Any]


def asked(dim: Dim) -> Any:
    """A size whose comparisons are decided and guarded, while tracing."""
    return SymInt(dim.terms) if isinstance(dim, SymDim) and current().trace is not None else dim


def plain(param: Any) -> Any:
    """A parameter of a primitive with its sizes as graphs have them: compared by their form."""
    if isinstance(param, tuple):
        return tuple([plain(p) for p in param])
    return SymDim(param.terms) if isinstance(param, SymInt) else param


def _sizes() -> Sizes:
    trace = current().trace
    if trace is None:
        raise RuntimeError("a size that belongs to a trace was used after the trace had ended")
    return trace.sizes


def _integer(x: Any) -> Any:
    """An integer or a size; None for anything else."""
    if isinstance(x, (int, SymDim)):
        return plain(x)
    return int(x) if isinstance(x, np.integer) else None


def _real(x: Any) -> Any:
    """A number or a size as a float64 scalar."""
    from .tape import apply

    if not isinstance(x, SymDim):
        return float(x)
    return apply(E.cast, apply(create.size, value=x), dtype=dtypes.f64)


def _of_reals(primitive: Primitive, a: Any, b: Any) -> Any:
    from .tape import apply

    if not isinstance(a, (int, float, SymDim)) or not isinstance(b, (int, float, SymDim)):
        return NotImplemented
    number = apply(primitive, _real(a), _real(b))
    number.traced_aval = Aval(dtypes.f64, (), weak=True)  # as Python's floats are
    return number


def _arithmetic(exact: Callable[[Any, Any], Any], primitive: Primitive) -> tuple[Method, Method]:
    """A method and its reflection: exact for integers and sizes, a primitive for floats."""

    def applied(a: Any, b: Any) -> Any:
        m, n = _integer(a), _integer(b)
        if m is None or n is None:
            return _of_reals(primitive, a, b)
        return asked(exact(m, n))

    return applied, lambda self, other: applied(other, self)


def _quotient(a: Dim, b: Dim) -> Dim:
    if asked(b) == 0:
        raise ZeroDivisionError("integer division or modulo by zero")
    try:
        return a // b
    except IRError:  # not known to divide
        return a // int(asked(b))


def _divided(a: Any, b: Any) -> Any:
    if _integer(b) is not None and b == 0:
        raise ZeroDivisionError("division by zero")
    return _of_reals(E.div, a, b)


class SymInt(SymDim):
    """A size whose value may be asked for."""

    __slots__ = ()

    __add__, __radd__ = _arithmetic(lambda a, b: a + b, E.add)
    __sub__, __rsub__ = _arithmetic(lambda a, b: a - b, E.sub)
    __mul__, __rmul__ = _arithmetic(lambda a, b: a * b, E.mul)
    __floordiv__, __rfloordiv__ = _arithmetic(_quotient, E.div)
    __mod__, __rmod__ = _arithmetic(lambda a, b: a - _quotient(a, b) * b, E.div)

    def __truediv__(self, other: Any) -> Any:
        return _divided(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _divided(other, self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __pow__(self, other: Any) -> Any:
        if isinstance(other, int) and other >= 0:
            return math.prod([self] * other)
        if isinstance(other, (int, float)) and other < 0 and self == 0:
            raise ZeroDivisionError("0.0 cannot be raised to a negative power")
        return _of_reals(E.pow_, self, other)

    def __neg__(self) -> Any:
        return self * -1

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    # --- questions --------------------------------------------------------------------------------

    def __eq__(self, other: object) -> Any:
        number = _integer(int(other) if isinstance(other, float) and other % 1 == 0 else other)
        if number is None:
            return False if isinstance(other, float) else NotImplemented
        return _sizes().holds(plain(self), "==", number)

    def __ne__(self, other: object) -> Any:
        return _opposite(self.__eq__(other))

    def __lt__(self, other: object) -> Any:
        return self._below(other, 0)

    def __le__(self, other: object) -> Any:
        return self._below(other, 1)

    def __gt__(self, other: object) -> Any:
        return _opposite(self._below(other, 1))

    def __ge__(self, other: object) -> Any:
        return _opposite(self._below(other, 0))

    def _below(self, other: Any, more: int) -> Any:
        """Whether it is less than `other + more`, where that is a number."""
        if isinstance(other, float):
            if not math.isfinite(other):
                return other > 0
            other = math.ceil(other) if not more else math.floor(other)
        bound = _integer(other)
        return NotImplemented if bound is None else _sizes().holds(plain(self), "<", bound + more)

    def __index__(self) -> int:
        return _sizes().value(plain(self))

    __int__ = __index__

    def __float__(self) -> float:
        return float(int(self))

    def __bool__(self) -> bool:
        return bool(self != 0)

    def __hash__(self) -> int:
        return hash(int(self))

    def __str__(self) -> str:
        return str(int(self))

    def __format__(self, spec: str) -> str:
        return format(int(self), spec)

    def __repr__(self) -> str:
        return SymDim.__str__(self)


def _opposite(answer: Any) -> Any:
    return answer if answer is NotImplemented else not answer
