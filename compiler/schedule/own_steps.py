"""Steps that are not fused kernels: library calls, and writes into a part of a value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..aval import Dim, Shape, size_of
from ..errors import WhyNot
from ..ir import Node, Value
from ..primitive import Call, CallFunction
from .access import is_literal, plain_root
from .builder import Builder
from .indexing import Data, Expr, linear, split, strides, unflatten
from .loops import Combine
from .lowering import Lowered, runs_without_rows
from .matrices import OutView, matrix_view, out_view, with_joined_batch
from .nest import Nest
from .plan import Group
from .program import MatrixView, RunCall, RunCopy, RunMatmul

MAX_PARTS = 32
"""Parts of a concatenation that one kernel writes."""

INTEGER_PARAMS = {"integers": ("low", "high")}
FLOAT_PARAMS = {
    "uniform_between": ("low", "high"),
    "normal_scaled": ("mean", "std"),
    "bernoulli": ("p",),
}
"""Parameters of random generators that follow the count, in order."""


def call_arguments(node: Node) -> tuple[tuple[Dim, ...], tuple[float, ...]]:
    """The integers and floats that a native function takes, as `RunCall` describes them."""
    name, params = node.prim.name, node.params
    if isinstance(node.prim.lowering, CallFunction):
        return tuple(d for v in (*node.operands, *node.results) for d in v.aval.shape), ()
    if name == "solve":
        *batch, rows, columns = node.operands[1].aval.shape
        return (size_of(batch), rows, columns), ()
    integers = [node.results[0].aval.size, *(params[p] for p in INTEGER_PARAMS.get(name, ()))]
    return tuple(integers), tuple(params[p] for p in FLOAT_PARAMS.get(name, ()))


def lower_matmul(lowered: Lowered, group: Group) -> None:
    """A call of the matrix product, its operands read where they lie.

    Its result is written in its own order, or in that of its transpose if the group stores that.
    """
    node = group.root
    x, y = node.operands
    *batch, rows, inner = x.aval.shape
    columns = y.aval.shape[-1]
    written = node.results[0] if node.results[0] in group.stores else group.stores[0]
    order = out_view(node.results[0], written)
    assert isinstance(order, OutView)
    out = MatrixView(lowered.number(written), 0, *order)
    views = _view(lowered, x), _view(lowered, y)
    dtype = x.aval.dtype
    name = lowered.names[node.results[0]]
    locs = lowered.locs((node,))
    step = RunMatmul(*views, out, tuple(batch), rows, columns, inner, dtype, name, locs)
    lowered.steps.append(with_joined_batch(step))


def _view(lowered: Lowered, operand: Value) -> MatrixView:
    view = matrix_view(operand)
    if isinstance(view, WhyNot):  # it was stored for this
        return _whole(lowered, operand)
    return MatrixView(lowered.number(view.source), *view[1:])


def _whole(lowered: Lowered, value: Value) -> MatrixView:
    """A value in the order of its elements."""
    shape = value.aval.shape
    return MatrixView(lowered.number(plain_root(value)), 0, shape[-1], strides(shape)[:-2])


def lower_call(lowered: Lowered, group: Group) -> None:
    """A call of a native function on whole buffers."""
    node = group.root
    lowering = node.prim.lowering
    assert isinstance(lowering, Call)
    operands = [lowered.number(plain_root(o)) for o in node.operands]
    results = [lowered.number(r) for r in node.results]
    integers, floats = call_arguments(node)
    dtype = node.results[0].aval.dtype
    buffers, name = (*operands, *results), lowered.names[node.results[0]]
    labels = name, lowered.locs((node,))
    counts = len(operands), isinstance(lowering, CallFunction)
    step = RunCall(lowering.function, dtype, buffers, integers, floats, *labels, *counts)
    lowered.steps.append(step)


def lower_scatter(lowered: Lowered, group: Group) -> None:
    """A kernel that adds or sets single numbers one after the other."""
    base = scatter_bases(lowered, [group.root])
    size = group.root.operands[2].aval.size
    nest = Nest(((size, True),) if size != 1 else ())

    def write(b: Builder) -> None:
        b.begin_loops()
        write_rows(b, group.root)

    main = lowered.built(group, nest, write)
    lowered.add(group, *lowered.kernel(group, main, base, lanes="none"))


def write_rows(builder: Builder, node: Node) -> None:
    """Adds or sets an element of the rows that a scatter writes, at a point of their space."""
    x, index, rows = node.operands
    row, point = size_of(x.aval.shape[1:]), builder.nest.point()
    which, inside = split(point, row, builder.nest.extents)
    data = Expr(0, ((Data(builder.position(index, which)), 1),))
    target = linear([(data, row), (inside, 1)])
    combine: Combine = "add" if node.prim.name == "scatter_add" else "set"
    builder.store(rows, point, node.results[0], target, inner=True, combine=combine)


def scatter_bases(lowered: Lowered, nodes: Iterable[Node]) -> list[Builder]:
    """What scatters write into: a copy made before, or a constant that the kernel writes first."""
    found = []
    for node in nodes:
        base, out = plain_root(node.operands[0]), node.results[0]
        if is_literal(base.node):
            found.append(_filled(lowered, base, out))
        else:
            lowered.steps.append(RunCopy(lowered.number(base), lowered.number(out)))
    return found


def _filled(lowered: Lowered, base: Value, out: Value) -> Builder:
    """Writes a constant in what is to be written before all rows."""

    def write(b: Builder) -> None:
        b.begin_loops()
        b.store(base, b.nest.point(), out, b.nest.point(), inner=True)

    fill = Group("kernel", (base.node,), (out,), out.aval.shape)
    return lowered.built(fill, Nest(runs_without_rows(out.aval.shape, inside=True)), write)


def lower_window(lowered: Lowered, group: Group) -> None:
    """Kernels that write parts into their windows of the result, one for parts of equal shape."""
    node = group.root
    out = node.results[0]
    if node.prim.name == "set_slice":
        base, part = node.operands
        _base(lowered, base, out)
        _write_parts(lowered, group, [_Part(part, node.params["start"], node.params["step"])])
        return
    dim = node.params["dim"]
    offset: Dim = 0
    alike: dict[Shape, list[_Part]] = {}
    for value in node.operands:
        start = tuple(offset if axis == dim else 0 for axis in range(value.aval.ndim))
        alike.setdefault(value.aval.shape, []).append(_Part(value, start))
        offset = offset + value.aval.shape[dim]
    for parts in alike.values():
        for first in range(0, len(parts), MAX_PARTS):
            _write_parts(lowered, group, parts[first : first + MAX_PARTS])


class _Part(NamedTuple):
    """A value, and the index of the result at which it starts; `step` as a slice has it."""

    value: Value
    start: Shape
    step: Shape = ()


def _write_parts(lowered: Lowered, group: Group, parts: Sequence[_Part]) -> None:
    """One kernel, or one copy, that writes parts of equal shape into their places."""
    out = group.root.results[0]
    if len(parts) == 1 and _copied(lowered, parts[0], out):
        return
    shape, steps = parts[0].value.aval.shape, strides(out.aval.shape)

    def write(b: Builder) -> None:
        point = b.nest.point()
        indices = unflatten(point, shape, b.nest.extents)
        for value, start, step in parts:
            pairs = zip(indices, start, step or (1,) * len(start), strict=True)
            places = [linear([(i, k)], s) for i, s, k in pairs]
            b.store(value, point, out, linear(zip(places, steps, strict=True)), inner=False)

    lowered.run(group, Nest(runs_without_rows(shape, inside=False)), write)


def _copied(lowered: Lowered, part: _Part, out: Value) -> bool:
    """Copies a part that is in memory, as it will be in the result; False if it is not so."""
    root, shape = plain_root(part.value), part.value.aval.shape
    step = part.step or (1,) * len(shape)
    if root not in lowered.plan.stored or not _is_one_piece(shape, out.aval.shape, step):
        return False
    steps = strides(out.aval.shape)
    offset = sum((s * k for s, k in zip(part.start, steps, strict=True)), 0)
    numbers = lowered.number(root), lowered.number(out)
    lowered.steps.append(RunCopy(*numbers, offset, of=lowered.names[out]))
    return True


def _is_one_piece(part: Shape, whole: Shape, step: Shape) -> bool:
    """Whether a window of row-major memory has no gaps: what lies right of its rows is whole."""
    sizes = [*zip(part, whole, step, strict=True)]
    first = next((i for i, (size, _, _) in enumerate(sizes) if size != 1), len(sizes))
    inside = all(size == full for size, full, _ in sizes[first + 1 :])
    return inside and all(s == 1 for size, _, s in sizes if size != 1)


def _base(lowered: Lowered, base: Value, out: Value) -> None:
    """Fills `out` with what will be partly overwritten."""
    root = plain_root(base)
    if not is_literal(root.node):
        step = RunCopy(lowered.number(root), lowered.number(out))
        lowered.steps.append(step)
        return

    def write(b: Builder) -> None:
        b.store(base, b.nest.point(), out, b.nest.point(), inner=False)

    fill = Group("kernel", (root.node,), (out,), out.aval.shape)
    lowered.run(fill, Nest(runs_without_rows(out.aval.shape, inside=False)), write)
