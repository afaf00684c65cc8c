"""The names of the root package: PyTorch's functions, dtypes and types, each re-exported once."""

from __future__ import annotations

import builtins
from math import e, inf, nan, pi

from ..compiler.dtypes import DType as dtype  # noqa: N813  # PyTorch's name
from ..compiler.dtypes import boolean as bool
from ..compiler.dtypes import f16 as float16
from ..compiler.dtypes import f32 as float32
from ..compiler.dtypes import f64 as float64
from ..compiler.dtypes import i8 as int8
from ..compiler.dtypes import i16 as int16
from ..compiler.dtypes import i32 as int32
from ..compiler.dtypes import i64 as int64
from ..compiler.dtypes import u8 as uint8
from .checkpoint import checkpoint
from .compile import compile
from .core import Size
from .create import (
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    tensor,
    zeros,
    zeros_like,
)
from .custom_op import custom_op
from .defaults import default_float as get_default_dtype
from .defaults import set_default_dtype
from .device import Device as device  # noqa: N813  # as above
from .func.forward import hessian, jvp
from .func.reverse import grad, value_and_grad, vjp
from .func.reverse import jacrev as jacobian
from .func.vmap import vmap
from .functions import public
from .functions.operands import require_tensor
from .functions.public import *  # noqa: F403  # its __all__ is part of the one below
from .generator import Generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state
from .grad_mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .printing import set_printoptions
from .scalar_function import elementwise
from .tensor import Tensor

float = float32
double = float64
half = float16
int = int32
long = int64
short = int16


def is_tensor(obj: object) -> builtins.bool:
    """Whether an object is a tensor."""
    return isinstance(obj, Tensor)


def numel(input: Tensor) -> builtins.int:
    """Number of elements."""
    require_tensor("numel", input)
    return input.numel()


__all__ = [
    "Generator",
    "Size",
    "Tensor",
    "arange",
    "as_tensor",
    "bool",
    "checkpoint",
    "compile",
    "custom_op",
    "device",
    "double",
    "dtype",
    "e",
    "elementwise",
    "empty",
    "empty_like",
    "enable_grad",
    "eye",
    "float",
    "float16",
    "float32",
    "float64",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "get_default_dtype",
    "get_rng_state",
    "grad",
    "half",
    "hessian",
    "inf",
    "inference_mode",
    "initial_seed",
    "int",
    "int8",
    "int16",
    "int32",
    "int64",
    "is_grad_enabled",
    "is_tensor",
    "jacobian",
    "jvp",
    "linspace",
    "long",
    "manual_seed",
    "nan",
    "no_grad",
    "numel",
    "ones",
    "ones_like",
    "pi",
    "seed",
    "set_default_dtype",
    "set_grad_enabled",
    "set_printoptions",
    "set_rng_state",
    "short",
    "tensor",
    "uint8",
    "value_and_grad",
    "vjp",
    "vmap",
    "zeros",
    "zeros_like",
]
__all__ += public.__all__
