"""The loop IR: what a kernel is, before any back end prints it.

A kernel runs its *stages* once for each point of its outer, parallel loops.  A stage is a loop nest
of its own (or, with no extents, straight code) over a scalar program; the value of a `Reduce` is
complete when its stage ends, and later stages read it.  So an elementwise kernel is one stage
without loops; a sum with its epilogue is a looped stage and a straight one; softmax is three
stages: maximum, sum of exponentials, quotient.

What is needed once comes in stages before or after all outer points: the mean of a loss over rows
sums in a last stage what each outer point has stored.

    kernel softmax(x: f32 in, y: f32 out)  outer (64)  lanes inner
      stage (10):  %0 = load x[i0*10 + i1]; %1 = max %0
      stage (10):  %2 = load x[i0*10 + i1]; %3 = sub %2, %1; %4 = exp %3; %5 = sum %4
      stage (10):  %6 = load x[i0*10 + i1]; %7 = sub %6, %1; %8 = exp %7; %9 = div %8, %5
                   store y[i0*10 + i1] = %9

Registers are numbered through the whole kernel.  Only the results of `Reduce` outlive their stage
(and, in a straight stage, everything: it belongs to the outer point).  Structurally equal kernels
are equal objects but for name and lines.

Which loop is spread over the lanes of a vector is part of the meaning, since it settles the order
of reductions: "outer" is the last outer loop (each lane owns a row; reductions are sequential),
"inner" is the last loop of each looped stage (`REDUCTION_LANES` partial results, combined in a
fixed tree at the end), "none" is scalar code in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

from ..aval import Dim
from ..dtypes import DType
from ..ir import Loc

Register: TypeAlias = int
Combine: TypeAlias = Literal["set", "add", "sum"]
Lanes: TypeAlias = Literal["outer", "inner", "none"]
When: TypeAlias = Literal["each", "first", "last"]


@dataclass(frozen=True)
class Index:
    """A position in a buffer, in elements.

    It is `offset + sum(coefficient * loop variable) + sum(stride * register)`.
    `coefficients` has an entry for each loop: the outer loops, then the stage's.  `dynamic` holds
    (register, stride) for positions that are data.
    """

    offset: Dim
    coefficients: tuple[Dim, ...]
    dynamic: tuple[tuple[Register, Dim], ...] = ()


@dataclass(frozen=True)
class Load:
    """`register = buffer[index]`.  A bool is stored as a byte and is one bit in a register."""

    register: Register
    buffer: int
    index: Index
    dtype: DType


@dataclass(frozen=True)
class Const:
    """`register = value`."""

    register: Register
    value: bool | int | float = field(compare=False)
    dtype: DType
    spelling: str = field(init=False, repr=False)  # compared: 0.0 is not -0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "spelling", repr(self.value))


@dataclass(frozen=True)
class Position:
    """`register = index`, the position itself as a number (`iota`)."""

    register: Register
    index: Index
    dtype: DType


@dataclass(frozen=True)
class Compute:
    """`register = primitive(operands)`, by the scalar code of its `Elementwise` lowering."""

    register: Register
    primitive: str
    operands: tuple[Register, ...]
    operand_dtype: DType  # of the first operand that is not `select`'s condition
    dtype: DType


@dataclass(frozen=True)
class Reduce:
    """`register` = all of the stage's values of `operand`, combined.

    `combine` is "add", "mul", "max", "min" or "argmax".  An argmax's result is the position along
    the stage's single loop, as i64.
    """

    register: Register
    combine: str
    operand: Register
    operand_dtype: DType
    dtype: DType


@dataclass(frozen=True)
class Store:
    """`buffer[index] = value`, or `+=` where `combine` is "add".

    With "sum", an element is what all outer points store there, added up in their order from 0: a
    sum over columns beside reductions over rows.
    """

    buffer: int
    index: Index
    value: Register
    dtype: DType
    combine: Combine = "set"


Instruction: TypeAlias = Load | Const | Position | Compute | Reduce | Store


@dataclass(frozen=True)
class Stage:
    """A loop nest inside each outer point; no extents: straight code, once.

    `when` is "first" or "last" for what runs once, before or after all outer points (also where
    there is none): its indices have zeros for the outer loops, and its registers are its own.
    """

    extents: tuple[Dim, ...]
    body: tuple[Instruction, ...]
    when: When = "each"


@dataclass(frozen=True)
class Origin:
    """What a register is an element of, for people: a value's name, and its lines."""

    name: str = ""
    locs: tuple[Loc, ...] = ()


@dataclass(frozen=True)
class KernelBuffer:
    """A parameter of a kernel: base pointer to elements of `dtype`."""

    name: str = field(compare=False)
    dtype: DType = field()
    written: bool = field()


@dataclass(frozen=True)
class Kernel:
    """A compiled loop nest.

    Attributes:
        name: from the program; unique in it.
        buffers: parameters, in order.
        extents: the outer, parallel loops.
        stages: run in order, those for "each" at each outer point.
        lanes: which loop is spread over vector lanes (see the module, and `lanes_of`).
        symbols: named sizes that extents and indices mention: further parameters.
        locs: the user's lines that its first run came from.
        origins: where each register of its first run comes from.
        bytes_moved: bytes read and written, each buffer counted once.
        flops: floating operations, each Compute and Reduce counted once an element.
    """

    name: str = field(compare=False)
    buffers: tuple[KernelBuffer, ...]
    extents: tuple[Dim, ...]
    stages: tuple[Stage, ...]
    lanes: Lanes
    symbols: tuple[str, ...] = ()
    locs: tuple[Loc, ...] = field(default=(), compare=False)
    origins: tuple[Origin, ...] = field(default=(), compare=False)
    bytes_moved: Dim = field(default=0, compare=False)
    flops: Dim = field(default=0, compare=False)

    def __hash__(self) -> int:
        return self._hash

    def stages_for(self, when: When) -> tuple[Stage, ...]:
        """The stages that run before, at, or after the outer points."""
        return tuple(stage for stage in self.stages if stage.when == when)

    def lanes_of(self, stage: Stage) -> Lanes:
        """Which loop of a stage is spread over lanes: outside the outer points its own last one."""
        return self.lanes if stage.when == "each" else "inner"

    @cached_property
    def loaded(self) -> frozenset[int]:
        """The parameters that it reads."""
        return frozenset(
            it.buffer
            for stage in self.stages
            for it in stage.body
            if isinstance(it, Load) or (isinstance(it, Store) and it.combine == "add")
        )

    @cached_property
    def _hash(self) -> int:
        """Kept: kernels are long, and keys of many tables."""
        return hash((self.buffers, self.extents, self.stages, self.lanes, self.symbols))
