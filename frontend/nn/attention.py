"""Attention with several heads."""

from __future__ import annotations

import math
from typing import Any

from ...compiler.dtypes import DType
from ..create import empty, zeros
from ..functions.joining import cat
from ..tensor import Tensor
from . import functional as F
from . import init
from .linear import Linear
from .module import Module
from .parameter import Parameter

__all__ = ["MultiheadAttention"]


class NonDynamicallyQuantizableLinear(Linear):
    """A `Linear` under the name that PyTorch prints."""


class MultiheadAttention(Module):
    """Attention in several subspaces at once (Vaswani et al., arXiv 1706.03762).

    Args:
        embed_dim: size of queries and results, E.
        num_heads: how many subspaces; it divides `embed_dim`.
        dropout: the share of the attention weights to drop in training.
        bias: whether the projections add one.
        add_bias_kv: append a learnt key and a learnt value to all others.
        add_zero_attn: append a key and a value of zeros.
        kdim, vdim: sizes of keys and values; E unless given.
        batch_first: tensors are (N, L, E) rather than (L, N, E).
        device: the CPU.
        dtype: of the parameters; the default one if left out.

    Raises:
        ValueError: a size is not positive.
        AssertionError: `num_heads` does not divide `embed_dim`.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(
                "embed_dim and num_heads must be greater than 0, got "
                f"embed_dim={embed_dim} and num_heads={num_heads} instead"
            )
        super().__init__()
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        self.head_dim = embed_dim // num_heads
        if self.head_dim * num_heads != embed_dim:
            raise AssertionError("embed_dim must be divisible by num_heads")

        def made(wanted: bool, *shape: int) -> Parameter | None:
            return Parameter(empty(shape, device=device, dtype=dtype)) if wanted else None

        one = self.kdim == self.vdim == embed_dim
        self.register_parameter("in_proj_weight", made(one, 3 * embed_dim, embed_dim))
        for name, size in (("q", embed_dim), ("k", self.kdim), ("v", self.vdim)):
            self.register_parameter(f"{name}_proj_weight", made(not one, embed_dim, size))
        self.register_parameter("in_proj_bias", made(bias, 3 * embed_dim))
        self.out_proj = NonDynamicallyQuantizableLinear(
            embed_dim, embed_dim, bias=bias, device=device, dtype=dtype
        )
        self.register_parameter("bias_k", made(add_bias_kv, 1, 1, embed_dim))
        self.register_parameter("bias_v", made(add_bias_kv, 1, 1, embed_dim))
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for weight in self._projections():
            init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)

    def _projections(self) -> list[Tensor]:
        """The weights of queries, keys and values: one for all three, or one for each."""
        if self.in_proj_weight is not None:
            return [self.in_proj_weight]
        return [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """What each query gathers from the values, and the weights by which it does.

        Args:
            query: (L, N, E), (N, L, E) if `batch_first`, or (L, E).
            key: the same with S for L, and `kdim` for E.
            value: the same with S for L, and `vdim` for E.
            key_padding_mask: (N, S), or (S): true where a key does not count, or numbers to add.
            need_weights: whether to return the weights; without them less is written to memory.
            attn_mask: (L, S), or (N * heads, L, S): true where a query does not see a key, or
                numbers to add.
            average_attn_weights: return the mean of the heads' weights, rather than each head's.
            is_causal: says that `attn_mask` is the causal one.

        Raises:
            RuntimeError: `is_causal` without `attn_mask`.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
        batched = query.dim() == 3
        q, k, v = (self._batch_first(t, batched) for t in (query, key, value))
        if key_padding_mask is not None and not batched:
            key_padding_mask = key_padding_mask.unsqueeze(0)
        mask = self._mask(q, key_padding_mask, attn_mask)
        q, k, v = self._projected(q, k, v)
        k, v, mask = self._extended(k, v, mask)
        q, k, v = (
            t.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for t in (q, k, v)
        )
        dropout, weights = self.dropout if self.training else 0.0, None
        if need_weights:
            scores = (q * math.sqrt(1 / self.head_dim)) @ k.transpose(-2, -1)
            weights = F.softmax(scores if mask is None else scores + mask, -1)
            weights = F.dropout(weights, dropout)
            gathered = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            gathered = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        result: Tensor = self.out_proj(gathered.transpose(1, 2).flatten(2))
        if not batched:
            return result.squeeze(0), None if weights is None else weights.squeeze(0)
        return result if self.batch_first else result.transpose(0, 1), weights

    def _batch_first(self, x: Tensor, batched: bool) -> Tensor:
        if not batched:
            return x.unsqueeze(0)
        return x if self.batch_first else x.transpose(0, 1)

    def _projected(self, *given: Tensor) -> list[Tensor]:
        """Queries, keys and values, all of size E."""
        weights = self._projections()
        if len(weights) == 1:
            weights = list(weights[0].chunk(3))
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [F.linear(x, w, b) for x, w, b in zip(given, weights, biases, strict=True)]

    def _mask(self, query: Tensor, padding: Tensor | None, mask: Tensor | None) -> Tensor | None:
        """Numbers to add to scores (N, heads, L, S), of a shape that broadcasts with theirs."""
        found = []
        if mask is not None:
            mask = _as_numbers(mask, query)
            found.append(mask.unflatten(0, (-1, self.num_heads)) if mask.dim() == 3 else mask)
        if padding is not None:
            found.append(_as_numbers(padding, query)[:, None, None, :])
        return found[0] + found[1] if len(found) == 2 else found[0] if found else None

    def _extended(
        self, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values with those that all queries see added at the end."""
        extra: list[tuple[Tensor, Tensor]] = []
        if self.bias_k is not None and self.bias_v is not None:
            extra.append((self.bias_k, self.bias_v))
        if self.add_zero_attn:
            extra.append((zeros(1, 1, self.embed_dim, dtype=k.dtype),) * 2)
        for more_k, more_v in extra:
            k, v = (
                cat([t, more.expand(t.size(0), 1, self.embed_dim)], 1)
                for t, more in ((k, more_k), (v, more_v))
            )
            mask = None if mask is None else F.pad(mask, (0, 1))
        return k, v, mask


def _as_numbers(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as what is to be added: -inf where a bool says that a key is not seen."""
    if mask.is_floating_point():
        return mask
    return zeros(mask.shape, dtype=like.dtype).masked_fill(mask, -math.inf)
