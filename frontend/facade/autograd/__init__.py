"""Gradients and their switches: the public names of ``taut.frontend.autograd``."""

from taut.frontend.autograd import backward, grad
from taut.frontend.grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)

__all__ = [
    "backward",
    "enable_grad",
    "grad",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
]
