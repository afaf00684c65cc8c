"""Matrix products of generated Python: `np.dot` on contiguous matrices, else plain loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .. import dtypes
from ..aval import Dim
from ..schedule.program import MatrixView, RunMatmul
from .python_text import comment_text, dim_text, product_text, sum_text

Sizes = Mapping[str, str]

BATCHES = ("batch", *(f"batch{n}" for n in range(1, 8)))
"""The variables that count along the dimensions of a batch."""

PRODUCT = '''\
@kernel
def product(x, x_start, x_row, x_column, y, y_start, y_row, y_column, out, start, row, column,
            m, n, k):
    """out = x @ y of (m, k) and (k, n), given by their starts and strides of rows and columns."""
    for i in range(m):
        for j in range(n):
            out[start + i*row + j*column] = 0
        for l in range(k):
            factor = x[x_start + i*x_row + l*x_column]
            for j in range(n):
                out[start + i*row + j*column] += factor * y[y_start + l*y_row + j*y_column]
'''


HALF_PRODUCT = '''\
@kernel
def half_product(x, x_start, x_row, x_column, y, y_start, y_row, y_column, out, start, row, column,
                 m, n, k):
    """As `product`, of 16-bit floats, which are added up in 32 bits."""
    for i in range(m):
        for j in range(n):
            total = np.float32(0.0)
            for l in range(k):
                factor = np.float32(half(x[x_start + i*x_row + l*x_column]))
                total += factor * np.float32(half(y[y_start + l*y_row + j*y_column]))
            out[start + i*row + j*column] = bits(half(total))
'''


def matmul_source(step: RunMatmul, buffers: Sequence[str], sizes: Sizes) -> list[str]:
    """The lines that run a product; variables `batch` count the matrices of a batch."""
    call = _dot if _fits_dot(step) else _loops
    lines = [call(step, buffers, sizes) + comment_text(step.locs)]
    for name, size in reversed(list(zip(_names(step.batch), step.batch, strict=True))):
        inside = [f"    {line}" for line in lines]
        lines = [f"for {name} in range({dim_text(size, sizes)}):", *inside]
    return lines


def _names(batch: tuple[Dim, ...]) -> list[str]:
    return [f"batch{n}" if n else "batch" for n in range(len(batch))]


def helpers_of_matmul(step: RunMatmul) -> set[str]:
    """The functions of the prelude that a product calls."""
    return set() if _fits_dot(step) else {_product(step)}


def _product(step: RunMatmul) -> str:
    return "half_product" if step.dtype is dtypes.f16 else "product"


def _fits_dot(step: RunMatmul) -> bool:
    """BLAS takes floats, contiguous or transposed; NumPy and Numba want the result row-major."""
    x, y, out = (_is_contiguous(v, r, c) for v, r, c in _views(step))
    return step.dtype.name in ("f32", "f64") and x and y and out and not step.out.transposed


def _views(step: RunMatmul) -> list[tuple[MatrixView, Dim, Dim]]:
    return [
        (step.x, step.rows, step.inner),
        (step.y, step.inner, step.columns),
        (step.out, step.rows, step.columns),
    ]


def _is_contiguous(view: MatrixView, rows: Dim, columns: Dim) -> bool:
    return view.leading == (rows if view.transposed else columns)


def _start(view: MatrixView, sizes: Sizes) -> str:
    offset = "" if view.offset == 0 else dim_text(view.offset, sizes)
    pairs = zip(view.batch, _names(view.batch), strict=True)
    return sum_text([*(product_text(stride, name, sizes) for stride, name in pairs), offset])


def _dot(step: RunMatmul, buffers: Sequence[str], sizes: Sizes) -> str:
    matrices = []
    for view, rows, columns in _views(step):
        shape = (columns, rows) if view.transposed else (rows, columns)
        extents = ", ".join(dim_text(d, sizes) for d in shape)
        text = f"matrix({buffers[view.buffer]}, {_start(view, sizes)}, {extents})"
        matrices.append(f"{text}.T" if view.transposed else text)
    return f"np.dot({', '.join(matrices)})"


def _loops(step: RunMatmul, buffers: Sequence[str], sizes: Sizes) -> str:
    arguments = []
    for view, _, _ in _views(step):
        strides = ["1", dim_text(view.leading, sizes)]
        row, column = strides if view.transposed else reversed(strides)
        arguments += [buffers[view.buffer], _start(view, sizes), row, column]
    arguments += [dim_text(d, sizes) for d in (step.rows, step.columns, step.inner)]
    return f"{_product(step)}({', '.join(arguments)})"
