"""Kernels as Python functions: plain loops over flat arrays.

Softmax of 64 rows of 10 comes out as

    @kernel
    def max_sub_exp_sum_div(x, y):
        \"\"\"x: f32 in, y: f32 out\"\"\"
        for i0 in range(64):
            largest = np.float32(-np.inf)
            for i1 in range(10):
                x_i = x[i0*10 + i1]
                largest = np.maximum(largest, x_i)  # mlp.py:12
            total = np.float32(0.0)
            for i1 in range(10):
                x_i = x[i0*10 + i1]
                sub1 = x_i - largest  # mlp.py:13
                weights = np.exp(sub1)  # mlp.py:13
                total = total + weights  # mlp.py:14
                y[i0*10 + i1] = weights
            for i1 in range(10):
                y_i = y[i0*10 + i1]
                div1 = y_i / total  # mlp.py:15
                y[i0*10 + i1] = div1

A variable has the name of the value that it is an element of, as the user or the stage `memory`
calls it; what belongs to no value is `v` and a number.  Each operation names the user's lines.

Every expression has the same type whether Numba compiles it or Python runs it: Numba computes
narrow integers in 64 bits, so those are cut back after each operation; constants are typed.
Reductions run in order, one element at a time.  Numba has no 16-bit floats: they are computed with
as 32-bit ones, `half(x)` rounds a number (or reads a stored one), and `bits(x)` is what is stored.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from .. import (
    dtypes,
    primitives,  # noqa: F401 (registers them)
)
from ..aval import Dim
from ..dtypes import DType
from ..errors import CompileError
from ..primitive import Elementwise, ElementwiseFunction, get
from ..schedule.loops import (
    Compute,
    Const,
    Index,
    Instruction,
    Kernel,
    Load,
    Origin,
    Position,
    Reduce,
    Register,
    Stage,
    Store,
    When,
)
from .python_text import (
    Names,
    comment_text,
    dim_text,
    number_text,
    product_text,
    sum_text,
    type_text,
)

INDENT = "    "
WIDTH = 100
_HELPERS = ("remainder", "float_remainder", "quotient")
_IN_PLACE_OF = {  # what Numba compiles to another result than NumPy's, or to a trap
    ("rem", "float"): "float_remainder({0}, {1})",
    ("floordiv", "int"): "quotient({0}, {1})",
    ("floordiv", "uint"): "quotient({0}, {1})",
}
_FROM_NUMBER_LINE = {"max": (float("-inf"), 0), "min": (float("inf"), 1)}


def kernel_source(kernel: Kernel, name: str, reserved: Sequence[str] = ()) -> str:
    """One kernel as a function called `name` of its buffers and the named sizes."""
    return _KernelPrinter(kernel, reserved).function(name)


def helpers_of(kernel: Kernel) -> set[str]:
    """The functions of the prelude that a kernel calls."""
    computes = (i for stage in kernel.stages for i in stage.body if isinstance(i, Compute))
    called = {_lowering(i).partition("(")[0] for i in computes}
    return called.intersection(_HELPERS)


def functions_of(kernel: Kernel) -> Iterator[str]:
    """The functions of users that a kernel calls."""
    for instruction in (i for stage in kernel.stages for i in stage.body):
        if isinstance(instruction, Compute):
            lowering = get(instruction.primitive).lowering
            if isinstance(lowering, ElementwiseFunction):
                yield lowering.symbol


class _KernelPrinter:
    def __init__(self, kernel: Kernel, reserved: Sequence[str]) -> None:
        names = self.names = Names(reserved)
        self.kernel = kernel
        self.sizes = {symbol: names.fresh(symbol) for symbol in kernel.symbols}
        self.buffers = [names.fresh(buffer.name) for buffer in kernel.buffers]
        self.values: dict[Register, str] = {}
        self.dtypes: dict[Register, DType] = {}
        self.best: dict[Register, str] = {}  # of an argmax: the largest so far
        self.inside: list[str] = []  # names of what does not outlive the loops being printed

    def function(self, name: str) -> str:
        parameters = ", ".join([*self.buffers, *self.sizes.values()])
        lines = [f"@kernel\ndef {name}({parameters}):", *self._docstring()]
        lines += self._stages("first", 1)
        lines += [INDENT * (d + 1) + self._loop(d, e) for d, e in enumerate(self.kernel.extents)]
        lines += self._stages("each", len(self.kernel.extents) + 1)
        lines += self._stages("last", 1)
        return "\n".join(lines) + "\n"

    def _stages(self, when: When, indent: int) -> Iterator[str]:
        for stage in self.kernel.stages_for(when):
            for line in self._stage(stage, len(self.kernel.extents)):
                yield INDENT * indent + line

    def _docstring(self) -> list[str]:
        body = [instruction for stage in self.kernel.stages for instruction in stage.body]
        read = {it.buffer for it in body if isinstance(it, Load)}
        ways = [
            f"{name}: {buffer.dtype.name} {_way(n in read, buffer.written)}"
            for n, (name, buffer) in enumerate(zip(self.buffers, self.kernel.buffers, strict=True))
        ]
        text = f'"""{", ".join(ways)}"""'
        return textwrap.wrap(text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)

    def _loop(self, depth: int, extent: Dim) -> str:
        return f"for i{depth} in range({dim_text(extent, self.sizes)}):"

    def _stage(self, stage: Stage, depth: int) -> Iterator[str]:
        self.inside = []
        for instruction in stage.body:
            if isinstance(instruction, Reduce):
                yield from self._start(instruction)
        for inner, extent in enumerate(stage.extents):
            yield INDENT * inner + self._loop(depth + inner, extent)
        last = f"i{depth + len(stage.extents) - 1}"
        for instruction in stage.body:
            for line in self._instruction(instruction, last):
                yield INDENT * len(stage.extents) + line
        for instruction in stage.body:
            if isinstance(instruction, Reduce) and instruction.dtype is dtypes.f16:
                name = self.values[instruction.register]
                yield f"{name} = half({name})"
        if stage.extents:
            self.names.release(self.inside)

    def _instruction(self, it: Instruction, last: str) -> Iterator[str]:
        match it:
            case Load():
                text = _read(self._element(it.buffer, it.index), it.dtype)
                yield self._define(it.register, it.dtype, text)
            case Const():  # stands where it is used
                self.values[it.register] = number_text(it.value, it.dtype)
                self.dtypes[it.register] = it.dtype
            case Position():
                text = f"{type_text(it.dtype)}({self._index(it.index)})"
                yield self._define(it.register, it.dtype, text)
            case Compute():
                text = self._compute(it)
                yield self._define(it.register, it.dtype, text) + self._lines(it.register)
            case Reduce():
                yield from self._combine(it, last)
            case Store():
                yield self._store(it)

    def _store(self, it: Store) -> str:
        element, value = self._element(it.buffer, it.index), self.values[it.value]
        if it.combine == "set":
            return f"{element} = {_stored(value, it.dtype)}"
        if it.combine == "add" and it.dtype is not dtypes.f16:
            return f"{element} += {value}"
        before = _read(element, it.dtype)
        if it.combine == "sum":
            loops = " + ".join(f"i{depth}" for depth in range(len(self.kernel.extents))) or "0"
            before = f"({before} if {loops} > 0 else {number_text(0, it.dtype)})"
        return f"{element} = {_stored(_narrowed(f'{before} + {value}', it.dtype), it.dtype)}"

    def _define(self, register: Register, dtype: DType, text: str) -> str:
        name = self._name(register)
        self.inside.append(name)
        self.values[register], self.dtypes[register] = name, dtype
        return f"{name} = {text}"

    def _name(self, register: Register) -> str:
        wanted = self._origin(register).name
        return self.names.element(wanted) if wanted else f"v{register}"

    def _origin(self, register: Register) -> Origin:
        origins = self.kernel.origins
        return origins[register] if register < len(origins) else Origin()

    def _lines(self, register: Register) -> str:
        return comment_text(self._origin(register).locs)

    def _element(self, buffer: int, index: Index) -> str:
        return f"{self.buffers[buffer]}[{self._index(index)}]"

    def _index(self, index: Index) -> str:
        loops = [product_text(c, f"i{d}", self.sizes) for d, c in enumerate(index.coefficients)]
        data = [product_text(s, self._position(r), self.sizes) for r, s in index.dynamic]
        offset = "" if index.offset == 0 else dim_text(index.offset, self.sizes)
        return sum_text([*loops, *data, offset])

    def _position(self, register: Register) -> str:
        """A register as a position in 64 bits: u8 times a stride would wrap in NumPy."""
        text = self.values[register]
        return text if self.dtypes[register].name == "i64" else f"np.int64({text})"

    def _compute(self, it: Compute) -> str:
        template = _lowering(it)
        operands = [self.values[r] for r in it.operands]
        text = template.format(*operands, t=type_text(it.dtype))
        return text if template.startswith("{t}(") else _narrowed(text, it.dtype)

    def _start(self, it: Reduce) -> Iterator[str]:
        name = self._name(it.register)
        self.values[it.register], self.dtypes[it.register] = name, it.dtype
        if it.combine == "argmax":
            self.best[it.register] = self.names.fresh(f"{name}_best")
            yield f"{self.best[it.register]} = {_identity('max', it.operand_dtype)}"
            yield f"{name} = {number_text(0, it.dtype)}"
        else:
            yield f"{name} = {_identity(it.combine, _accumulated(it))}"

    def _combine(self, it: Reduce, last: str) -> Iterator[str]:
        so_far, value = self.values[it.register], self.values[it.operand]
        if it.combine == "argmax":
            yield from self._keep_position(it, last)
            return
        dtype = _accumulated(it)
        if it.operand_dtype is not dtype:
            value = f"{type_text(dtype)}({value})"
        text = {
            "add": f"{so_far} + {value}",
            "mul": f"{so_far} * {value}",
            "max": f"np.maximum({so_far}, {value})",
            "min": f"np.minimum({so_far}, {value})",
        }[it.combine]
        yield f"{so_far} = {_narrowed(text, dtype)}{self._lines(it.register)}"

    def _keep_position(self, it: Reduce, last: str) -> Iterator[str]:
        """The first of the largest; the first nan, where there is one."""
        best, value = self.best[it.register], self.values[it.operand]
        larger = f"{value} > {best}"
        if it.operand_dtype.is_floating_point:
            larger += f" or ({value} != {value} and {best} == {best})"
        yield f"if {larger}:{self._lines(it.register)}"
        yield f"{INDENT}{best} = {value}"
        yield f"{INDENT}{self.values[it.register]} = {type_text(it.dtype)}({last})"


def _way(read: bool, written: bool) -> str:
    return " ".join(["in"] * read + ["out"] * written)


def _lowering(it: Compute) -> str:
    own = _IN_PLACE_OF.get((it.primitive, it.operand_dtype.kind))
    if own is not None:
        return own
    lowering = get(it.primitive).require_lowering()
    if not isinstance(lowering, Elementwise):
        raise CompileError(f"{it.primitive} is not elementwise, so it cannot stand inside a kernel")
    return lowering.python


def _accumulated(it: Reduce) -> DType:
    """What partial results are kept in: f16 is added up in f32."""
    return dtypes.f32 if it.dtype is dtypes.f16 else it.dtype


def _read(element: str, dtype: DType) -> str:
    return f"half({element})" if dtype is dtypes.f16 else element


def _stored(value: str, dtype: DType) -> str:
    return f"bits({value})" if dtype is dtypes.f16 else value


def _narrowed(text: str, dtype: DType) -> str:
    narrow = dtype is dtypes.f16 or (dtype.kind in ("int", "uint") and dtype.bits < 64)
    return f"{type_text(dtype)}({text})" if narrow else text


def _identity(combine: str, dtype: DType) -> str:
    """What a reduction starts from."""
    if combine in ("add", "mul"):
        return number_text(int(combine == "mul"), dtype)
    infinity, end = _FROM_NUMBER_LINE[combine]
    if dtype.is_floating_point:
        return number_text(infinity, dtype)
    if dtype.kind == "bool":
        return number_text(end, dtype)
    low = -(1 << (dtype.bits - 1)) if dtype.kind == "int" else 0
    return number_text((low, low + (1 << dtype.bits) - 1)[end], dtype)
