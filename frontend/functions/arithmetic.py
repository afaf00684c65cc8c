"""Arithmetic: the operators, powers, bounds and what combines them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...compiler import dtypes
from ...compiler.primitives import elementwise as E
from ..context import current
from ..core import TensorBase
from ..create import full_like
from ..defaults import default_float
from ..tape import apply
from .conversion import clone
from .elementwise import abs, neg, power_of_number, reciprocal, round, rsqrt, sqrt, trunc
from .labels import named
from .logic import chosen, eq, logical_and, logical_or, lt, ne
from .operands import are_bools, binary, is_bool_tensor, operands, require_tensor
from .promotion import converted, result_dtype, together

if TYPE_CHECKING:
    from ..tensor import Tensor

_add = binary(E.add, "add")
_sub = binary(E.sub, "sub")
_mul = binary(E.mul, "mul")
_pow = binary(E.pow_, "pow")


def _scaled(other: Any, alpha: Any) -> Any:
    if type(alpha) is int and alpha == 1:
        return other
    integral = isinstance(other, TensorBase) and not other.dtype.is_floating_point
    if integral and isinstance(alpha, float):
        raise RuntimeError(
            "For integral input tensors, argument alpha must not be a floating point number."
        )
    return mul(other, alpha)


def add(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """input + alpha * other, with broadcasting."""
    if are_bools(input, other):
        return logical_or(input, other)
    if (type(alpha) is int and alpha == 1) or not result_dtype(input, other).is_floating_point:
        return _add(input, _scaled(other, alpha))
    # One rounding, as PyTorch's vectorised kernels do it: optimizers step with this.
    return named(apply(E.fma, *_together_with(alpha, input, other)), "Add")


def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """input - alpha * other, with broadcasting.

    Raises:
        RuntimeError: an operand is a bool tensor.
    """
    if is_bool_tensor(input) or is_bool_tensor(other):
        raise _bool_subtraction(are_bools(input, other))
    if type(alpha) is int and alpha == 1:
        return _sub(input, other)
    return named(add(input, other, alpha=-alpha), "Sub")


def _together_with(alpha: Any, input: Any, other: Any) -> tuple[Any, Any, Any]:
    """other, alpha and input in the dtype and shape that input + other has."""
    dtype = result_dtype(input, other)
    y, factor, x = together(other, alpha, input, dtype=dtype)
    return (y, factor, x) if isinstance(y, TensorBase) else (factor, y, x)


def _bool_subtraction(both: bool) -> RuntimeError:
    which, remedy = (
        ("two bool tensors", "Use the `^` or `logical_xor()` operator instead.")
        if both
        else (
            "a bool tensor",
            "If you are trying to invert a mask, use the `~` or `logical_not()` operator instead.",
        )
    )
    return RuntimeError(f"Subtraction, the `-` operator, with {which} is not supported. {remedy}")


def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """other - alpha * input: subtraction from the right."""
    form = "RsubBackward0" if isinstance(other, TensorBase) else "RsubBackward1"
    return named(sub(other, _scaled(input, alpha)), form)


def mul(input: Any, other: Any) -> Tensor:
    """input * other, with broadcasting."""
    if not (isinstance(input, TensorBase) or isinstance(other, TensorBase)):
        return input * other  # type: ignore[no-any-return]  # two numbers: `alpha` times a number
    return logical_and(input, other) if are_bools(input, other) else _mul(input, other)


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """input / other; integers give floats.

    `rounding_mode`: None, "trunc" (towards zero) or "floor".
    """
    if rounding_mode not in (None, "trunc", "floor"):
        raise RuntimeError(
            "div expected rounding_mode to be one of None, 'trunc', or 'floor' but found "
            f"'{rounding_mode}'"
        )
    if rounding_mode == "floor":
        return named(floor_divide(input, other), "DivBackward2")
    x, y = operands("div", input, other)
    common = result_dtype(x, y)
    dtype = common if common.is_floating_point else default_float()
    if rounding_mode == "trunc" and not common.is_floating_point:
        x, y = together(x, y)
        return _integer_division(x, y, truncate=True)
    quotient = apply(E.div, *together(x, y, dtype=dtype))
    return quotient if rounding_mode is None else named(trunc(quotient), "DivBackward2")


def rdiv(input: Tensor, other: Any) -> Tensor:
    """other / input, as PyTorch's operator computes it: the reciprocal times `other`."""
    return mul(reciprocal(input), other)


def floor_divide(input: Any, other: Any) -> Tensor:
    """input / other rounded down.

    Raises:
        RuntimeError: integers are divided by zero.
    """
    x, y = together(*operands("floor_divide", input, other))
    x = full_like(y, x) if isinstance(x, (int, float)) else x
    if result_dtype(x, y).is_floating_point:
        quotient, whole = div(x, y), _float_quotient(x, y)
        whole = chosen(eq(whole, 0), mul(quotient, 0), whole)  # a zero has the quotient's sign
        if not isinstance(y, TensorBase):
            return whole if y else quotient
        return chosen(eq(y, 0), quotient, whole)
    return _integer_division(x, y)


def _float_quotient(x: Any, y: Any) -> Tensor:
    """x / y rounded down, from what divides evenly: x / y itself may round up to an integer."""
    rest = fmod(x, y)
    whole = round(div(sub(x, rest), y))
    return sub(whole, converted(_opposite(rest, y), whole.dtype))


def _opposite(rest: Any, other: Any) -> Tensor:
    """Whether a remainder is neither 0 nor of the sign of `other`."""
    negative = lt(other, 0) if isinstance(other, TensorBase) else other < 0
    return logical_and(ne(rest, 0), ne(lt(rest, 0), negative))


def _integer_division(x: Any, y: Any, truncate: bool = False) -> Tensor:
    if result_dtype(x, y) is dtypes.boolean:
        x, y = together(x, y, dtype=dtypes.i64)
    _refuse_zero(y)
    quotient = apply(E.floordiv, x, y)
    if not truncate:
        return quotient
    inexact = logical_and(ne(apply(E.rem, x, y), 0), lt(quotient, 0))
    return add(quotient, converted(inexact, quotient.dtype))


def _refuse_zero(divisor: Any) -> None:
    """Raises, in eager mode, if integers are about to be divided by zero."""
    array = divisor.array if isinstance(divisor, TensorBase) else np.asarray(divisor)
    if current().trace is None and not array.all():  # type: ignore[union-attr]  # eager tensors have memory
        raise RuntimeError("ZeroDivisionError")


def remainder(input: Any, other: Any) -> Tensor:
    """The remainder of input / other, with the sign of `other`.

    Raises:
        RuntimeError: integers are divided by zero.
    """
    x, y = together(*operands("remainder", input, other))
    if not result_dtype(x, y).is_floating_point:
        _refuse_zero(y)
    form = "RemainderBackward1" if isinstance(other, TensorBase) else "Remainder"
    return named(apply(E.rem, x, y), form)


def fmod(input: Any, other: Any) -> Tensor:
    """The remainder of input / other, with the sign of `input`.

    Raises:
        RuntimeError: integers are divided by zero.
    """
    x, y = together(*operands("fmod", input, other))
    is_float = result_dtype(x, y).is_floating_point
    rest = _float_fmod(x, y) if is_float else _integer_fmod(x, y)
    return named(rest, "FmodBackward1" if isinstance(other, TensorBase) else "Fmod")


def _float_fmod(x: Any, y: Any) -> Tensor:
    size = remainder(abs(x), max(y, -y) if isinstance(y, (int, float)) else abs(y))
    signed = chosen(lt(x, 0), neg(size), size)
    return chosen(eq(x, 0), sub(x, size), signed)  # x as it is, or nan


def _integer_fmod(x: Any, y: Any) -> Tensor:
    rest = remainder(x, y)
    return chosen(_opposite(rest, x), sub(rest, y), rest)


maximum = binary(E.maximum, "maximum")
minimum = binary(E.minimum, "minimum")


def pow(input: Any, exponent: Any) -> Tensor:
    """input to the power of exponent, with broadcasting.

    Raises:
        RuntimeError: an integer tensor to a negative integer power.
    """
    if not isinstance(exponent, (int, float)):
        if isinstance(input, TensorBase):
            return named(_pow(input, exponent), "PowBackward1")
        base, x = operands("pow", input, exponent)
        typed: Any = converted(x, result_dtype(base, x))
        return named(power_of_number(base, typed), "PowBackward2")
    require_tensor("pow", input)
    target = result_dtype(input, exponent)
    if exponent < 0 and not target.is_floating_point:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    return named(_power(converted(input, target), exponent), "Pow")  # type: ignore[arg-type]  # a tensor stays one


def _power(x: Tensor, exponent: float) -> Tensor:
    """A fixed power; the common ones as products and roots."""
    if exponent == 1:
        return clone(x)
    if exponent in (2, 3):
        square = _mul(x, x)
        return square if exponent == 2 else _mul(square, x)
    if exponent in (-1, -2):
        return reciprocal(_power(x, -exponent)) if exponent == -2 else reciprocal(x)
    if exponent in (0.5, -0.5):
        return sqrt(x) if exponent > 0 else rsqrt(x)
    return _pow(x, exponent)


def rpow(input: Tensor, base: Any) -> Tensor:
    """base to the power of input."""
    return pow(base, input)


def square(input: Tensor) -> Tensor:
    """input * input."""
    return pow(input, 2)


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Elements below `min` raised to it, above `max` lowered to it (numbers or tensors).

    Raises:
        RuntimeError: neither bound is given.
    """
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    result = input
    if min is not None:
        x, bound = together(*operands("clamp", result, min))
        result = chosen(lt(x, bound), bound, x)
    if max is not None:
        x, bound = together(*operands("clamp", result, max))
        result = chosen(lt(bound, x), bound, x)
    by_tensor = isinstance(min, TensorBase) or isinstance(max, TensorBase)
    return named(result, "Clamp" if by_tensor else "ClampBackward1")


def clamp_min(input: Tensor, min: Any) -> Tensor:
    """Elements below `min` raised to it."""
    return named(clamp(input, min), "ClampMin")


def clamp_max(input: Tensor, max: Any) -> Tensor:
    """Elements above `max` lowered to it."""
    return named(clamp(input, None, max), "ClampMax")


def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """input + weight * (end - input), computed from the nearer end as PyTorch does."""
    difference = sub(end, input)
    if isinstance(weight, (int, float)):
        if weight < 0.5:
            return named(add(input, mul(difference, weight)), "Lerp")
        return named(sub(end, mul(difference, 1 - weight)), "Lerp")
    near = add(input, mul(difference, weight))
    far = sub(end, mul(difference, sub(1, weight)))
    return named(chosen(lt(abs(weight), 0.5), near, far), "LerpBackward1")


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """input + value * tensor1 * tensor2."""
    return named(add(input, mul(_scaled(tensor1, value), tensor2)), "Addcmul")


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """input + value * tensor1 / tensor2."""
    return named(add(input, div(_scaled(tensor1, value), tensor2)), "Addcdiv")
