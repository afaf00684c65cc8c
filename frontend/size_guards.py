"""What one trace knows of named sizes, and what it assumes of them.

With `dynamic=True` the first dimension of each tensor argument has a name.  What the traced code
asks of a name (whether it is above 4, whether it equals another one) is answered by the actual
sizes of the call that is being traced, and the answer is a guard: a call with another answer is
traced anew.  That a size equals another one, or a number, is more than an answer: types depend on
it.  So the trace starts again, with one name (or the number) for both.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..compiler.aval import (
    Aval,
    Dim,
    SymDim,
    dim_symbols,
    evaluate_dim,
    least_dim,
    substitute_dim,
    symbol,
)
from ..compiler.dtypes import i64
from ..compiler.errors import IRError
from ..compiler.ir import Check, Loc, solve_sizes
from ..compiler.primitives import create
from ..compiler.primitives import elementwise as E
from .errors import UntraceableError
from .frames import place, user_loc

RELATIONS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, ">=": operator.ge}
_OPPOSITE = {"==": "!=", "<": ">="}
_LARGE = 1 << 20
"""What a size is taken for where only types are known; there, none equals another."""


@dataclass(frozen=True)
class SizeGuard:
    """A relation between sizes that a trace relies on.

    Attributes:
        left, right: sizes.
        relation: one of `RELATIONS`.
        loc: the user's line that asked.
        why: what else led to it, for people.
    """

    left: Dim
    relation: str
    right: Dim
    loc: Loc | None = None
    why: str = ""

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether it is true of actual sizes."""
        left, right = evaluate_dim(self.left, sizes), evaluate_dim(self.right, sizes)
        return bool(RELATIONS[self.relation](left, right))

    def check(self) -> Check:
        """The guard as a check of the program."""
        difference = create.size(value=self.left - self.right)
        zero = create.full(value=0, dtype=i64, shape=())
        primitive = {"==": E.eq, "!=": E.ne, "<": E.lt, ">=": E.le}[self.relation]
        operands = (zero, difference) if primitive is E.le else (difference, zero)
        return Check(primitive(*operands), f"RuntimeError: traced for sizes with {self}", self.loc)

    def tidy(self) -> SizeGuard:
        """The same with a number on the right, where a single name is asked for."""
        difference = self.left - self.right
        assert isinstance(difference, SymDim)
        number = sum(factor for monomial, factor in difference.terms if not monomial)
        left, right, relation = difference - number, -number, self.relation
        if not isinstance(left, SymDim) or len(left.terms) > 1:
            return self
        if left.terms[0][1] < 0:
            left, right = left * -1, -right
            if relation in ("<", ">="):  # -n < r means n >= 1 - r
                relation, right = {"<": ">=", ">=": "<"}[relation], right + 1
        return replace(self, left=left, relation=relation, right=right)

    def __str__(self) -> str:
        where = f" ({self.loc.file}:{self.loc.line})" if self.loc else ""
        return f"{self.left} {self.relation} {self.right}{where}{self.why and f': {self.why}'}"


class SizesLearnt(BaseException):
    """A trace found that named sizes are equal; it starts again with `sizes`.

    No `Exception`, so that traced code does not catch it.
    """

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes


@dataclass
class Sizes:
    """The named sizes of one trace.

    Attributes:
        actual: each name's size at the call that is traced; empty where only types are known.
        known: names that stand for others, or for numbers.
        equal: why they do.
        guards: what this trace asked besides, and was answered.
    """

    actual: Mapping[str, int]
    known: Mapping[str, Dim]
    equal: tuple[SizeGuard, ...]
    guards: list[SizeGuard]

    @classmethod
    def of(cls, actual: Mapping[str, int]) -> Sizes:
        """Names of which nothing is known but their sizes at one call."""
        return cls(actual, {}, (), [])

    def named(self, name: str) -> Dim:
        """The size called `name`, or what it is known to be."""
        return self.known.get(name, symbol(name))

    @property
    def names(self) -> tuple[str, ...]:
        """The names that are still sizes of their own."""
        return tuple(name for name in self.actual if name not in self.known)

    # --- questions --------------------------------------------------------------------------------

    def holds(self, left: Dim, relation: str, right: Dim) -> bool:
        """Whether left == right, or left < right; the answer becomes a guard."""
        answer = _answer(left - right, relation)
        if answer is not None:
            return answer
        asked = dim_symbols(left) | dim_symbols(right)
        is_known = asked <= self.actual.keys()
        sizes = self.actual if is_known else dict.fromkeys(asked, _LARGE)
        guard = SizeGuard(left, relation, right, user_loc())
        answer = guard.holds(sizes) and (is_known or relation != "==")
        if answer and relation == "==":
            raise self._learnt(guard)
        if not answer:
            guard = replace(guard, relation=_OPPOSITE[relation])
        if guard.tidy() not in self.guards:
            self.guards.append(guard.tidy())
        return answer

    def value(self, dim: Dim) -> int:
        """The number that a size is; the trace is for this number alone from now on."""
        if not isinstance(dim, SymDim):
            return dim
        if not dim_symbols(dim) <= self.actual.keys():
            raise UntraceableError(
                f"the value of the size {dim} is not known while tracing types{place()}; give a "
                "number for it"
            )
        raise self._learnt(SizeGuard(dim, "==", evaluate_dim(dim, self.actual), user_loc()))

    def _learnt(self, guard: SizeGuard) -> SizesLearnt:
        return SizesLearnt(self.knowing(_solved(guard.left, guard.right, self.actual), guard))

    # --- starting again ---------------------------------------------------------------------------

    def knowing(self, found: Mapping[str, Dim], *reasons: SizeGuard) -> Sizes:
        """For a new trace that also knows what some names are."""
        known = {name: substitute_dim(dim, found) for name, dim in self.known.items()}
        return Sizes(self.actual, {**known, **found}, (*self.equal, *reasons), [])

    def weaker(self, error: Exception) -> Sizes | None:
        """After `error`: with one name for equal sizes; if there are none, with numbers alone."""
        names, why = self.names, f"{error}".partition("\n")[0]
        first: dict[int, str] = {}
        for name in names:
            first.setdefault(self.actual[name], name)
        same = {n: symbol(first[self.actual[n]]) for n in names if first[self.actual[n]] != n}
        found: Mapping[str, Dim] = same or {name: self.actual[name] for name in names}
        reasons = [SizeGuard(symbol(n), "==", dim, None, why) for n, dim in found.items()]
        return self.knowing(found, *reasons) if found else None

    # --- at a call --------------------------------------------------------------------------------

    def fitting(
        self, avals: Sequence[Aval], shapes: Sequence[tuple[int, ...]]
    ) -> dict[str, int] | None:
        """The sizes of a call's arguments, or None if the trace is not for such."""
        try:
            sizes = solve_sizes(avals, shapes)
        except IRError:
            return None
        return sizes if all(guard.holds(sizes) for guard in self.guards) else None


def _answer(difference: Dim, relation: str) -> bool | None:
    """What holds whatever the sizes are: of a difference that is to be zero, or below."""
    least, most = least_dim(difference), least_dim(difference * -1)
    if relation == "<":
        if most is not None and most > 0:
            return True
        return False if least is not None and least >= 0 else None
    if difference == 0:
        return True
    apart = (least is not None and least > 0) or (most is not None and most > 0)
    return False if apart else None


def _solved(left: Dim, right: Dim, actual: Mapping[str, int]) -> Mapping[str, Dim]:
    """What names are, if left == right: one in terms of the others, or else all are numbers."""
    difference = left - right
    assert isinstance(difference, SymDim)
    difference = difference // math.gcd(*[factor for _, factor in difference.terms])
    names = [name for name in actual if name in dim_symbols(difference)]
    for name in reversed(names):  # the first stays
        for own in (difference, difference * -1):
            rest = symbol(name) - own
            if name not in dim_symbols(rest):
                return {name: rest}
    return {name: actual[name] for name in names}
