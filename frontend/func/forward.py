"""Forward mode: products with the Jacobian, the Jacobian by columns, and the Hessian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from ..core import shape_of
from ..create import zeros
from ..plans import push_forward
from ..tree import flatten, unflatten
from .arguments import Argnums, Variables, parted, tensors_of
from .bases import over_basis, split_rows
from .reverse import jacrev


def jvp(
    func: Callable[..., Any],
    primals: Any,
    tangents: Any,
    *,
    strict: bool = False,
    has_aux: bool = False,
) -> Any:
    """A function's result, and its derivative along `tangents`: the Jacobian times them.

    The law: `<jvp(t), c> = <t, vjp(c)>`.  Each node's rule is the transpose of its VJP rule, see
    `compiler/autodiff/jvp.py`.

    Args:
        func: takes the primals, and returns a tensor or a nested tuple, list or dict of them.
        primals: a tuple of floating tensors, or nested tuples, lists and dicts of them.
        tangents: a tuple nested in the same way.
        strict: refuse a result that depends on no primal, instead of giving zeros.
        has_aux: whether `func` returns a pair, of which the second part is passed on.

    Returns:
        `(result, derivative)`, and what was passed on.

    Raises:
        RuntimeError: the tangents do not fit the primals.
    """
    if not isinstance(primals, (tuple, list)) or not primals:
        raise RuntimeError(f"jvp() takes a tuple of primals that is not empty, got {primals!r}")
    ways, given = flatten(tuple(tangents))
    if given != flatten(tuple(primals))[1]:
        raise RuntimeError("jvp() takes tangents that are nested as the primals are")
    variables = Variables("jvp", primals, range(len(primals)))
    for leaf, way in zip(variables.leaves, ways, strict=True):
        if shape_of(leaf) != shape_of(way):
            raise RuntimeError(
                f"jvp() takes a tangent of the primal's shape {list(leaf.shape)}, got "
                f"{list(way.shape)}"
            )
    result, aux = parted("jvp", variables.call(func, {}), has_aux)
    outputs, structure = tensors_of("jvp", result)
    if strict and not all(o.requires_grad for o in outputs):
        raise RuntimeError("jvp() with strict=True: a result does not depend on the primals")
    pushed = _pushed(outputs, variables.leaves, ways, None)
    found = unflatten(structure, iter(pushed))
    left, passed = variables.leave((result, aux))
    return (left, found, passed) if has_aux else (left, found)


def _pushed(
    outputs: Sequence[Any], leaves: Sequence[Any], ways: Sequence[Any], size: int | None
) -> list[Any]:
    """Tangents of the outputs; zeros for those that depend on no leaf."""
    moving = [o for o in outputs if o.requires_grad]
    seeds = dict(zip(leaves, ways, strict=True))
    found = iter(push_forward(moving, seeds, size=size) if moving else ())
    batch = () if size is None else (size,)
    return [
        next(found) if o.requires_grad else zeros((*batch, *shape_of(o)), dtype=o.dtype)
        for o in outputs
    ]


def jacfwd(
    func: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    chunk_size: int | None = None,
    randomness: str = "error",
) -> Callable[..., Any]:
    """The function that computes the Jacobian by columns, one for each element of the arguments.

    All columns are pushed forward at once, as a batch of tangents.

    Args:
        func: see `jacrev`, also for what is returned.
        argnums: see `grad`.
        has_aux: see `grad`.
        chunk_size: number of columns at a time, by default all.
        randomness: accepted; the function runs once, so that all columns see the same numbers.
    """
    del randomness

    @wraps(func)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        variables = Variables("jacfwd", args, argnums)
        result, aux = parted("jacfwd", variables.call(func, kwargs), has_aux)
        outputs, structure = tensors_of("jacfwd", result)
        columns = over_basis(
            variables.leaves,
            chunk_size,
            lambda seeds, size: _pushed(outputs, variables.leaves, seeds, size),
        )
        trees = [
            variables.rebuilt(_columns(rows, variables.leaves, output))
            for rows, output in zip(columns, outputs, strict=True)
        ]
        found, passed = unflatten(structure, iter(trees)), variables.leave(aux)
        return (found, passed) if has_aux else found

    return jacobian


def _columns(rows: Any, leaves: Sequence[Any], output: Any) -> list[Any]:
    """Tangents of one output, an element of the leaves each, as a Jacobian for each leaf."""
    return [
        part.movedim(0, -1).reshape(*shape_of(output), *shape_of(leaf))
        for part, leaf in zip(split_rows(rows, leaves), leaves, strict=True)
    ]


def hessian(func: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """The function that computes second derivatives, forward over reverse: `jacfwd(jacrev(f))`."""
    return jacfwd(jacrev(func, argnums), argnums)
