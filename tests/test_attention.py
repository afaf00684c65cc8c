"""Attention with several heads and the encoder of a transformer: PyTorch's numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import taut
from taut import nn
from taut.nn import functional as F

N, L, S, E, HEADS = 2, 3, 4, 8, 2
TOLERANCE = 2e-5
"""Relative to 1: float32 sums of up to 24 products of numbers around 1, a few of them in a row."""

Numbers = np.ndarray[Any, Any]


def numbers(*shape: int) -> Numbers:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def both(make: Any) -> tuple[Any, Any, Any]:
    """A module of taut's and of PyTorch's, made after the same seed, and torch."""
    torch = pytest.importorskip("torch")
    taut.manual_seed(0)
    torch.manual_seed(0)
    return make(nn), make(torch.nn), torch


def assert_same(ours: Any, theirs: Any, what: str) -> None:
    if theirs is None:
        assert ours is None, what
        return
    assert tuple(ours.shape) == tuple(theirs.shape), what
    np.testing.assert_allclose(
        ours.detach().numpy(), theirs.detach().numpy(), rtol=TOLERANCE, atol=TOLERANCE, err_msg=what
    )


def assert_same_training(
    ours: Any, theirs: Any, call: Any, given: list[Numbers], torch: Any
) -> None:
    """Results, and gradients of inputs and parameters; then the same compiled."""
    own = [taut.from_numpy(x.copy()).requires_grad_() for x in given]
    other = [torch.from_numpy(x.copy()).requires_grad_() for x in given]
    found, wanted = call(ours, own, taut), call(theirs, other, torch)
    for a, b in zip(found, wanted, strict=True):
        assert_same(a, b, "result")
    (found[0] * taut.from_numpy(numbers(*found[0].shape))).sum().backward()
    (wanted[0] * torch.from_numpy(numbers(*wanted[0].shape))).sum().backward()
    for a, b in zip(own, other, strict=True):
        assert_same(a.grad, b.grad, "gradient of an input")
    pairs = zip(ours.named_parameters(), theirs.named_parameters(), strict=True)
    for (name, a), (known, b) in pairs:
        assert name == known
        assert_same(a, b, name)
        assert_same(a.grad, b.grad, f"gradient of {name}")
    compiled = taut.compile(lambda *given: call(ours, given, taut))
    with taut.no_grad():
        for a, b in zip(compiled(*own), found, strict=True):
            assert_same(a, b, "compiled")


def attention_inputs(batch_first: bool = False, sizes: tuple[int, int] = (E, E)) -> list[Numbers]:
    shapes = [(L, N, E), (S, N, sizes[0]), (S, N, sizes[1])]
    return [numbers(*((n, m, e) if not batch_first else (m, n, e))) for n, m, e in shapes]


OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"batch_first": True},
    {"add_bias_kv": True, "add_zero_attn": True},
    {"kdim": 5, "vdim": 3},
]


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_multihead_attention(options: dict[str, Any], need_weights: bool) -> None:
    ours, theirs, torch = both(lambda nn: nn.MultiheadAttention(E, HEADS, **options))
    sizes = options.get("kdim", E), options.get("vdim", E)
    given = attention_inputs(options.get("batch_first", False), sizes)

    def call(module: Any, inputs: Any, library: Any) -> Any:
        return module(*inputs, need_weights=need_weights)

    assert_same_training(ours, theirs, call, given, torch)
    assert repr(ours) == repr(theirs)


MASKS: dict[str, Any] = {
    "attn_mask": np.triu(np.ones((L, S), bool), 2),
    "attn_mask of numbers": numbers(L, S),
    "attn_mask of each head": numbers(N * HEADS, L, S),
    "key_padding_mask": np.array([[False, False, True, True], [False] * 4]),
}


@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True}], ids=str)
@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str, options: dict[str, Any]) -> None:
    ours, theirs, torch = both(lambda nn: nn.MultiheadAttention(E, HEADS, **options))

    def call(module: Any, inputs: Any, library: Any) -> Any:
        mask = {name.partition(" ")[0]: library.from_numpy(MASKS[name])}
        return module(*inputs, average_attn_weights=False, **mask)

    assert_same_training(ours, theirs, call, attention_inputs(), torch)


def test_without_a_batch() -> None:
    ours, theirs, torch = both(lambda nn: nn.MultiheadAttention(E, HEADS))

    def call(module: Any, inputs: Any, library: Any) -> Any:
        padding = library.from_numpy(MASKS["key_padding_mask"][0])
        return module(*inputs, key_padding_mask=padding)

    assert_same_training(ours, theirs, call, [x[:, 0] for x in attention_inputs()], torch)


LAYERS: list[dict[str, Any]] = [
    {"activation": "gelu", "batch_first": True},
    {"norm_first": True, "bias": False},
]


@pytest.mark.parametrize("options", LAYERS, ids=str)
def test_transformer_encoder(options: dict[str, Any]) -> None:
    def make(nn: Any) -> Any:
        layer = nn.TransformerEncoderLayer(E, HEADS, 12, dropout=0.0, **options)
        return nn.TransformerEncoder(layer, 2, nn.LayerNorm(E), enable_nested_tensor=False)

    ours, theirs, torch = both(make)

    def call(module: Any, inputs: Any, library: Any) -> Any:
        mask = library.triu(library.ones(L, L), 1) > 0
        return [module(*inputs, mask=mask, is_causal=True)]

    given = numbers(N, L, E) if options.get("batch_first") else numbers(L, N, E)
    assert_same_training(ours, theirs, call, [given], torch)


def test_dropout_draws_the_numbers_of_pytorch() -> None:
    _, _, torch = both(lambda nn: nn.Identity())
    q = numbers(N, HEADS, L, E)
    taut.manual_seed(1)
    torch.manual_seed(1)
    x, y = taut.from_numpy(q), torch.from_numpy(q)
    ours = F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)
    theirs = torch.nn.functional.scaled_dot_product_attention(y, y, y, dropout_p=0.5)
    assert_same(ours, theirs, "dropout")


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(AssertionError, match="embed_dim must be divisible by num_heads"):
        nn.MultiheadAttention(5, 2)
    with pytest.raises(ValueError, match="must be greater than 0"):
        nn.MultiheadAttention(0, 2)
    x = taut.ones(3, 4)
    with pytest.raises(RuntimeError, match="Need attn_mask if specifying the is_causal hint"):
        nn.MultiheadAttention(4, 2)(x, x, x, is_causal=True)
    with pytest.raises(RuntimeError, match="activation should be relu/gelu, not tanh"):
        nn.TransformerEncoderLayer(4, 2, activation="tanh")
    with pytest.raises(RuntimeError, match=r"must be a multiple of that of key and value, \[1, 2"):
        F.scaled_dot_product_attention(
            taut.ones(1, 3, 2, 4), taut.ones(1, 2, 2, 4), taut.ones(1, 2, 2, 4), enable_gqa=True
        )
