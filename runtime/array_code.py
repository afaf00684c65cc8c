"""Functions of arrays that users wrote, by way of Numba: for programs to call, and for eager mode.

A program calls one as

    void symbol(ptr operand, ..., ptr result, ..., ptr success, i64 size, ...)

with the sizes of all operands and results.  The function returns fresh arrays, as Python functions
do, which are copied to the program's buffers if they have the sizes that were promised.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from ..compiler.aval import Aval
from ..compiler.dtypes import DType
from ..compiler.errors import CompileError
from .frozen import FrozenFunction
from .scalar_code import NumbaError, reason, types
from .user_functions import ArrayCode

numba: Any = import_module("numba")

_OPTIONS = ("boundscheck", "error_model", "fastmath", "inline", "parallel")


def array_code(
    function: FrozenFunction, operands: Sequence[Aval], results: Sequence[Aval], several: bool
) -> ArrayCode:
    """Compiles a function for operands and results of given dtypes and numbers of dimensions.

    Args:
        function: of arrays.
        operands: their types; sizes do not count.
        results: likewise.
        several: whether it returns a tuple.

    Raises:
        CompileError: Numba cannot compile it, or it returns something else.
    """
    jitted = _jitted(function, {})
    text = _entry_text(operands, results, several)
    names = {"carray": numba.carray, "function": jitted, "types": types}
    exec(text, names)  # noqa: S102  # of numbers and names of dtypes alone
    counts = len(operands) + len(results) + 1, sum(a.ndim for a in (*operands, *results))
    signature = types.void(*(types.voidptr,) * counts[0], *(types.int64,) * counts[1])
    try:
        compiled = numba.cfunc(signature)(names["entry"])
    except NumbaError as error:
        raise CompileError(
            f"Numba cannot compile {function.name} ({function.origin}) for "
            f"({', '.join(map(str, operands))}) -> ({', '.join(map(str, results))}): "
            f"{reason(error)}"
        ) from None
    identity = f"{function.digest} {numba.__version__} {text}"
    stem = re.sub(r"\W", "", function.name, flags=re.ASCII).strip("_") or "function"
    ranks = (*(a.ndim for a in (*operands, *results)), 0)
    symbol = f"{stem}_{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    return ArrayCode(symbol, compiled.address, counts, ranks, jitted, compiled)


def _jitted(function: FrozenFunction, known: dict[int, Any]) -> Any:
    """The function, and those that it calls, for Numba to compile."""

    def of(value: Any) -> Any:
        return _jitted(value, known) if isinstance(value, FrozenFunction) else value

    if id(function) not in known:
        known[id(function)] = None
        options = {k: v for k, v in function.options.items() if k in _OPTIONS and v is not None}
        known[id(function)] = numba.njit(**options)(function.made(of))
    if known[id(function)] is None:
        raise CompileError(f"{function.name} calls itself by a name that is not its own")
    return known[id(function)]


class _Array(NamedTuple):
    """A parameter of the entry, and the names of its sizes."""

    name: str
    aval: Aval

    @property
    def sizes(self) -> list[str]:
        """Names of its sizes."""
        return [f"{self.name}_{axis}" for axis in range(self.aval.ndim)]

    @property
    def shape(self) -> str:
        """Its shape, as a tuple."""
        return f"({''.join(f'{size}, ' for size in self.sizes)})"

    def view(self, shape: str) -> str:
        """Its memory as an array."""
        dtype = self.aval.dtype
        return f"carray({self.name}, {shape}, types.{_type_name(dtype)})"

    def given(self) -> str:
        """The array as an operand."""
        return self.view(self.shape) if self.aval.ndim else f"{self.view('(1,)')}.reshape(())"

    def fit(self, result: str) -> list[str]:
        """The condition that a result fits; a number always does."""
        return [f"{result}.shape == {self.shape}"] if self.aval.ndim else []

    def filled(self, result: str) -> list[str]:
        """Copies a result, element by element: Numba compiles an assignment of arrays for long."""
        if not self.aval.ndim:
            return [f"{self.view('(1,)')}[0] = {result}"]
        count = " * ".join(self.sizes)
        lines = [f"{self.name}_flat = {self.view(f'({count},)')}"]
        lines += [f"for i, v in enumerate({result}.flat):", f"    {self.name}_flat[i] = v"]
        return lines


def _entry_text(operands: Sequence[Aval], results: Sequence[Aval], several: bool) -> str:
    """The function that programs call, as Python."""
    xs = [_Array(f"x{i}", aval) for i, aval in enumerate(operands)]
    ys = [_Array(f"y{i}", aval) for i, aval in enumerate(results)]
    found = {y: f"r{i}" for i, y in enumerate(ys)}
    returned = f"({', '.join(found.values())},)" if several else found[ys[0]]
    fit = [condition for y, r in found.items() for condition in y.fit(r)]
    sizes = [size for array in (*xs, *ys) for size in array.sizes]
    parameters = ", ".join([*(x.name for x in xs), *(y.name for y in ys), "success", *sizes])
    lines = [
        f"def entry({parameters}):",
        "    ok = carray(success, (1,), types.uint8)",
        "    ok[0] = 0",
        "    try:",
        f"        {returned} = function({', '.join(x.given() for x in xs)})",
        f"        if {' and '.join(fit) or True}:",
        *(f"            {line}" for y, r in found.items() for line in y.filled(r)),
        "            ok[0] = 1",
        "    except Exception:",
        "        ok[0] = 0",
    ]
    return "\n".join(lines)


def _type_name(dtype: DType) -> str:
    return "boolean" if dtype.kind == "bool" else dtype.long_name
