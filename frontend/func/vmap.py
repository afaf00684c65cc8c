"""`vmap`: a function of one slice as a function of many.

The function is recorded once on stand-ins for a slice; the recording is batched by the primitives'
rules, and applied to the arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from ...compiler.autodiff.batch import RANDOMNESS, batch
from ...compiler.aval import Aval, Dim, size_of
from ..context import Mode, current, using
from ..core import TensorBase, shape_of
from ..functions.joining import cat
from ..functions.shape import movedim
from ..inplace import assign
from ..nested import NestedTrace, run_on_tensors
from ..tree import Structure, flatten, unflatten
from .bases import chunks


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """The function that maps `func` over a dimension of its arguments, all slices at once.

    The law: slice i of the result is `func` of slice i of the arguments.  The values of a slice are
    not known while `func` runs, as in a compiled function; gradients pass through, and what `func`
    writes in place is written for every slice.

    Args:
        func: takes and returns tensors, and nested tuples, lists and dicts of them.
        in_dims: for each argument the dimension to map over, None for those that every slice
            shares; nested as the arguments are, or one for all below it.  Every slice shares the
            keyword arguments.
        out_dims: where the dimension goes in each result; nested in the same way.
        randomness: what random functions do: "different" draws anew for each slice, "same" draws
            once for all, "error" refuses.
        chunk_size: number of slices at a time, by default all.

    Raises:
        ValueError: `in_dims` or `out_dims` do not fit, or the dimensions' sizes differ.
        RuntimeError: a random function was refused.
    """
    if randomness not in RANDOMNESS:
        raise RuntimeError(
            "Only allowed values for randomness are 'error', 'different', or 'same'. Got "
            f"{randomness}"
        )
    name = getattr(func, "__name__", type(func).__name__)

    @wraps(func)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        call = _Call(name, in_dims, args, kwargs)
        if chunk_size is None:
            return call.run(func, call.leaves, out_dims, randomness)
        parts = []
        for start, stop in chunks(int(call.size), chunk_size):
            leaves = [call.part(i, start, stop) for i in range(len(call.leaves))]
            parts.append(call.run(func, leaves, out_dims, randomness))
        return _joined(name, parts, out_dims)

    return mapped


class _Call:
    """The arguments of a call.

    Attributes:
        leaves: their leaves; those that are mapped over have that dimension first.
        mapped: which of them are.
        size: number of slices.
    """

    def __init__(
        self, name: str, in_dims: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._name = name
        given, _ = flatten(args)
        keyword, _ = flatten(kwargs)
        _, self._structure = flatten((args, kwargs))
        dims = _dims_of(f"vmap({name}): in_dims", in_dims, self._structure.children[0])
        dims += [None] * len(keyword)
        pairs = list(zip([*given, *keyword], dims, strict=True))
        self.leaves = [_to_front(name, leaf, dim) for leaf, dim in pairs]
        self.mapped = [dim is not None for dim in dims]
        self.size = self._agreed_size()

    def _agreed_size(self) -> Dim:
        tensors = [leaf for leaf, m in zip(self.leaves, self.mapped, strict=True) if m]
        sizes = [shape_of(t)[0] for t in tensors]
        if not sizes:
            raise ValueError(
                f"vmap({self._name}): at least one argument must be mapped over, but all of "
                "in_dims are None"
            )
        if any(size != sizes[0] for size in sizes):
            raise ValueError(
                "vmap: Expected all tensors to have the same size in the mapped dimension, got "
                f"sizes {sizes} for the mapped dimension"
            )
        return sizes[0]

    def part(self, number: int, start: int, stop: int) -> Any:
        """Some slices of a leaf."""
        leaf = self.leaves[number]
        return leaf[start:stop] if self.mapped[number] else leaf

    def run(
        self, func: Callable[..., Any], leaves: Sequence[Any], out_dims: Any, randomness: str
    ) -> Any:
        """The results for some slices of the arguments."""
        outer = current()
        trace = NestedTrace(self._name, outer)
        with using(Mode(trace, outer.grad)):
            slices = [
                _stand_in(trace, leaf) if mapped else leaf
                for leaf, mapped in zip(leaves, self.mapped, strict=True)
            ]
            args, kwargs = unflatten(self._structure, iter(slices))
            returned, structure = flatten(func(*args, **kwargs))
            dims = _dims_of(f"vmap({self._name}): out_dims", out_dims, structure)
            for leaf in returned:
                _require_tensor(self._name, leaf)
            values = [trace.read(leaf) for leaf in returned]
        if outer.trace is None:
            trace.outside.restore_tensors()
        if trace.grads:
            raise RuntimeError(
                "backward() sets .grad once, not once for each slice: use taut.func.grad within "
                "vmap"
            )
        batched = [number < sum(self.mapped) for number in range(len(trace.operands))]
        size = next(shape_of(x)[0] for x, m in zip(leaves, self.mapped, strict=True) if m)
        graph, flags = batch(trace.recorded(values), size, batched, randomness)
        results = run_on_tensors(graph, trace.operands)
        _write_back(trace, results[len(values) :], flags[len(values) :])
        places = zip(results, flags, dims, strict=False)
        return unflatten(structure, iter([_placed(self._name, size, *p) for p in places]))


def _stand_in(trace: NestedTrace, tensor: Any) -> Any:
    aval = tensor.aval
    return trace.stand_in(tensor, Aval(aval.dtype, aval.shape[1:]))


def _dims_of(what: str, prefix: Any, structure: Structure) -> list[int | None]:
    """A dimension for each leaf, from one that may stand for all leaves below it."""
    if prefix is None or (isinstance(prefix, int) and not isinstance(prefix, bool)):
        return [prefix] * _count(structure)
    if structure.kind is None and isinstance(prefix, tuple) and len(prefix) == 1:
        return _dims_of(what, prefix[0], structure)
    keyed = isinstance(prefix, dict) and prefix.keys() == set(structure.keys)
    listed = isinstance(prefix, (tuple, list)) and structure.kind is not dict
    if structure.kind is None or not (keyed or listed) or len(prefix) != len(structure.children):
        raise ValueError(f"{what}={prefix!r} is not nested as the tensors are")
    inner = [prefix[key] for key in structure.keys] if keyed else prefix
    pairs = zip(inner, structure.children, strict=True)
    return [dim for part, child in pairs for dim in _dims_of(what, part, child)]


def _count(structure: Structure) -> int:
    return 1 if structure.kind is None else sum(map(_count, structure.children))


def _to_front(name: str, leaf: Any, dim: int | None) -> Any:
    if dim is None:
        return leaf
    if not isinstance(leaf, TensorBase):
        raise ValueError(
            f"vmap({name}): Got in_dim={dim} for an input but the input is of type {type(leaf)}. "
            "We cannot vmap over non-Tensor arguments, please use None as the respective in_dim"
        )
    tensor: Any = leaf
    if not -tensor.ndim <= dim < tensor.ndim:
        raise ValueError(
            f"vmap({name}): Got in_dim={dim} for some input, but that input is a Tensor of "
            f"dimensionality {tensor.ndim} so expected in_dim to satisfy "
            f"-{tensor.ndim} <= in_dim < {tensor.ndim}."
        )
    return tensor if dim % tensor.ndim == 0 else movedim(tensor, dim, 0)


def _require_tensor(name: str, leaf: Any) -> None:
    if not isinstance(leaf, TensorBase):
        raise ValueError(f"vmap({name}): `{name}` must only return Tensors, got type {type(leaf)}.")


def _placed(name: str, size: Dim, result: Any, batched: bool, dim: int | None) -> Any:
    """A result with the mapped dimension where it is wanted."""
    if dim is None and batched:
        raise ValueError(
            f"vmap({name}): `{name}` can not return a BatchedTensor when out_dim is None"
        )
    if dim is None:
        return result
    whole = result if batched else result.expand(size, *shape_of(result))
    return whole if dim == 0 else movedim(whole, 0, dim)


def _write_back(trace: NestedTrace, values: Sequence[Any], flags: Sequence[bool]) -> None:
    """What the function wrote, into the tensors outside."""
    for storage, value, batched in zip(trace.written, values, flags, strict=True):
        target = trace.operands[trace.positions[storage]]
        if batched and size_of(shape_of(value)) != size_of(shape_of(target)):
            raise RuntimeError(
                "vmap: a function wrote a value that differs from slice to slice into a tensor "
                "that all slices share; return it instead"
            )
        assign(target, value, checked=False)


def _joined(name: str, parts: Sequence[Any], out_dims: Any) -> Any:
    """The results of chunks, one behind the other."""
    structure = flatten(parts[0])[1]
    dims = _dims_of(f"vmap({name}): out_dims", out_dims, structure)
    columns = zip(*[flatten(part)[0] for part in parts], strict=True)
    whole = [
        column[0] if dim is None else cat(column, dim)
        for column, dim in zip(columns, dims, strict=True)
    ]
    return unflatten(structure, iter(whole))
