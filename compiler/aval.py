"""Abstract values: dtype and shape of a value not yet known, and the sizes shapes are made of.

A dimension (`Dim`) is an int or a `SymDim`: an integer polynomial over named sizes, kept in one
normal form, so that equal sizes are equal objects: `B*64`, `B+1`, `2*B*S`, `(B+1)//2`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from .dtypes import DType, from_name
from .errors import IRError


class FloorDiv(NamedTuple):
    """The atom `numerator // denominator` inside a polynomial, where it does not divide exactly."""

    numerator: SymDim
    denominator: int

    def __str__(self) -> str:
        text = str(self.numerator)
        return f"{text if text.isidentifier() else f'({text})'}//{self.denominator}"


Atom: TypeAlias = "str | FloorDiv"
Monomial: TypeAlias = "tuple[Atom, ...]"


@dataclass(frozen=True, slots=True)
class SymDim:
    """A size known only when the program runs: a polynomial, its terms in a fixed order."""

    terms: tuple[tuple[Monomial, int], ...]
    """Pairs of a monomial and its coefficient."""

    def __add__(self, other: Dim) -> Dim:
        return _normal([*self.terms, *_terms(other)])

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + other * -1

    def __rsub__(self, other: Dim) -> Dim:
        return self * -1 + other

    def __mul__(self, other: Dim) -> Dim:
        products = [(m + n, a * b) for m, a in self.terms for n, b in _terms(other)]
        return _normal([(tuple(sorted(m, key=str)), c) for m, c in products])

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        if isinstance(other, SymDim):
            return _divide(self, other)
        if other == 1:
            return self
        whole = [(m, c // other) for m, c in self.terms if c % other == 0]
        rest = _normal([(m, c) for m, c in self.terms if c % other])
        if isinstance(rest, int):
            return _normal([*whole, ((), rest // other)])
        return _normal([*whole, ((FloorDiv(rest, other),), 1)])

    def __rfloordiv__(self, other: int) -> Dim:
        return _divide(SymDim(_terms(other)), self)

    def __mod__(self, other: int) -> Dim:
        return self - (self // other) * other

    def __index__(self) -> int:
        raise TypeError(f"the size {self} is symbolic: its value is not known while tracing")

    def __bool__(self) -> bool:
        return True

    def __lt__(self, other: object) -> bool:
        raise TypeError(
            f"comparing the size {self} with {other} needs its value, which is not known while "
            f"tracing"
        )

    __le__ = __gt__ = __ge__ = __lt__

    def __str__(self) -> str:
        return "+".join(_term_text(m, c) for m, c in self.terms).replace("+-", "-")

    __repr__ = __str__


Dim: TypeAlias = "int | SymDim"
Shape: TypeAlias = "tuple[Dim, ...]"


def symbol(name: str) -> SymDim:
    """The size called `name`."""
    return SymDim((((name,), 1),))


def _terms(dim: Dim) -> tuple[tuple[Monomial, int], ...]:
    return dim.terms if isinstance(dim, SymDim) else (((), dim),)


def _term_text(monomial: Monomial, coefficient: int) -> str:
    if not monomial:
        return str(coefficient)
    if coefficient < 0:
        return "-" + _term_text(monomial, -coefficient)
    if coefficient == 1 and len(monomial) == 1:
        return str(monomial[0])
    factors = [f"({a})" if isinstance(a, FloorDiv) else a for a in monomial]
    return "*".join(factors if coefficient == 1 else [*factors, str(coefficient)])


def _normal(terms: Iterable[tuple[Monomial, int]]) -> Dim:
    totals: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        totals[monomial] = totals.get(monomial, 0) + coefficient
    kept = {m: c for m, c in totals.items() if c}
    if not kept:
        return 0
    if list(kept) == [()]:
        return kept[()]
    order = sorted(kept.items(), key=lambda t: (-len(t[0]), [str(a) for a in t[0]]))
    return SymDim(tuple(order))


def _divide(numerator: SymDim, denominator: SymDim) -> Dim:
    """Exact division (`(B*B+B) // (B+1) -> B`), leading terms first; anything else is refused."""
    by, factor = denominator.terms[0]
    quotient: list[tuple[Monomial, int]] = []
    rest: Dim = numerator
    while rest != 0:
        monomial, coefficient = _terms(rest)[0]
        left = list(monomial)
        if coefficient % factor or any(left.count(a) < by.count(a) for a in by):
            raise IRError(f"cannot show that {numerator} is divisible by {denominator}")
        for atom in by:
            left.remove(atom)
        quotient.append((tuple(left), coefficient // factor))
        rest = rest - denominator * _normal(quotient[-1:])
    return _normal(quotient)


def dim_symbols(dim: Dim) -> frozenset[str]:
    """The names that a dimension mentions."""
    if not isinstance(dim, SymDim):
        return frozenset()
    atoms = [a for monomial, _ in dim.terms for a in monomial]
    found = (dim_symbols(a.numerator) if isinstance(a, FloorDiv) else {a} for a in atoms)
    return frozenset().union(*found)


def evaluate_dim(dim: Dim, sizes: Mapping[str, int]) -> int:
    """The number that a dimension stands for, given the sizes of its symbols."""
    if not isinstance(dim, SymDim):
        return dim
    total = 0
    for monomial, coefficient in dim.terms:
        product = coefficient
        for atom in monomial:
            product *= (
                evaluate_dim(atom.numerator, sizes) // atom.denominator
                if isinstance(atom, FloorDiv)
                else sizes[atom]
            )
        total += product
    return total


def substitute_dim(dim: Dim, known: Mapping[str, Dim]) -> Dim:
    """A dimension with sizes, or numbers, put in for some of its names."""
    if not isinstance(dim, SymDim):
        return dim
    total: Dim = 0
    for monomial, coefficient in dim.terms:
        product: Dim = coefficient
        for atom in monomial:
            if isinstance(atom, FloorDiv):
                product = product * (substitute_dim(atom.numerator, known) // atom.denominator)
            else:
                product = product * known.get(atom, symbol(atom))
        total = total + product
    return total


def least_dim(dim: Dim) -> int | None:
    """A number that a dimension is never below, as no size is below 0; None if none is known."""
    if not isinstance(dim, SymDim):
        return dim
    for monomial, coefficient in dim.terms:
        if monomial and (coefficient < 0 or not all(map(_never_negative, monomial))):
            return None
    return sum(coefficient for monomial, coefficient in dim.terms if not monomial)


def _never_negative(atom: Atom) -> bool:
    if isinstance(atom, str):
        return True
    least = least_dim(atom.numerator)
    return atom.denominator > 0 and least is not None and least >= 0


def size_of(shape: Iterable[Dim]) -> Dim:
    """The number of elements of a shape."""
    size: Dim = 1
    for dim in shape:
        size = size * dim
    return size


_size_of = lru_cache(maxsize=4096)(size_of)
"""The same, of the few shapes that a program has."""

_TOKEN = re.compile(r"\s*(\d+|[A-Za-z_]\w*|//|[-+*()])")


def parse_dim(text: str) -> Dim:
    """Reads what `str` of a dimension prints; ValueError if it is not a size."""
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != re.sub(r"\s", "", text) or not tokens:
        raise ValueError(f"not a size: {text!r}")
    try:
        value, rest = _parse_sum(tokens)
    except (IndexError, ZeroDivisionError, IRError) as error:
        raise ValueError(f"not a size: {text!r}: {error}") from None
    if rest:
        raise ValueError(f"not a size: {text!r}")
    return value


def _parse_sum(tokens: list[str]) -> tuple[Dim, list[str]]:
    if tokens[0] == "-":
        value, rest = _parse_product(tokens[1:])
        value = value * -1
    else:
        value, rest = _parse_product(tokens)
    while rest and rest[0] in "+-":
        sign = 1 if rest[0] == "+" else -1
        term, rest = _parse_product(rest[1:])
        value = value + term * sign
    return value, rest


def _parse_product(tokens: list[str]) -> tuple[Dim, list[str]]:
    value, rest = _parse_atom(tokens)
    while rest and rest[0] in ("*", "//"):
        factor, after = _parse_atom(rest[1:])
        value = value * factor if rest[0] == "*" else value // factor
        rest = after
    return value, rest


def _parse_atom(tokens: list[str]) -> tuple[Dim, list[str]]:
    if not tokens:
        raise ValueError("a size is missing")
    head, rest = tokens[0], tokens[1:]
    if head == "(":
        value, rest = _parse_sum(rest)
        if not rest or rest[0] != ")":
            raise ValueError("missing )")
        return value, rest[1:]
    if head.isdigit():
        return int(head), rest
    if not head.isidentifier():
        raise ValueError(f"unexpected {head!r} in a size")
    return symbol(head), rest


@dataclass(frozen=True, slots=True)
class Aval:
    """The type of a value: element type, sizes, and whether it is a Python scalar's (`weak`).

    A weak value takes part in promotion as a Python number does: it does not widen a tensor of its
    kind.
    """

    dtype: DType
    shape: Shape = ()
    weak: bool = False

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> Dim:
        """Number of elements."""
        return _size_of(self.shape)

    @property
    def nbytes(self) -> Dim:
        """Bytes that a contiguous buffer of this type takes."""
        return self.size * self.dtype.itemsize

    @property
    def symbols(self) -> frozenset[str]:
        """The names that its sizes mention."""
        return frozenset().union(*map(dim_symbols, self.shape))

    def with_shape(self, shape: Shape) -> Aval:
        """The same type with other sizes."""
        return Aval(self.dtype, shape, self.weak)

    def __str__(self) -> str:
        return f"{'~' if self.weak else ''}{self.dtype.name}[{','.join(map(str, self.shape))}]"


_TYPE = re.compile(r"(~?)(\w+)\[([^\[\]]*)\]")


def parse_aval(text: str) -> Aval:
    """Reads what `str` of an aval prints: `f32[B,8]`, `~f32[]`.

    Raises:
        IRError: the text is no type.
    """
    found = _TYPE.fullmatch(text.replace(" ", ""))
    try:
        if found is None:
            raise ValueError
        weak, name, dims = found.groups()
        shape = tuple(map(parse_dim, dims.split(","))) if dims else ()
        return Aval(from_name(name), shape, bool(weak))
    except (KeyError, ValueError):
        raise IRError(f"not a type: {text!r}; one is f32[B,8], and f32[] a scalar") from None
