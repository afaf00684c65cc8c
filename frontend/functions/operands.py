"""What elementwise functions share: which operands they take, and how these come together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ...compiler import dtypes
from ...compiler.aval import SymDim
from ...compiler.primitive import Primitive
from ..context import current
from ..core import TensorBase, shape_of
from ..defaults import default_float
from ..tape import Operand, apply
from ..watch.numbers import HostNumber
from .promotion import converted, together
from .sizes import size_operand

if TYPE_CHECKING:
    from ..tensor import Tensor

BinaryFunction: TypeAlias = "Callable[[Any, Any], Tensor]"
UnaryFunction: TypeAlias = "Callable[[Tensor], Tensor]"
OPERANDS = (TensorBase, int, float, np.generic, SymDim, HostNumber)
"""What may stand in an expression beside a tensor."""

_ARGUMENTS = ("input", "other", "third")


def described(function: Any, name: str, doc: str) -> Any:
    """A generated function under its name and with its documentation."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def require_tensor(name: str, x: object) -> None:
    """Raises unless `x` is a tensor."""
    if not isinstance(x, TensorBase):
        raise TypeError(
            f"{name}(): argument 'input' (position 1) must be Tensor, not {type(x).__name__}"
        )


def operands(name: str, *given: Any) -> tuple[Any, ...]:
    """Tensors and Python numbers, from what users may give: NumPy scalars and symbolic sizes too.

    Raises:
        TypeError: one is neither, or none is a tensor.
    """
    found = [
        operand(name, argument, position, x)
        for position, (argument, x) in enumerate(zip(_ARGUMENTS, given, strict=False))
    ]
    if not any(isinstance(x, TensorBase) for x in found):
        require_tensor(name, given[0])
    return tuple(found)


def operand(name: str, argument: str, position: int, x: Any) -> Any:
    """One of the operands of the function `name`; see `operands`."""
    if isinstance(x, (TensorBase, int, float)):
        return x
    if isinstance(x, SymDim):
        return size_operand(x)
    if isinstance(x, np.generic):
        return x.item()
    if isinstance(x, HostNumber):
        trace = current().trace
        return x.settled() if trace is None else trace.host_scalar(x)
    raise TypeError(
        f"{name}(): argument '{argument}' (position {position + 1}) must be Tensor, not "
        f"{type(x).__name__}"
    )


def same_arrays(x: Any, y: Any) -> bool:
    """Whether two operands are arrays of one dtype and shape: nothing to bring together."""
    if not (isinstance(x, TensorBase) and isinstance(y, TensorBase)):
        return False
    a, b = x.array, y.array
    return a is not None and b is not None and a.dtype == b.dtype and a.shape == b.shape


def is_number_beside(x: Any, y: Any) -> bool:
    """Whether a Python number meets an array of floats, whose dtype it takes."""
    if not isinstance(y, (int, float)) or not isinstance(x, TensorBase):
        return False
    return x.array is not None and x.array.dtype.kind == "f"


def same_types(x: Any, y: Any) -> bool:
    """Whether two operands are tensors of one dtype and shape: nothing to bring together."""
    if not (isinstance(x, TensorBase) and isinstance(y, TensorBase)):
        return False
    weak = (x.traced_aval and x.traced_aval.weak) or (y.traced_aval and y.traced_aval.weak)
    return x.dtype is y.dtype and shape_of(x) == shape_of(y) and not weak


def binary(primitive: Primitive, name: str) -> BinaryFunction:
    """The function of two operands that a primitive becomes by promotion and broadcasting."""

    def function(input: Any, other: Any) -> Tensor:
        if same_arrays(input, other):
            return apply(primitive, input, other)
        if is_number_beside(input, other):
            return apply(primitive, input, float(other))
        if same_types(input, other):
            return apply(primitive, input, other)
        return apply(primitive, *together(*operands(name, input, other)))

    return described(function, name, f"{primitive.doc}, elementwise with broadcasting.")  # type: ignore[no-any-return]  # the function itself


def as_float(x: Operand) -> Any:
    """A tensor in a floating dtype: its own, or the default for integers and bools."""
    if isinstance(x, TensorBase) and not x.dtype.is_floating_point:
        return converted(x, default_float())
    return x


def unary(primitive: Primitive, name: str) -> UnaryFunction:
    """The function of one tensor that a primitive on floats becomes."""

    def function(input: Tensor) -> Tensor:
        require_tensor(name, input)
        return apply(primitive, as_float(input))

    return described(function, name, f"{primitive.doc}, elementwise; integers give floats.")  # type: ignore[no-any-return]  # as above


def is_bool_tensor(x: Any) -> bool:
    """Whether an operand is a tensor of bools."""
    return isinstance(x, TensorBase) and x.dtype is dtypes.boolean


def are_bools(x: Any, y: Any) -> bool:
    """Whether two operands are both bool."""
    return (is_bool_tensor(x) or isinstance(x, bool)) and (is_bool_tensor(y) or isinstance(y, bool))
