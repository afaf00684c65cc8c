"""Reverse mode: gradients, products with the transposed Jacobian, and the Jacobian by rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from ..core import TensorBase, shape_of
from ..create import zeros, zeros_like
from ..plans import pull_back
from ..tree import flatten, unflatten
from .arguments import Argnums, Variables, parted, tensors_of
from .bases import over_basis, split_rows


def grad_and_value(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The function that computes a gradient and the value, `(gradient, value)`.

    See `grad`; with `has_aux` the value is `(value, aux)`.
    """
    return _gradient("grad_and_value", func, argnums, has_aux)


def value_and_grad(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """`grad_and_value` in JAX's order, `(value, gradient)`."""
    both = _gradient("value_and_grad", func, argnums, has_aux)
    return wraps(func)(lambda *args, **kwargs: both(*args, **kwargs)[::-1])


def grad(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The function that computes the gradient of `func` with respect to some of its arguments.

    It composes with itself (second derivatives), with the other functions here, and with `compile`.

    Args:
        func: returns a scalar tensor.
        argnums: position, or positions, of the arguments to differentiate with respect to: tensors,
            or nested tuples, lists and dicts of them.
        has_aux: whether `func` returns a pair, of which the second part is passed on.

    Returns:
        A function of the same arguments that returns a gradient nested as the argument is, or a
        tuple of them; with `has_aux` a pair of that and what `func` returned beside the scalar.

    Raises:
        TypeError: such an argument holds something that is no floating tensor.
        RuntimeError: the result is no scalar.
    """
    both = _gradient("grad", func, argnums, has_aux)

    @wraps(func)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        found, value = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def _gradient(
    name: str, func: Callable[..., Any], argnums: Argnums, has_aux: bool
) -> Callable[..., Any]:
    @wraps(func)
    def both(*args: Any, **kwargs: Any) -> Any:
        variables = Variables(name, args, argnums)
        result, aux = parted(name, variables.call(func, kwargs), has_aux)
        if not isinstance(result, TensorBase) or result.ndim:
            raise RuntimeError(f"{name}() takes a function that returns a scalar tensor")
        found = _pulled([result], [_one_like(result)], variables.leaves)
        value = variables.leave((result, aux) if has_aux else result)
        return variables.rebuilt(found), value

    return both


def _one_like(scalar: Any) -> Any:
    from ..create import ones_like

    return ones_like(scalar)


def _pulled(
    outputs: Sequence[Any],
    seeds: Sequence[Any],
    leaves: Sequence[Any],
    size: int | None = None,
    retain_graph: bool = False,
) -> list[Any]:
    """Cotangents of the leaves; zeros for those that no output depends on."""
    pairs = [(o, s) for o, s in zip(outputs, seeds, strict=True) if o.requires_grad]
    heads, cotangents = [o for o, _ in pairs], [s for _, s in pairs]
    options: Any = {"create_graph": None, "retain_graph": retain_graph, "size": size}
    found = pull_back(heads, cotangents, leaves, **options) if heads else {}
    return [found[leaf] if leaf in found else _zeros(leaf, size) for leaf in leaves]


def _zeros(leaf: Any, size: int | None) -> Any:
    return zeros_like(leaf) if size is None else zeros((size, *shape_of(leaf)), dtype=leaf.dtype)


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """A function's result, and the function that pulls cotangents of it back.

    Args:
        func: takes the primals, and returns a tensor or a nested tuple, list or dict of them.
        primals: floating tensors, or nested tuples, lists and dicts of them.
        has_aux: whether `func` returns a pair, of which the second part is passed on.

    Returns:
        `(result, vjp_fn)`, and what was passed on; `vjp_fn(cotangents)` takes cotangents nested as
        the result is, and returns a tuple with one product for each primal.
    """
    variables = Variables("vjp", primals, range(len(primals)))
    result, aux = parted("vjp", variables.call(func, {}), has_aux)
    outputs, structure = tensors_of("vjp", result)

    def vjp_fn(
        cotangents: Any, retain_graph: bool | None = None, create_graph: bool | None = None
    ) -> Any:
        del retain_graph, create_graph  # accepted: the tape is kept, and taped where it must be
        given, own = flatten(cotangents)
        if own != structure:
            raise RuntimeError("the cotangents must be nested as the function's result is")
        for output, cotangent in zip(outputs, given, strict=True):
            if shape_of(cotangent) != shape_of(output):
                raise RuntimeError(
                    f"a cotangent of shape {list(cotangent.shape)} does not fit a result of shape "
                    f"{list(output.shape)}"
                )
        return variables.rebuilt(_pulled(outputs, given, variables.leaves, retain_graph=True))

    left, passed = variables.leave((result, aux))
    return (left, vjp_fn, passed) if has_aux else (left, vjp_fn)


def jacrev(
    func: Callable[..., Any],
    argnums: Argnums = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """The function that computes the Jacobian by rows, one for each element of the result.

    All rows are pulled back at once, as a batch of cotangents.

    Args:
        func: returns a tensor, or a nested tuple, list or dict of them.
        argnums: see `grad`.
        has_aux: see `grad`.
        chunk_size: number of rows at a time, by default all.

    Returns:
        A function of the same arguments.  Its result is nested as that of `func`, inside that as
        the arguments; each tensor has the shape of the result followed by that of the argument.
    """

    @wraps(func)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        variables = Variables("jacrev", args, argnums)
        result, aux = parted("jacrev", variables.call(func, kwargs), has_aux)
        outputs, structure = tensors_of("jacrev", result)
        columns = over_basis(
            outputs,
            chunk_size,
            lambda seeds, size: _pulled(outputs, seeds, variables.leaves, size, True),
        )
        blocks = [split_rows(rows, outputs) for rows in columns]
        trees = []
        for number, output in enumerate(outputs):
            row = [
                block[number].reshape(*shape_of(output), *shape_of(leaf))
                for block, leaf in zip(blocks, variables.leaves, strict=True)
            ]
            trees.append(variables.rebuilt(row))
        found, passed = unflatten(structure, iter(trees)), variables.leave(aux)
        return (found, passed) if has_aux else found

    return jacobian
