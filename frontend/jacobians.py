"""Derivatives of a function at a point, under the names of `torch.autograd.functional`.

Each is a call of a function in `func`; here the point is one tensor or a tuple of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..compiler.aval import size_of
from . import func as F
from .core import TensorBase, shape_of
from .create import ones_like
from .tree import flatten, unflatten

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

Function = Callable[..., Any]


def _point(inputs: Any) -> tuple[tuple[Any, ...], Any]:
    """The inputs as a tuple, and what `argnums` gives a result nested as they are."""
    if isinstance(inputs, TensorBase):
        return (inputs,), 0
    return tuple(inputs), tuple(range(len(inputs)))


def _finished(tree: Any, create_graph: bool) -> Any:
    """A result, without history unless it was asked for."""
    leaves, structure = flatten(tree)
    return tree if create_graph else unflatten(structure, iter([leaf.detach() for leaf in leaves]))


def _direction(like: Any, v: Any, what: str) -> Any:
    """The vector, or ones for a single element."""
    if v is None:
        tensors = flatten(like)[0]
        if len(tensors) != 1 or tensors[0].numel() != 1:
            raise RuntimeError(
                f"The vector v can only be None if {what} is a single-element Tensor or consists "
                "of one"
            )
        return unflatten(flatten(like)[1], iter([ones_like(tensors[0])]))
    given, own = flatten(v)[0], flatten(like)[0]
    if list(map(shape_of, given)) != list(map(shape_of, own)):
        raise RuntimeError(f"v has a different shape than {what}")
    return unflatten(flatten(like)[1], iter(given))


def _strictly(found: Any, strict: bool) -> None:
    if strict and not all(bool(leaf.requires_grad) for leaf in flatten(found)[0]):
        raise RuntimeError("Output of the user-provided function is independent of the inputs")


def jacobian(
    func: Function,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian at `inputs`: a block for each result and input, of both their shapes.

    Args:
        func: takes the inputs, and returns a tensor or a tuple of them.
        inputs: a tensor or a tuple of them.
        create_graph: make the result differentiable itself.
        strict: refuse a function whose result depends on no input.
        vectorize: accepted; rows (or columns) are always computed at once.
        strategy: "reverse-mode" by rows, "forward-mode" by columns.
    """
    del vectorize
    if strategy not in ("reverse-mode", "forward-mode"):
        raise RuntimeError(
            'Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your '
            'function has more outputs than inputs, "forward-mode" tends to be more performant. '
            'Otherwise, prefer to use "reverse-mode".'
        )
    point, argnums = _point(inputs)
    derive = F.jacrev if strategy == "reverse-mode" else F.jacfwd
    return _finished(derive(_checked(func, strict), argnums)(*point), create_graph)


def _checked(func: Function, strict: bool) -> Function:
    def call(*args: Any) -> Any:
        found = func(*args)
        _strictly(found, strict)
        return found

    return call


def hessian(
    func: Function,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """Second derivatives of a scalar function at `inputs`: a block for each pair of inputs.

    See `jacobian`; the inner derivative is reverse mode.
    """
    del vectorize
    point, argnums = _point(inputs)
    derive = F.jacrev if outer_jacobian_strategy == "reverse-mode" else F.jacfwd
    gradient = F.grad(_scalar(_checked(func, strict)), argnums)
    return _finished(derive(gradient, argnums)(*point), create_graph)


def _scalar(func: Function) -> Function:
    """The function with its single element as a scalar."""

    def call(*args: Any) -> Any:
        found: Any = func(*args)
        if not isinstance(found, TensorBase) or size_of(shape_of(found)) != 1:
            raise RuntimeError(
                "The output of the function provided to hessian should be a single-element Tensor"
            )
        tensor: Any = found
        return tensor.reshape(())

    return call


def vjp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The result, and `v` times the Jacobian at `inputs`."""
    point, argnums = _point(inputs)
    result, pull = F.vjp(_checked(func, strict), *point)
    found = pull(_direction(result, v, "the output"))
    return _finished((result, found[0] if argnums == 0 else found), create_graph)  # type: ignore[no-any-return]  # a pair


def jvp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The result, and the Jacobian at `inputs` times `v`."""
    point, _ = _point(inputs)
    way = _direction(point, _wrapped(v), "the input")
    return _finished(F.jvp(_checked(func, strict), point, way), create_graph)  # type: ignore[no-any-return]  # a pair


def _wrapped(v: Any) -> Any:
    return (v,) if isinstance(v, TensorBase) else v


def hvp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The value of a scalar function, and its Hessian at `inputs` times `v`."""
    point, argnums = _point(inputs)
    way = _direction(point, _wrapped(v), "the input")
    both = F.grad_and_value(_scalar(_checked(func, strict)), argnums)
    (_, value), (found, _) = F.jvp(both, point, way)
    return _finished((value, found), create_graph)  # type: ignore[no-any-return]  # a pair


def vhp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The value of a scalar function, and `v` times its Hessian, which is symmetric: see `hvp`."""
    return hvp(func, inputs, v, create_graph, strict)
