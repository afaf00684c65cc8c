"""A scheduled program: buffers, and the steps that fill them; the stage `memory` prints it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ..aval import Aval, Dim, substitute_dim, symbol
from ..dtypes import DType
from ..ir import Loc
from .loops import Kernel


@dataclass(frozen=True)
class Buffer:
    """Memory for one value (or for several whose lives do not overlap).

    Attributes:
        name: for people: the value's name.
        aval: type of the (first) value it holds; elements are contiguous, row-major.
        kind: "input" (an argument; written only if donated), "output" (fresh memory of the
            caller's) or "temp".
        position: which input, which output, or which slot of the arena.
    """

    name: str
    aval: Aval
    kind: Literal["input", "output", "temp"]
    position: int


@dataclass(frozen=True)
class MatrixView:
    """A batch of matrices inside a buffer, in elements.

    They are row-major, or column-major where `transposed`.

    The element (i, j) of a matrix is at `offset + i*leading + j`, with i and j swapped where it is
    transposed; `batch` has the distance of neighbouring matrices for each dimension of the batch.
    """

    buffer: int
    offset: Dim
    leading: Dim
    batch: tuple[Dim, ...]
    transposed: bool = False


@dataclass(frozen=True)
class RunKernel:
    """Runs a kernel on buffers (indices into `Program.buffers`), one for each of its parameters.

    `sizes` are what the kernel's symbols stand for, if they are not the program's own; `locs` are
    the user's lines that this run came from.
    """

    kernel: Kernel
    buffers: tuple[int, ...]
    sizes: tuple[Dim, ...] = ()
    locs: tuple[Loc, ...] = field(default=(), compare=False)

    @property
    def arguments(self) -> tuple[Dim, ...]:
        """What each of the kernel's symbols stands for."""
        return self.sizes or tuple(map(symbol, self.kernel.symbols))

    def size(self, dim: Dim) -> Dim:
        """What a size of the kernel is in this run, in the program's own symbols."""
        return substitute_dim(dim, dict(zip(self.kernel.symbols, self.arguments, strict=True)))


@dataclass(frozen=True)
class RunSweep:
    """Runs one kernel over several segments: buffers and sizes of their own, in any order.

    No run reads or writes what another one writes.
    """

    runs: tuple[RunKernel, ...]

    @property
    def kernel(self) -> Kernel:
        """The kernel of all runs."""
        return self.runs[0].kernel


@dataclass(frozen=True)
class RunMatmul:
    """`out[b] = x[b] @ y[b]` for matrices (rows, inner) and (inner, columns).

    `batch` has the sizes of the batch's dimensions; there is one matrix if it has none.
    `of` is the name of the value that it computes, and `locs` its lines, for people.
    """

    x: MatrixView
    y: MatrixView
    out: MatrixView
    batch: tuple[Dim, ...]
    rows: Dim
    columns: Dim
    inner: Dim
    dtype: DType
    of: str | None = field(default=None, compare=False)
    locs: tuple[Loc, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class RunBlocks:
    """Runs a product and kernels beside it, by blocks of the product's rows.

    Each takes a block while it is in the cache.  `after` reads the product only at the points of
    the step of its first loop that it is at, so that it makes no difference how large blocks are
    (`blocks_of`).  `before` writes `x`, which nothing else reads: its buffer has a block only.
    """

    product: RunMatmul
    after: RunKernel | None
    before: RunKernel | None = None


@dataclass(frozen=True)
class RunCall:
    """Calls a native function of the runtime on whole buffers.

    `solve`: buffers (a, b, x, regular), integers (batch, n, columns); x may not overlap a or b.
    `uniform`, `normal`: buffers (state, out, new state), integers (count,).
    `integers`: the same with integers (count, low, high).  `bernoulli`: the same with floats (p,);
    `uniform_between`: with (low, high); `normal_scaled`: with (mean, std).
    A function that a user wrote: buffers (operands, results), integers (all their sizes).
    `of` is the name of the first result, and `locs` its lines, for people; `operands` are so many
    of the buffers.
    """

    function: str
    dtype: DType
    buffers: tuple[int, ...]
    integers: tuple[Dim, ...] = ()
    floats: tuple[float, ...] = ()
    of: str | None = field(default=None, compare=False)
    locs: tuple[Loc, ...] = field(default=(), compare=False)
    operands: int = 1
    is_users: bool = False

    @property
    def symbol(self) -> str:
        """What generated code calls: `taut_solve_f32`, or the user's function."""
        return self.function if self.is_users else f"taut_{self.function}_{self.dtype.name}"


@dataclass(frozen=True)
class RunCopy:
    """Copies a whole contiguous buffer (a state's shadow to its place, a base before a scatter).

    It fills the target, or the part of it that begins at element `offset`.  `of` is the name of
    the value that it computes, for people, where it computes one.
    """

    source: int
    target: int
    offset: Dim = 0
    of: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class RunCheck:
    """Returns `number + 1` from the program unless the bool scalar in `buffer` is true."""

    buffer: int
    number: int


Simple: TypeAlias = RunKernel | RunMatmul | RunCall | RunCopy | RunCheck
Step: TypeAlias = Simple | RunSweep | RunBlocks


@dataclass(frozen=True)
class Program:
    """All that a back end needs: no graph, no pass and no front end is behind it.

    Attributes:
        name: the function's name.
        inputs: types of the arguments.
        outputs: types of the results.
        donations: for each output the input that it replaces in place, or None.
        buffers: every buffer that a step names.
        slots: bytes of each arena slot (a symbolic size where its buffers are symbolic).
        steps: in order.  No buffer that the caller can see is written before the last RunCheck.
        checks: the message of each check.
        symbols: named sizes, in the order of the table.
    """

    name: str
    inputs: tuple[Aval, ...]
    outputs: tuple[Aval, ...]
    donations: tuple[int | None, ...]
    buffers: tuple[Buffer, ...]
    slots: tuple[Dim, ...]
    steps: tuple[Step, ...]
    checks: tuple[str, ...]
    symbols: tuple[str, ...]

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels, in the order in which they first run."""
        return tuple(dict.fromkeys(r.kernel for s in self.steps for r in kernel_runs(s)))

    @property
    def parts(self) -> tuple[Simple, ...]:
        """The steps, each part of a step that has several by itself."""
        return tuple(part for step in self.steps for part in parts(step))


def parts(step: Step) -> tuple[Simple, ...]:
    """The steps that a step is made of: itself, unless it runs several."""
    match step:
        case RunSweep():
            return step.runs
        case RunBlocks():
            found = step.before, step.product, step.after
            return tuple(part for part in found if part is not None)
    return (step,)


def kernel_runs(step: Step) -> tuple[RunKernel, ...]:
    """The kernels that a step runs, with what they run on."""
    return tuple(part for part in parts(step) if isinstance(part, RunKernel))
