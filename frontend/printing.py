"""Printing tensors as PyTorch prints them, character for character, from NumPy arrays.

Printing runs in four steps, each its own section below: take the part of the array that is shown
(edges only, when it is large), spell its elements in one common notation, lay the cells out in
nested brackets, and add the suffixes (`dtype=...`, `grad_fn=...`) that the elements do not tell.
Nothing but the part that is shown is ever read or copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..compiler import dtypes
from ..compiler.dtypes import DType

_PREFIX = "tensor("
_GAP = "..."
_WHOLE = "#.0f"  # "5." but "nan"


# Options


@dataclass(frozen=True, slots=True)
class PrintOptions:
    """How tensors are printed; the names and defaults are those of `torch.set_printoptions`.

    Attributes:
        precision: Digits after the decimal point.
        threshold: Elements above which only the edges are shown; `math.inf` for never.
        edgeitems: Elements shown at either end of a dimension that is cut short.
        linewidth: Columns after which lines are broken.
        sci_mode: Whether floats are in scientific notation; None to decide by their magnitudes.

    Raises:
        ValueError: `precision` or `edgeitems` is negative or not an integer.
    """

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None

    def __post_init__(self) -> None:
        for name in ("precision", "edgeitems"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"set_printoptions: {name} must be an integer >= 0, got {value!r}")


_PROFILES: dict[str, PrintOptions] = {
    "default": PrintOptions(),
    "short": PrintOptions(precision=2, edgeitems=2),
    "full": PrintOptions(threshold=math.inf),
}


class _Holder:
    """The options now in force: the one piece of state in this module."""

    __slots__ = ("current",)

    def __init__(self) -> None:
        self.current = PrintOptions()


_holder = _Holder()


def get_printoptions() -> PrintOptions:
    """The options that `repr` of a tensor follows now."""
    return _holder.current


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Change how tensors are printed, as `torch.set_printoptions`.

    What is None stays as it is, or as `profile` has it, but for `sci_mode`: each call sets that, so
    that a call without it goes back to choosing the notation by the elements.

    Args:
        precision: Digits after the decimal point.
        threshold: Elements above which only the edges are shown.
        edgeitems: Elements shown at either end of a dimension that is cut short.
        linewidth: Columns after which lines are broken.
        profile: "default", "short" (two digits, two edge items) or "full" (never only the edges).
        sci_mode: True or False to force scientific notation on or off, None to choose.

    Raises:
        ValueError: The profile is unknown (PyTorch ignores it), or an option is out of range.
    """
    if profile is not None and profile not in _PROFILES:
        known = ", ".join(repr(name) for name in _PROFILES)
        raise ValueError(f"set_printoptions: unknown profile {profile!r}; use one of {known}")
    start = _holder.current if profile is None else _PROFILES[profile]
    given = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    _holder.current = replace(start, **changes, sci_mode=sci_mode)


# Entry points


def format_tensor(
    array: npt.NDArray[Any],
    *,
    dtype: DType,
    requires_grad: bool = False,
    grad_fn: str | None = None,
    is_parameter: bool = False,
    default_float: DType = dtypes.f32,
    options: PrintOptions | None = None,
) -> str:
    """What `repr` of the tensor is in PyTorch.

    Args:
        array: The elements, of any shape; only the part that is shown is read.
        dtype: Their type; `array` is of its NumPy type.
        requires_grad: Whether gradients flow to the tensor; shown if there is no `grad_fn`.
        grad_fn: Name of the function that made the tensor, without brackets: "AddBackward0".
        is_parameter: Whether it is an `nn.Parameter`, which is printed under a line saying so.
        default_float: The float type that goes without saying (`set_default_dtype`).
        options: Print options; None for those set by `set_printoptions`.

    Returns:
        The text, with lines broken but no newline at its end.
    """
    options = _holder.current if options is None else options
    text = _PREFIX + _body(array, dtype, options)
    suffixes = _suffixes(array, dtype, default_float, options)
    if grad_fn is not None:
        suffixes.append(f"grad_fn=<{grad_fn}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    text = _with_suffixes(text, suffixes, options.linewidth) + ")"
    return f"Parameter containing:\n{text}" if is_parameter else text


def format_scalar(
    tensor: object, array: npt.NDArray[Any], format_spec: str, *, is_parameter: bool = False
) -> str:
    """What `Tensor.__format__` returns: of a 0-d tensor its element, formatted.

    Args:
        tensor: The tensor itself, for its `str` and the name of its type.
        array: Its elements.
        format_spec: What stands after the colon in `f"{t:.3f}"`.
        is_parameter: Whether it is an `nn.Parameter`, formatted as any object even when 0-d.

    Raises:
        TypeError: A `format_spec` for a tensor that is not 0-d, or for a parameter.
        ValueError: A `format_spec` that the element's Python type does not know.
    """
    if array.ndim == 0 and not is_parameter:
        return format(array.item(), format_spec)
    return object.__format__(tensor, format_spec)


# The part that is shown


def _shown(
    array: npt.NDArray[Any], options: PrintOptions
) -> tuple[npt.NDArray[Any], tuple[bool, ...]]:
    """The elements to print, and for each dimension whether its middle was left out."""
    edge = options.edgeitems
    if array.size <= options.threshold:
        return array, (False,) * array.ndim
    cut = tuple(size > 2 * edge for size in array.shape)
    if not any(cut):
        return array, cut
    ends = [
        np.r_[0:edge, size - edge : size] if is_cut else np.arange(size)
        for size, is_cut in zip(array.shape, cut, strict=True)
    ]
    return array[np.ix_(*ends)], cut


# Elements to cells, in one notation


def _cells(array: npt.NDArray[Any], dtype: DType, options: PrintOptions) -> tuple[list[str], int]:
    """Each element of `array`, in row-major order, padded to a width; and that width."""
    if dtype.is_floating_point:
        cells, width = _float_cells(array.astype(np.float64).ravel(), options)
    else:
        cells = [str(value) for value in array.ravel().tolist()]
        width = max(map(len, cells))
    return [cell.rjust(width) for cell in cells], width


def _float_cells(values: npt.NDArray[np.float64], options: PrintOptions) -> tuple[list[str], int]:
    """Spell floats in the notation that the finite, non-zero ones among them ask for.

    The width is theirs alone, so that a NaN or a negative zero may stick out, as in PyTorch.
    """
    telling = np.isfinite(values) & (values != 0)
    notation = _notation(values[telling], options)
    cells = [format(value, notation) for value in values.tolist()]
    widths = (len(cell) for cell, counts in zip(cells, telling.tolist(), strict=True) if counts)
    return cells, max(widths, default=1)


def _notation(values: npt.NDArray[np.float64], options: PrintOptions) -> str:
    """The format specification for `values`: scientific, whole (`5.`) or fixed-point."""
    if values.size == 0:
        return _WHOLE
    magnitudes = np.abs(values)
    low, high = float(magnitudes.min()), float(magnitudes.max())
    whole = bool((np.trunc(values) == values).all())
    scientific = options.sci_mode
    if scientific is None:
        scientific = high / low > 1e3 or high > 1e8 or (low < 1e-4 and not whole)
    if scientific:
        return f".{options.precision}e"
    return _WHOLE if whole else f".{options.precision}f"


# Layout: cells in brackets, gaps where elements were left out


def _body(array: npt.NDArray[Any], dtype: DType, options: PrintOptions) -> str:
    """The brackets and what is in them, or the bare element of a 0-d tensor."""
    if array.size == 0:
        return "[]"
    shown, cut = _shown(array, options)
    if shown.size == 0:  # no edge items to show
        return f"[{_GAP}]"
    cells, width = _cells(shown, dtype, options)
    if array.ndim == 0:
        return cells[0]
    columns = options.linewidth - len(_PREFIX) - (array.ndim - 1)
    layout = _Layout(options.edgeitems, max(1, math.floor(columns / (width + len(", ")))))
    return layout.nested(cells, shown.shape, cut, indent=len(_PREFIX))


@dataclass(frozen=True, slots=True)
class _Layout:
    """How cells are set out: how many stand before a gap, and how many fit in a line."""

    edgeitems: int
    per_line: int

    def nested(
        self, cells: list[str], shape: tuple[int, ...], cut: tuple[bool, ...], indent: int
    ) -> str:
        """Lay out `cells` as an array of `shape`; `indent` is the column of the opening bracket."""
        if len(shape) == 1:
            return self.innermost(cells, cut[0], indent)
        size = len(cells) // shape[0]
        parts = [
            self.nested(cells[at : at + size], shape[1:], cut[1:], indent + 1)
            for at in range(0, len(cells), size)
        ]
        if cut[0]:
            parts.insert(self.edgeitems, _GAP)
        between = "," + "\n" * (len(shape) - 1) + " " * (indent + 1)
        return f"[{between.join(parts)}]"

    def innermost(self, cells: list[str], cut: bool, indent: int) -> str:
        if cut:
            cells = [*cells[: self.edgeitems], f" {_GAP}", *cells[self.edgeitems :]]
        lines = [
            ", ".join(cells[at : at + self.per_line]) for at in range(0, len(cells), self.per_line)
        ]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


# Suffixes


def _suffixes(
    array: npt.NDArray[Any], dtype: DType, default_float: DType, options: PrintOptions
) -> list[str]:
    """The shape and the dtype, where the elements as printed do not imply them."""
    implied = (default_float,) if array.size == 0 else (default_float, dtypes.i64, dtypes.boolean)
    size_hidden = array.ndim != 1 if array.size == 0 else options.edgeitems == 0
    suffixes = [f"size={array.shape}"] if size_hidden else []
    return suffixes if dtype in implied else [*suffixes, f"dtype={dtype!r}"]


def _with_suffixes(text: str, suffixes: Sequence[str], linewidth: int) -> str:
    """Append each suffix on the same line if it fits in `linewidth`, else on the next."""
    column = len(text) - (text.rfind("\n") + 1) + len(", ")
    for suffix in suffixes:
        if column + len(suffix) + len(", ") > linewidth:
            text += ",\n" + " " * len(_PREFIX) + suffix
            column = len(_PREFIX) + len(suffix)
        else:
            text += ", " + suffix
            column += len(suffix) + len(", ")
    return text
