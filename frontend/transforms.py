"""Functions of functions: `grad`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from . import autograd
from .core import TensorBase


def grad(function: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The function that computes the gradient of `function` with respect to some of its arguments.

    It composes with itself (second derivatives) and with `compile`.

    Args:
        function: returns a scalar tensor.
        argnums: position, or positions, of the arguments to differentiate with respect to.

    Returns:
        A function of the same arguments that returns a gradient of the argument's shape, or a tuple
        of them.

    Raises:
        TypeError: such an argument is no floating tensor.
        RuntimeError: the result is no scalar.
    """
    positions = [argnums] if isinstance(argnums, int) else list(argnums)

    @wraps(function)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        inputs = {p: _differentiable(args, p) for p in positions}
        replaced = [inputs.get(i, arg) for i, arg in enumerate(args)]
        with autograd.enable_grad():
            result = function(*replaced, **kwargs)
            if not isinstance(result, TensorBase) or result.shape != ():
                raise RuntimeError("grad() takes a function that returns a scalar tensor")
            nested = any(isinstance(a, TensorBase) and a._requires_grad for a in args)
            targets: Any = [inputs[p] for p in positions]
            head: Any = result
            found = autograd.grad(head, targets, create_graph=nested, allow_unused=True)
        filled = [_or_zeros(g, t) for g, t in zip(found, targets, strict=True)]
        return filled[0] if isinstance(argnums, int) else tuple(filled)

    return gradient


def _differentiable(args: Sequence[Any], position: int) -> Any:
    arg = args[position]
    if not isinstance(arg, TensorBase) or not arg.dtype.is_floating_point:
        raise TypeError(
            f"grad() differentiates with respect to floating tensors; argument {position} is "
            f"{type(arg).__name__}"
        )
    tensor: Any = arg
    # A result of its own, so that its gradient can be told from that of the tensor it came from.
    return tensor.view_as(tensor) if tensor._requires_grad else tensor.detach().requires_grad_()


def _or_zeros(gradient: Any, like: Any) -> Any:
    from .create import zeros_like

    return zeros_like(like) if gradient is None else gradient
