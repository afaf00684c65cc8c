"""Standard bases: the seeds from which a Jacobian is computed, all at once or in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...compiler.dtypes import DType, i64
from ...compiler.primitives.create import iota
from ..core import shape_of
from ..functions.joining import cat
from ..tape import apply


def basis(tensors: Sequence[Any], start: int, stop: int) -> list[Any]:
    """Rows `start` to `stop` of the identity over all elements, as a batch for each tensor."""
    offset, seeds = 0, []
    for tensor in tensors:
        count = tensor.numel()
        rows = _identity(start, offset, (stop - start, count), tensor.dtype)
        seeds.append(rows.reshape(stop - start, *shape_of(tensor)))
        offset += count
    return seeds


def _identity(row: int, column: int, shape: tuple[int, int], dtype: DType) -> Any:
    """A part of the identity matrix, computed so that a trace holds no array of it."""
    rows = apply(iota, dim=0, dtype=i64, shape=shape)
    columns = apply(iota, dim=1, dtype=i64, shape=shape)
    return (rows + row == columns + column).to(dtype)


def chunks(total: int, size: int | None) -> Iterator[tuple[int, int]]:
    """The ranges of at most `size` numbers that make up `range(total)`."""
    step = max(total, 1) if size is None else size
    if step < 1:
        raise ValueError(f"chunk_size should be None or greater than 0, got {size}")
    for start in range(0, max(total, 1), step):
        yield start, min(start + step, total)


def over_basis(
    tensors: Sequence[Any],
    chunk_size: int | None,
    derive: Callable[[list[Any], int], list[Any]],
) -> list[Any]:
    """What `derive(seeds, size)` makes of the basis: for each result a row an element."""
    parts = [
        derive(basis(tensors, start, stop), stop - start)
        for start, stop in chunks(sum(t.numel() for t in tensors), chunk_size)
    ]
    return [rows[0] if len(rows) == 1 else cat(rows) for rows in zip(*parts, strict=True)]


def split_rows(rows: Any, tensors: Sequence[Any]) -> list[Any]:
    """The rows that belong to each tensor's elements."""
    offset, parts = 0, []
    for tensor in tensors:
        parts.append(rows[offset : offset + tensor.numel()])
        offset += tensor.numel()
    return parts
