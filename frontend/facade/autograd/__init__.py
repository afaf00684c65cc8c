"""Gradients and their switches: the public names of ``taut.frontend.autograd``."""

from taut.frontend.autograd import (
    backward,
    enable_grad,
    grad,
    inference_mode,
    no_grad,
    set_grad_enabled,
)

__all__ = ["backward", "enable_grad", "grad", "inference_mode", "no_grad", "set_grad_enabled"]
