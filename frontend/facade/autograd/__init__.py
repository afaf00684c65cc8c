"""Gradients and their switches: public names of ``taut.frontend.autograd`` and its neighbours."""

from taut.frontend.autograd import backward, grad
from taut.frontend.function import Function
from taut.frontend.grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)

from . import function as function
from . import functional as functional

__all__ = [
    "Function",
    "backward",
    "enable_grad",
    "grad",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
]
