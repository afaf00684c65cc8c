"""Comparison and logic, choice, and conversion between dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import dtypes
from ...aval import Aval
from ...dtypes import DType
from ...errors import IRError
from ...ir import Value
from ...primitive import Cotangents, Elementwise, Primitive, no_gradient, register
from .. import batching
from ..create import full_like
from .define import ANY, Array, binary, require_same, result_aval, unary


def _comparison(name: str, symbol: str, reference: Any) -> Primitive:
    operation = {
        "float": f"fcmp {symbol}",
        "int": f"icmp {symbol}",
        "uint": f"ucmp {symbol}",
        "bool": f"ucmp {symbol}",
    }
    lowering = Elementwise(f"{{0}} {symbol} {{1}}", operation)
    doc = f"x {symbol} y"
    return binary(name, ANY, reference, no_gradient, lowering, doc, dtypes.boolean)


eq = _comparison("eq", "==", np.equal)
ne = _comparison("ne", "!=", np.not_equal)
lt: Primitive = _comparison("lt", "<", np.less)
le = _comparison("le", "<=", np.less_equal)

BITS = ("int", "uint", "bool")
and_ = binary(
    "and",
    BITS,
    np.bitwise_and,
    no_gradient,
    Elementwise("{0} & {1}", {"any": "and_"}),
    "bitwise and",
)
or_ = binary(
    "or",
    BITS,
    np.bitwise_or,
    no_gradient,
    Elementwise("{0} | {1}", {"any": "or_"}),
    "bitwise or",
)
xor = binary(
    "xor",
    BITS,
    np.bitwise_xor,
    no_gradient,
    Elementwise("{0} ^ {1}", {"any": "xor"}),
    "bitwise exclusive or",
)
not_ = unary(
    "not",
    BITS,
    np.invert,
    no_gradient,
    Elementwise("np.invert({0})", {"any": "not_"}),
    "bitwise complement",
)


def _select_type(condition: Aval, x: Aval, y: Aval) -> Aval:
    if condition.dtype is not dtypes.boolean or condition.shape != x.shape:
        raise IRError(f"the condition must be bool of shape {x.shape}, got {condition}")
    require_same(x, y)
    return result_aval((x, y), x.dtype)


def _select_vjp(ct: Value, out: Value, condition: Value, x: Value, y: Value) -> Cotangents:
    zero = full_like(ct, 0)
    return None, select(condition, ct, zero), select(condition, zero, ct)


select = register(
    Primitive(
        "select",
        _select_type,
        np.where,
        _select_vjp,
        Elementwise("({1} if {0} else {2})", {"any": "select"}),
        "x where the condition holds, else y",
        batch=batching.elementwise,
    )
)


def _cast_type(x: Aval, *, dtype: DType) -> Aval:
    return Aval(dtype, x.shape)


def _cast_reference(x: Array, *, dtype: DType) -> Any:
    return np.asarray(x).astype(dtype.numpy)


def _cast_vjp(ct: Value, out: Value, x: Value, *, dtype: DType) -> Cotangents:
    floating = x.aval.dtype.is_floating_point and dtype.is_floating_point
    return (cast(ct, dtype=x.aval.dtype) if floating else None,)


cast = register(
    Primitive(
        "cast",
        _cast_type,
        _cast_reference,
        _cast_vjp,
        Elementwise("{t}({0})", {"any": "cast"}),
        "x converted to another dtype, floats to integers towards zero",
        from_type=("dtype",),
        batch=batching.elementwise,
    )
)
stop_gradient = unary(
    "stop_gradient",
    ANY,
    lambda x: x.view(),
    no_gradient,
    Elementwise("{0}", {"any": "macro same"}),
    "x, as a constant to differentiation",
)


def zero_where(condition: Value, x: Value) -> Value:
    """`x`, and zero where the condition holds: what stood there may be infinite or nan."""
    return select(condition, full_like(x, 0), x)
