"""Functions of functions, under PyTorch's names (`torch.func`): they compose, and compile."""

from .forward import hessian, jacfwd, jvp
from .modules import functional_call, stack_module_state
from .reverse import grad, grad_and_value, jacrev, value_and_grad, vjp
from .vmap import vmap

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "jacfwd",
    "jacrev",
    "jvp",
    "stack_module_state",
    "value_and_grad",
    "vjp",
    "vmap",
]
