"""What arguments have to be, by the annotations of the function that got them.

Functions do not test their arguments first: that would cost every call.  When one raises, what it
was given is compared with its signature, and an argument of a wrong type is what the error names,
in PyTorch's words.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from ..compiler import dtypes
from ..compiler.aval import SymDim
from ..compiler.dtypes import DType
from .core import TensorBase
from .errors import UntraceableError

P = ParamSpec("P")
R = TypeVar("R")

_PYTHON_TYPES: dict[Any, DType] = {
    float: dtypes.f64,
    int: dtypes.i64,
    bool: dtypes.boolean,
}


def as_dtype(name: str, dtype: Any) -> DType | None:
    """A dtype as users may give it: Python's `float`, `int` and `bool` stand for 64 bits and bool.

    Raises:
        TypeError: it is none.
    """
    if dtype is None or isinstance(dtype, DType):
        return dtype
    known = _PYTHON_TYPES.get(dtype) if isinstance(dtype, type) else None
    if known is None:
        raise TypeError(f"{name}(): argument 'dtype' must be torch.dtype, not {_type(dtype)}")
    return known


def explained(function: Callable[P, R]) -> Callable[P, R]:
    """The function; if it raises, an argument of a wrong type is named, and `dtype` may be any."""
    return _explained(function, function.__name__, of_tensor=False)


class MissingArgumentError(TypeError):
    """An argument was left out; its function adds its name."""


def _explained(function: Callable[P, R], name: str, of_tensor: bool) -> Callable[P, R]:
    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs and "dtype" in kwargs:
            kwargs["dtype"] = as_dtype(name, kwargs["dtype"])
        try:
            return function(*args, **kwargs)
        except UntraceableError:
            raise
        except MissingArgumentError as error:
            raise TypeError(f"{name}() {error}") from None
        except Exception:
            problem = misfit(function, args, kwargs, of_tensor)
            if problem is None:
                raise
        raise TypeError(f"{name}(): {problem}")

    wrapper._is_explained = True  # type: ignore[attr-defined]  # so that none is wrapped twice
    return wrapper


def explain_all(namespace: dict[str, Any], names: Sequence[str]) -> None:
    """Explains the functions of a module that users call."""
    for name in names:
        if _explainable(namespace[name]):
            made = _explained(namespace[name], name, of_tensor=False)
            made.__module__, made.__qualname__ = namespace["__name__"], name  # where pickle looks
            namespace[name] = made


def explain_methods(*classes: type) -> None:
    """Explains the methods of classes; operators test their operands themselves."""
    for cls in classes:
        for name, value in list(vars(cls).items()):
            if not name.startswith("__") and _explainable(value):
                setattr(cls, name, _explained(value, name, of_tensor=True))


def _explainable(value: Any) -> bool:
    return inspect.isfunction(value) and not hasattr(value, "_is_explained")


# --- comparing ------------------------------------------------------------------------------------


def misfit(
    function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], of_tensor: bool
) -> str | None:
    """What is wrong with the first argument that does not have its type, if one does not."""
    signature = inspect.signature(function)
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError:
        return None
    for position, (name, parameter) in enumerate(signature.parameters.items(), 1 - of_tensor):
        if name not in given:
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            problem = _sizes_problem(name, position, given[name])
        else:
            problem = _problem(name, position, parameter, given[name])
        if problem is not None:
            return problem
    return None


def _problem(name: str, position: int, parameter: inspect.Parameter, value: Any) -> str | None:
    kinds = str(parameter.annotation).split(" | ")
    if not all(kind in _KINDS for kind in kinds) or any(_KINDS[kind][1](value) for kind in kinds):
        return None
    wanted = _KINDS[kinds[1] if len(kinds) > 1 and kinds[1] != "None" else kinds[0]][0]
    place = f" (position {position})" if parameter.kind is not parameter.KEYWORD_ONLY else ""
    return f"argument '{name}'{place} must be {wanted}, not {_type(value)}"


def _sizes_problem(name: str, position: int, values: Sequence[Any]) -> str | None:
    """Of sizes given one by one, or as one sequence."""
    if name not in ("size", "shape", "sizes", "repeats", "dims"):
        return None
    entries = values[0] if len(values) == 1 and isinstance(values[0], (tuple, list)) else values
    for number, entry in enumerate(entries):
        if _is_int(entry):
            continue
        if number == 0 and entries is values:
            return f"argument '{name}' (position {position}) must be tuple of ints, not " + _type(
                entry
            )
        return (
            f"argument '{name}' failed to unpack the object at pos {number + 1} with error "
            f'"type must be tuple of ints,but got {_type(entry)}"'
        )
    return None


def _type(value: object) -> str:
    return type(value).__name__


def _is_tensor(value: object) -> bool:
    return isinstance(value, TensorBase)


def _is_int(value: object) -> bool:
    return isinstance(value, (TensorBase, SymDim)) or hasattr(value, "__index__")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.generic, TensorBase, SymDim))


def _are(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, (tuple, list)) and all(map(fits, value))


def _are_tensors(value: object) -> bool:
    """Elements are named by the functions that take them."""
    return isinstance(value, Sequence) and not isinstance(value, str)


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "Tensor": ("Tensor", _is_tensor),
    "int": ("int", _is_int),
    "float": ("float", _is_number),
    "Scalar": ("Number", _is_number),
    "bool": ("bool", lambda value: isinstance(value, (bool, int, np.bool_))),
    "str": ("str", lambda value: isinstance(value, str)),
    "DType": ("torch.dtype", lambda value: isinstance(value, DType)),
    "Generator": ("torch.Generator", lambda value: hasattr(value, "draw")),
    "DimArgument": ("tuple of ints", lambda value: _is_int(value) or _are(_is_int)(value)),
    "Sequence[int]": ("tuple of ints", _are(_is_int)),
    "Sequence[Tensor]": ("tuple of Tensors", _are_tensors),
    "None": ("None", lambda value: value is None),
}
"""What an annotation is called in an error, and what fits it."""
