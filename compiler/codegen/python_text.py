"""Names and small expressions of generated Python: what kernels and programs print alike."""

from __future__ import annotations

import builtins
import keyword
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from .. import dtypes
from ..aval import Aval, Dim, FloorDiv, SymDim
from ..dtypes import DType
from ..ir import Loc

_MODULE = (
    *("array", "bits", "entry", "half", "kernel", "math", "matrix", "np", "program"),
    "python_function",
    *("batch", "table", "words"),
)
RESERVED = frozenset((*_MODULE, *dir(builtins)))
"""Names that mean something in every generated module; Numba refuses a redefined builtin."""

_GENERATED = re.compile(r"[iv]\d+(_best)?")  # loop variables, registers


class Names:
    """Gives each thing a name of its own, as like the user's name for it as Python allows."""

    def __init__(self, taken: Sequence[str] = ()) -> None:
        self._taken = {*RESERVED, *taken}

    def fresh(self, wanted: str) -> str:
        """`wanted` made an identifier, numbered if it is taken."""
        stem = _identifier(wanted)
        name, count = stem, 1
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name

    def element(self, wanted: str) -> str:
        """A name for one element of `wanted`: `x_i` where `x` is taken, by the buffer it is in."""
        stem = _identifier(wanted)
        return self.fresh(f"{stem}_i" if stem in self._taken else stem)

    def release(self, names: Iterable[str]) -> None:
        """Gives back names that nothing needs any more."""
        self._taken.difference_update(names)


def _identifier(wanted: str) -> str:
    stem = re.sub(r"\W", "_", wanted, flags=re.ASCII) or "_"
    if stem[0].isdigit() or keyword.iskeyword(stem) or _GENERATED.fullmatch(stem):
        return f"_{stem}"
    return stem


def dim_text(dim: Dim, names: Mapping[str, str]) -> str:
    """A size as an expression; `names` are the variables that hold the named sizes."""
    if not isinstance(dim, SymDim):
        return str(dim)
    text = "".join(_term_text(monomial, factor, names) for monomial, factor in dim.terms)
    return text[3:] if text.startswith(" + ") else f"-{text[3:]}"


def _term_text(monomial: Sequence[str | FloorDiv], factor: int, names: Mapping[str, str]) -> str:
    factors = [_atom_text(atom, names) for atom in monomial]
    if abs(factor) != 1 or not factors:
        factors.append(str(abs(factor)))
    return f" {'-' if factor < 0 else '+'} {'*'.join(factors)}"


def _atom_text(atom: str | FloorDiv, names: Mapping[str, str]) -> str:
    if isinstance(atom, str):
        return names[atom]
    return f"(({dim_text(atom.numerator, names)}) // {atom.denominator})"


def product_text(dim: Dim, variable: str, names: Mapping[str, str]) -> str:
    """`dim * variable` without needless factors and parentheses; "" where it is zero."""
    if dim == 0:
        return ""
    if dim == 1:
        return variable
    text = dim_text(dim, names)
    return f"{variable}*({text})" if " " in text or text[0] == "-" else f"{variable}*{text}"


def sum_text(terms: Sequence[str]) -> str:
    """The terms that are not empty, added."""
    return " + ".join(t for t in terms if t) or "0"


def type_text(dtype: DType) -> str:
    """What makes a scalar of a type: `np.float32`, `np.bool_`; `half`, since Numba has none."""
    if dtype is dtypes.f16:
        return "half"
    return element_text(dtype)


def element_text(dtype: DType) -> str:
    """The type of a buffer's elements."""
    return "np.bool_" if dtype.kind == "bool" else f"np.{dtype.long_name}"


def number_text(value: float, dtype: DType) -> str:
    """A typed constant."""
    if dtype.kind == "float":
        value = float(value)
        text = repr(value) if math.isfinite(value) else f"{'-' * (value < 0)}np.{_unfinite(value)}"
    else:
        text = repr(bool(value) if dtype.kind == "bool" else int(value))
    return f"{type_text(dtype)}({text})"


def _unfinite(value: float) -> str:
    return "nan" if math.isnan(value) else "inf"


def comment_text(locs: Iterable[Loc]) -> str:
    """The user's lines as a comment, `  # mlp.py:12, 14, grad mlp.py:12`; "" if there are none."""
    places = sorted({(loc.grad, " ".join(loc.file.split()), loc.line) for loc in locs})
    parts = [
        f"{'grad ' * grad}{file}:{', '.join(str(line) for *_, line in lines)}"
        for (grad, file), lines in groupby(places, lambda place: place[:2])
    ]
    return f"  # {', '.join(parts)}" if parts else ""


def signature_text(name: str, inputs: Sequence[Aval], outputs: Sequence[Aval]) -> str:
    """`step(f32[B,8], f32[8]) -> (f32[B])`."""
    return f"{name}({', '.join(map(str, inputs))}) -> ({', '.join(map(str, outputs))})"
