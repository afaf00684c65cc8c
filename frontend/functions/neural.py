"""Layers as functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...compiler import dtypes
from ...compiler.aval import SymDim
from ...compiler.primitives import elementwise as E
from ...compiler.primitives import index as I
from ...compiler.primitives import linalg as L
from ...compiler.primitives import movement as M
from ...compiler.primitives import reduce as R
from ..composition import Composition
from ..core import shape_of
from ..frames import place
from ..tape import apply
from .arithmetic import add
from .attention import scaled_dot_product_attention
from .checks import check_range
from .dropout import dropout
from .dtype_names import LEGACY_NAMES
from .labels import named
from .logic import chosen, eq
from .normalization import cosine_similarity, group_norm, layer_norm, normalize, rms_norm
from .operands import require_tensor
from .padding import pad
from .products import matmul, require_alike
from .shape import unsqueeze
from .sizes import same_size, stretches

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "cosine_similarity",
    "dropout",
    "embedding",
    "group_norm",
    "layer_norm",
    "linear",
    "normalize",
    "pad",
    "rms_norm",
    "scaled_dot_product_attention",
]


SMALL_WEIGHT = 4096
"""Elements of a weight up to which its product with a vector is a fused sum."""


def _affine(run: Any, x: Any, weight: Any, bias: Any, shape: Any) -> Any:
    product = run(L.matmul, x, run(M.transpose, weight, perm=(1, 0)))
    return run(E.add, product, run(M.broadcast, bias, dims=(1,), shape=shape))


_AFFINE = Composition("linear", _affine)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias.

    Args:
        input: (..., in).
        weight: (out, in).
        bias: (out), or whatever broadcasts with the result.

    Returns:
        (..., out).
    """
    require_tensor("linear", input)
    if _is_plain(input.array, weight.array, None if bias is None else bias.array):
        shape = input.array.shape[0], weight.array.shape[0]  # type: ignore[union-attr]  # arrays
        return named(apply(_AFFINE, input, weight, bias, shape=shape), "Addmm")  # type: ignore[arg-type]  # a tensor
    if input.ndim == 1 and weight.ndim == 2:
        return _of_vector(input, weight, bias)
    if not input.ndim or not weight.ndim:
        raise RuntimeError(
            f"both arguments to linear need to be at least 1D, but they are {input.ndim}D and "
            f"{weight.ndim}D"
        )
    turned = apply(M.transpose, weight, perm=(1, 0)) if weight.ndim == 2 else weight
    product = matmul(input, turned)
    if bias is None:
        return product
    return named(_plus_bias(product, bias), "Addmm" if input.ndim == 2 else "View")


def _is_plain(x: Any, weight: Any, bias: Any) -> bool:
    """Whether arrays of one floating dtype are a matrix each, and a bias for each column."""
    if x is None or weight is None or bias is None or not x.ndim == weight.ndim == 2:
        return False
    fits = x.shape[1] == weight.shape[1] and bias.shape == (weight.shape[0],)
    return bool(fits and x.dtype == weight.dtype == bias.dtype and x.dtype.kind == "f")


def _of_vector(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """One product of the weight with a column."""
    (inner,), (rows, columns) = shape_of(input), shape_of(weight)
    if not same_size(inner, columns):
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied (1x{inner} and {columns}x{rows}){place()}"
        )
    require_alike(input, weight)
    elements = rows * columns
    if not isinstance(elements, SymDim) and elements <= SMALL_WEIGHT:
        product = _in_order(input, weight)
    else:
        column = apply(L.matmul, weight, apply(M.reshape, input, shape=(inner, 1)))
        product = apply(M.reshape, column, shape=(rows,))
    if bias is None:
        return named(product, "SqueezeBackward4")
    return named(_plus_bias(product, bias), "View")


def _in_order(input: Tensor, weight: Tensor) -> Tensor:
    """The product of a small weight with a vector as a sum over rows of the transpose.

    A sum along a dimension that is not the last is taken in order, each product rounded, which is
    how PyTorch multiplies small matrices with vectors; and it fuses with what comes before and
    after.
    """
    rows, columns = shape_of(weight)
    spread = apply(M.broadcast, input, dims=(0,), shape=(columns, rows))
    terms = apply(E.mul, apply(M.transpose, weight, perm=(1, 0)), spread)
    return apply(R.reduce_sum, terms, dims=(0,))


def _plus_bias(product: Tensor, bias: Tensor) -> Tensor:
    if shape_of(bias) == shape_of(product):
        return apply(E.add, product, bias) if bias.dtype is product.dtype else add(product, bias)
    shape, given = shape_of(product), shape_of(bias)
    if given and not stretches(given[-1], shape[-1]):
        target = [1, *shape] if len(shape) == 1 else list(shape)
        raise RuntimeError(
            f"The expanded size of the tensor ({shape[-1]}) must match the existing size "
            f"({given[-1]}) at "
            f"non-singleton dimension {len(target) - 1}.  Target sizes: {target}.  Tensor sizes: "
            f"{list(given)}{place()}"
        )
    return add(product, bias)


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of `weight`, (entries, size), at the positions in `input`.

    `padding_idx`: a row that gets no gradient.

    Raises:
        IndexError: a position is out of range (in a trace: when the program runs).
    """
    if max_norm is not None or scale_grad_by_freq:
        raise NotImplementedError("embedding: max_norm and scale_grad_by_freq are not implemented")
    if weight.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    if input.dtype not in (dtypes.i64, dtypes.i32):
        raise RuntimeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: "
            "Long, "
            f"Int; but got torch.{LEGACY_NAMES[input.dtype.long_name]}Tensor instead (while "
            "checking "
            "arguments for embedding)"
        )
    entries = shape_of(weight)[0]
    check_range(input, 0, entries, IndexError, "index out of range in self")
    rows = apply(I.take, weight, input)
    if padding_idx is not None:
        rows = _without_gradient_at(rows, input, _wrapped_padding(padding_idx, entries))
    return named(rows, "Embedding")


def _wrapped_padding(index: int, entries: Any) -> int:
    if not -entries <= index < entries:
        raise AssertionError("Padding_idx must be within num_embeddings")
    return index % entries  # type: ignore[no-any-return]  # an int: entries is a known size


def _without_gradient_at(rows: Tensor, index: Tensor, padding: int) -> Tensor:
    is_padding = unsqueeze(eq(index, padding), -1)
    return chosen(is_padding, rows.detach(), rows)
