"""Attention."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...compiler import dtypes
from ...compiler.aval import Dim, SymDim
from ...compiler.primitives import create
from ...compiler.primitives import elementwise as E
from ..core import shape_of
from ..frames import place
from ..tape import apply
from .activation import softmax
from .arithmetic import add, mul
from .dropout import dropout
from .extremes import amax
from .joining import repeat_interleave
from .logic import chosen, eq
from .products import matmul
from .shape import transpose

if TYPE_CHECKING:
    from ..tensor import Tensor


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query @ key.T * scale + mask) @ value (Vaswani et al., arXiv 1706.03762).

    Args:
        query: (..., L, E).
        key: (..., S, E).
        value: (..., S, Ev).
        attn_mask: bools (which keys count) or numbers to add, broadcast to (..., L, S).
        dropout_p: the share of the attention weights to drop.
        is_causal: let each position see only those before it and itself.
        scale: 1 / sqrt(E) unless given.
        enable_gqa: let each head of `key` and `value`, (..., heads, S, E), serve several of `query`
            (Ainslie et al., arXiv 2305.13245).
    """
    if is_causal and attn_mask is not None:
        raise RuntimeError(
            "_scaled_dot_product_attention: Explicit attn_mask should not be set when "
            "is_causal=True"
        )
    if enable_gqa:
        key, value = _shared_heads(query, key), _shared_heads(query, value)
    factor = 1 / math.sqrt(shape_of(query)[-1]) if scale is None else scale
    scores = mul(matmul(query, transpose(key, -2, -1)), factor)
    if is_causal:
        attn_mask = _causal(shape_of(query)[-2], shape_of(key)[-2])
    if attn_mask is not None:
        scores = _masked(scores, attn_mask)
    weights = softmax(scores, -1)
    if attn_mask is not None and not is_causal:
        unseeing = eq(amax(scores.detach(), -1, keepdim=True), -math.inf)
        weights = chosen(unseeing, 0.0, weights)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    return matmul(weights, value)


def _shared_heads(query: Tensor, x: Tensor) -> Tensor:
    """Each head of `x` as often as there are heads of `query` for it."""
    heads, own = (shape_of(t)[-3] if t.ndim > 2 else 0 for t in (query, x))
    if isinstance(heads, SymDim) or isinstance(own, SymDim) or not own or heads % own:
        raise RuntimeError(
            "scaled_dot_product_attention: with enable_gqa=True the number of heads of query, "
            f"{list(shape_of(query))}, must be a multiple of that of key and value, "
            f"{list(shape_of(x))}{place()}"
        )
    return repeat_interleave(x, heads // own, -3)


def _causal(rows: Dim, columns: Dim) -> Tensor:
    shape = (rows, columns)
    row = apply(create.iota, dim=0, dtype=dtypes.i64, shape=shape)
    return apply(E.le, apply(create.iota, dim=1, dtype=dtypes.i64, shape=shape), row)


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    if mask.dtype is dtypes.boolean:
        return chosen(mask, scores, -math.inf)
    return add(scores, mask)
