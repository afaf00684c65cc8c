"""What programs do with all parameters at once: clip their gradients, or see them as one vector."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable
from typing import Any

from ..create import tensor as make_tensor
from ..functions.joining import cat, stack
from ..functions.norms import vector_norm
from ..grad_mode import no_grad
from ..tensor import Tensor

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "parameters_to_vector",
    "vector_to_parameters",
]


def _grads(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if isinstance(parameters, Generator) and not given:
        warnings.warn(
            "`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=4
        )
    return [grad for grad in (parameter.grad for parameter in given) if grad is not None]


def _norm(tensors: list[Tensor], order: float) -> Tensor:
    """The norm of all tensors as one vector: of order 2, infinity or any other."""
    if not tensors:
        return make_tensor(0.0)
    return vector_norm(stack([vector_norm(t, order) for t in tensors]), order)


@no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scales gradients by one factor so that the norm of all together is at most `max_norm`.

    Args:
        parameters: whose gradients.
        max_norm: the largest norm.
        norm_type: order of the norm; `inf` for the largest element.
        error_if_nonfinite: raise if the norm is no finite number.
        foreach: accepted for PyTorch's sake.

    Returns:
        The norm before.

    Raises:
        RuntimeError: see `error_if_nonfinite`.
    """
    grads = _grads(parameters)
    total = _norm(grads, float(norm_type))
    if error_if_nonfinite and not total.isfinite():
        raise RuntimeError(
            f"The total norm of order {float(norm_type)} for gradients from `parameters` is "
            "non-finite, so it cannot be clipped. To disable this error and scale the gradients by "
            "the non-finite norm anyway, set `error_if_nonfinite=False`"
        )
    factor: Any = (float(max_norm) / (total + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factor)
    return total


@no_grad()
def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Limits each element of the gradients to between -clip_value and clip_value."""
    for grad in _grads(parameters):
        grad.clamp_(-float(clip_value), float(clip_value))


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of all parameters, one after another."""
    return cat([parameter.reshape(-1) for parameter in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Makes parameters views of consecutive pieces of a vector.

    Raises:
        TypeError: `vec` is no tensor.
    """
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec).__name__}")
    start = 0
    for parameter in parameters:
        size = parameter.numel()
        parameter.data = vec.detach().narrow(0, start, size).reshape(parameter.shape)
        start += size
