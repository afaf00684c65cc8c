"""A character-level GPT: trained on a book, it writes on in its manner.

python examples/gpt.py [--layers 4] [--heads 4] [--width 128] [--block 64] [--batch 12]
                       [--steps 2000] [--dropout 0.0] [--lr 1e-3] [--seed 0] [--no-compile]
                       [--text FILE] [--prompt TEXT] [--sample 500] [--temperature 0.8] [--top-k 10]

The model is Radford et al.'s GPT-2 (2019) made small; a step (forward, backward, clipping, AdamW)
is one native call.  With `torch` for `taut` in the imports it is a PyTorch program.
"""

from __future__ import annotations

import argparse
import lzma
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import taut
from taut import Tensor, nn, optim
from taut.nn import functional as F

DATA = Path(__file__).parent / "data" / "rust_book.txt.xz"
HELD_OUT = 0.1
BETAS, DECAY, CLIP = (0.9, 0.99), 0.1, 1.0


@dataclass(frozen=True)
class Config:
    """Sizes of a model: `vocabulary` different tokens, `block` of them at a time."""

    vocabulary: int
    layers: int = 4
    heads: int = 4
    width: int = 128
    block: int = 64
    dropout: float = 0.0


# --- the model ------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Each position gathers from those before it what it asks for, once for every head."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.project = nn.Linear(config.width, config.width)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, block, width) to the same."""
        batch, block, width = x.size()
        q, k, v = (
            part.view(batch, block, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(x).split(width, dim=2)
        )
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        y = y.transpose(1, 2).contiguous().view(batch, block, width)
        gathered: Tensor = self.drop(self.project(y))
        return gathered


class Block(nn.Module):
    """A layer: attention, then a small network at each position, both added to what comes in."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention = Attention(config)
        self.network = nn.Sequential(
            nn.Linear(config.width, 4 * config.width),
            nn.GELU(),
            nn.Linear(4 * config.width, config.width),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, block, width) to the same."""
        x = x + self.attention(self.norm1(x))
        x = x + self.network(self.norm2(x))
        return x  # noqa: RET504  # one line for each part


class GPT(nn.Module):
    """Tokens (batch, block) to logits of the token after each of them (batch, block, vocabulary).

    The embedding of tokens is also the last layer's weight.
    """

    positions: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.places = nn.Embedding(config.block, config.width)
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        self.register_buffer("positions", taut.arange(config.block), persistent=False)
        self.apply(_start)
        for name, parameter in self.named_parameters():
            if name.endswith(("project.weight", "network.2.weight")):  # what residuals sum up
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.layers))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the tokens after `x`."""
        h = self.drop(self.tokens(x) + self.places(self.positions[: x.size(1)]))
        for block in self.blocks:
            h = block(h)
        logits: Tensor = self.head(self.norm(h))
        return logits


def _start(module: nn.Module) -> None:
    """GPT-2's starting values."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


# --- training -------------------------------------------------------------------------------------

Step = Callable[[Tensor, Tensor], Tensor]


def loss_of(forward: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Mean cross entropy of the tokens `y` that follow those in `x`."""
    logits = forward(x)
    return F.cross_entropy(logits.view(-1, logits.size(-1)), y.view(-1))


def make_optimizer(model: nn.Module, lr: float) -> optim.AdamW:
    """AdamW: matrices decay, biases and the norms' weights do not."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return optim.AdamW(groups, lr=lr, betas=BETAS)


def make_step(model: nn.Module, optimizer: optim.AdamW) -> Step:
    """The function that trains the model on one batch and returns the loss before."""

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return loss

    return step


def rate(step: int, steps: int, highest: float) -> float:
    """A linear rise over the first twentieth of the steps, then half a cosine to a tenth."""
    rise = max(1, steps // 20)
    if step < rise:
        return highest * (step + 1) / rise
    share = (step - rise) / max(1, steps - rise)
    return highest * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


def mean_loss(
    forward: Callable[[Tensor], Tensor], data: Iterator[tuple[Tensor, Tensor]], count: int
) -> float:
    """The mean loss over `count` batches, without training."""
    with taut.no_grad():
        return float(np.mean([loss_of(forward, *next(data)).item() for _ in range(count)]))


# --- text -----------------------------------------------------------------------------------------


class Text:
    """A text as tokens, one for each different character.

    Attributes:
        characters: by token.
        train, held_out: the tokens of the text's two parts.
    """

    def __init__(self, text: str) -> None:
        self.characters = sorted(set(text))
        self._tokens = {character: token for token, character in enumerate(self.characters)}
        tokens = self.encode(text)
        border = len(tokens) - round(HELD_OUT * len(tokens))
        self.train, self.held_out = tokens[:border], tokens[border:]

    def encode(self, text: str) -> np.ndarray:
        """Tokens of the characters; those that are not in the text are left out."""
        known = [self._tokens[c] for c in text if c in self._tokens]
        return np.array(known, np.int64)


def batches(
    tokens: np.ndarray, batch: int, block: int, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces of the text from random places, and the same shifted by one, forever."""
    while True:
        starts = rng.integers(0, len(tokens) - block, size=(batch, 1))
        pieces = tokens[starts + np.arange(block + 1)]
        x, y = np.ascontiguousarray(pieces[:, :-1]), np.ascontiguousarray(pieces[:, 1:])
        yield taut.from_numpy(x), taut.from_numpy(y)


def load(file: Path) -> Text:
    """A text file, compressed by xz or not."""
    data = file.read_bytes()
    return Text((lzma.decompress(data) if file.suffix == ".xz" else data).decode())


# --- sampling -------------------------------------------------------------------------------------


def sample(
    forward: Callable[[Tensor], Tensor],
    start: np.ndarray,
    count: int,
    block: int,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> Iterator[int]:
    """Tokens that go on from `start`, each drawn with the probability that the model gives it.

    `top_k`: only the likeliest tokens are drawn from.  The window always has `block` tokens, so
    that one program serves: what follows a position does not change its logits.
    """
    window = np.zeros((1, block), np.int64)
    known = list(start[-block:]) or [0]
    for _ in range(count):
        window[0, : len(known)] = known
        with taut.no_grad():
            logits = forward(taut.from_numpy(window.copy()))[0, len(known) - 1] / temperature
            if top_k is not None:
                least = taut.topk(logits, min(top_k, logits.size(0))).values[-1]
                logits = logits.masked_fill(logits < least, -math.inf)
            token = int(taut.multinomial(F.softmax(logits, dim=-1), num_samples=1).item())
        yield token
        known = [*known, token][-block:]


# --- the program ----------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--block", type=int, default=64, help="tokens that the model sees at once")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--lr", type=float, default=1e-3, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-compile", action="store_true", help="run eagerly")
    parser.add_argument("--text", type=Path, default=DATA, help="a file to learn from")
    parser.add_argument("--prompt", default="\n\n", help="what the sample goes on from")
    parser.add_argument("--sample", type=int, default=500, help="characters to write")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-k", type=int, default=10)
    return parser.parse_args()


def train(
    step: Step, optimizer: optim.AdamW, data: Iterator[tuple[Tensor, Tensor]], steps: int, lr: float
) -> list[float]:
    """The losses of all steps."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    losses: list[float] = []
    with Progress(TextColumn("training"), *columns) as progress:
        task = progress.add_task("training", total=steps, note="compiling")
        for number in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = rate(number, steps, lr)
            losses.append(step(*next(data)).item())
            progress.update(task, advance=1, note=f"loss {np.mean(losses[-50:]):.3f}")
    return losses


def main() -> None:
    options = arguments()
    text = load(options.text)
    taut.manual_seed(options.seed)
    sizes = {n: getattr(options, n) for n in ("layers", "heads", "width", "block", "dropout")}
    model = GPT(Config(len(text.characters), **sizes))
    optimizer = make_optimizer(model, options.lr)
    step, forward = make_step(model, optimizer), model
    if not options.no_compile:
        step, forward = taut.compile(step), taut.compile(model)

    count = sum(p.numel() for p in model.parameters())
    print(f"{count:,} parameters, {len(text.train):,} characters to learn from")
    rng = np.random.default_rng(options.seed)
    start = time.perf_counter()
    data = batches(text.train, options.batch, options.block, rng)
    losses = train(step, optimizer, data, options.steps, options.lr)
    taken = time.perf_counter() - start
    print(f"loss {losses[0]:.3f} -> {np.mean(losses[-50:]):.3f} in {taken:.1f} s")
    if hasattr(step, "stats"):
        print(f"step {step.stats()}")

    model.eval()
    data = batches(text.held_out, options.batch, options.block, rng)
    print(f"loss {mean_loss(forward, data, 50):.3f} on text not learned from")
    start_tokens = text.encode(options.prompt)
    tokens = sample(
        forward, start_tokens, options.sample, options.block, options.temperature, options.top_k
    )
    print(options.prompt + "".join(text.characters[token] for token in tokens))


if __name__ == "__main__":
    main()
