"""Handwritten digits: a classifier trained on the 1797 real 8x8 images in `examples/data`.

python examples/digits.py [--epochs 60] [--batch 64] [--seed 0]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.progress import track

import taut
from taut import Tensor, nn, optim

DATA = Path(__file__).parent / "data" / "digits.npz"
TEST_IMAGES = 360
BARS = " ▁▂▃▄▅▆▇█"


def load(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images as rows of 64 numbers in [0, 1] and labels, shuffled and split: train, then test."""
    with np.load(DATA) as archive:
        images, labels = archive["images"], archive["labels"]
    order = np.random.default_rng(seed).permutation(len(images))
    x = taut.from_numpy(images[order].reshape(-1, 64).astype(np.float32) / 16)
    y = taut.from_numpy(labels[order].astype(np.int64))
    return x[TEST_IMAGES:], y[TEST_IMAGES:], x[:TEST_IMAGES], y[:TEST_IMAGES]


def make_step() -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]:
    """A model and the function that trains it on one batch."""
    model = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    optimizer = optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    criterion = nn.CrossEntropyLoss()

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, step


def batches(
    x: Tensor, y: Tensor, size: int, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image once, in a new order, in full batches."""
    order = rng.permutation(len(x))
    for start in range(0, len(x) - size + 1, size):
        chosen = order[start : start + size]
        yield taut.from_numpy(x.numpy()[chosen]), taut.from_numpy(y.numpy()[chosen])


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of images whose largest output is at their label."""
    with taut.no_grad():
        return float((model(x).argmax(1) == y).float().mean().item())


def curve(losses: list[float], width: int = 60) -> str:
    """The losses as a line of bars on a logarithmic scale."""
    means = [float(np.mean(part)) for part in np.array_split(np.log(losses), width)]
    low, high = min(means), max(means)
    return "".join(BARS[round((m - low) / (high - low or 1) * (len(BARS) - 1))] for m in means)


def microseconds(step: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, n: int) -> float:
    """Median time of a step."""
    times = []
    for _ in range(n):
        start = time.perf_counter()
        step(x, y)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    train_x, train_y, test_x, test_y = load(options.seed)
    taut.manual_seed(options.seed)
    model, eager_step = make_step()
    step = taut.compile(eager_step)

    start = time.perf_counter()
    step(train_x[: options.batch], train_y[: options.batch])
    first = time.perf_counter() - start

    rng = np.random.default_rng(options.seed)
    losses: list[float] = []
    for _ in track(range(options.epochs), description="training"):
        for x, y in batches(train_x, train_y, options.batch, rng):
            losses.append(step(x, y).item())

    print(f"loss     {curve(losses)}  {losses[0]:.3f} -> {losses[-1]:.5f}")
    print(f"accuracy {accuracy(model, test_x, test_y):.1%} on {TEST_IMAGES} images not trained on")
    x, y = train_x[: options.batch], train_y[: options.batch]
    eager, compiled = microseconds(eager_step, x, y, 50), microseconds(step, x, y, 500)
    print(
        f"a step   {eager:.0f} us eager, {compiled:.0f} us compiled ({eager / compiled:.1f} times)"
    )
    stats = step.stats()
    print(
        f"compiled {stats['traces']} graph in {first:.2f} s, {stats['native_calls']} native calls"
    )


if __name__ == "__main__":
    main()
