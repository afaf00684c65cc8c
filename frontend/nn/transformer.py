"""The encoder of a transformer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from ...compiler.dtypes import DType
from ..tensor import Tensor
from . import functional as F
from .attention import MultiheadAttention
from .container import ModuleList
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .normalization import LayerNorm

__all__ = ["TransformerEncoder", "TransformerEncoderLayer"]

Activation = Callable[[Tensor], Tensor]


class TransformerEncoderLayer(Module):
    """Attention and a small network at each position, each added to what comes in.

    Vaswani et al., arXiv 1706.03762; `norm_first` after Xiong et al., arXiv 2002.04745.

    Args:
        d_model: size of each position's vector, E.
        nhead: heads of the attention.
        dim_feedforward: size of the network's inner layer.
        dropout: the share to drop, in training.
        activation: "relu", "gelu", or a function of a tensor.
        layer_norm_eps: of both norms.
        batch_first: tensors are (N, L, E) rather than (L, N, E).
        norm_first: normalise what goes into both parts, rather than what comes out.
        bias: whether layers and norms add one.
        device: the CPU.
        dtype: of the parameters; the default one if left out.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        made: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout=dropout, batch_first=batch_first, **made
        )
        self.linear1 = Linear(d_model, dim_feedforward, **made)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, **made)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, eps=layer_norm_eps, **made)
        self.norm2 = LayerNorm(d_model, eps=layer_norm_eps, **made)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)
        self.activation = _activation(activation)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """`src` to the same shape; masks as `MultiheadAttention` takes them."""
        masks = src_mask, src_key_padding_mask, is_causal
        if self.norm_first:
            x = src + self._attended(self.norm1(src), *masks)
            result: Tensor = x + self._fed_forward(self.norm2(x))
        else:
            x = self.norm1(src + self._attended(src, *masks))
            result = self.norm2(x + self._fed_forward(x))
        return result

    def _attended(
        self, x: Tensor, mask: Tensor | None, padding: Tensor | None, is_causal: bool
    ) -> Tensor:
        gathered, _ = self.self_attn(
            x, x, x, padding, need_weights=False, attn_mask=mask, is_causal=is_causal
        )
        dropped: Tensor = self.dropout1(gathered)
        return dropped

    def _fed_forward(self, x: Tensor) -> Tensor:
        dropped: Tensor = self.dropout2(
            self.linear2(self.dropout(self.activation(self.linear1(x))))
        )
        return dropped


def _activation(given: str | Activation) -> Activation:
    if not isinstance(given, str):
        return given
    known: dict[str, Activation] = {"relu": F.relu, "gelu": F.gelu}
    if given not in known:
        raise RuntimeError(f"activation should be relu/gelu, not {given}")
    return known[given]


class TransformerEncoder(Module):
    """Copies of a layer, one after the other.

    Args:
        encoder_layer: what is copied.
        num_layers: how many times.
        norm: applied to the result.
        enable_nested_tensor, mask_check: accepted for PyTorch's sake.
    """

    def __init__(
        self,
        encoder_layer: TransformerEncoderLayer,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm
        self.enable_nested_tensor, self.mask_check = enable_nested_tensor, mask_check

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """`src` to the same shape; every layer takes the same masks."""
        x = src
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask, bool(is_causal))
        return x if self.norm is None else self.norm(x)
