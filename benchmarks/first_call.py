"""The first call of the GPT's training step, by peer and number of layers.

Every sample is a new process, with a disk cache of its own for taut.  The losses of the first five
steps are compared before anything is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

STEPS = 5
TOLERANCE = 1e-4
"""Relative: float32 sums in different orders, through five steps of AdamW."""


class Sample(NamedTuple):
    """Seconds of the first call, on the clock and of processor time, and the first losses."""

    wall: float
    processor: float
    losses: list[float]


def work(peer: str, layers: int) -> None:
    """What a sample's process does."""
    from gpt_step import make_step

    step = make_step(peer, layers)
    wall, processor = time.perf_counter(), time.process_time()
    losses = [float(step().item())]
    taken = time.perf_counter() - wall, time.process_time() - processor
    losses += [float(step().item()) for _ in range(STEPS - 1)]
    print(json.dumps([*taken, losses]))


def sample(peer: str, layers: int) -> Sample:
    """One measurement, in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__)), "--worker", peer, "--layers", str(layers)]
        environment = {**os.environ, "TAUT_CACHE_DIR": folder}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return Sample(*json.loads(done.stdout.splitlines()[-1]))


def require_agreement(samples: dict[str, list[Sample]]) -> None:
    """Raises if a peer's losses differ from the first one's by more than rounding."""
    (first, (expected, *_)), *others = samples.items()
    for peer, found in others:
        for ours, theirs in zip(expected.losses, found[0].losses, strict=True):
            if abs(ours - theirs) > TOLERANCE * abs(ours):
                raise RuntimeError(f"{peer} answers {found[0].losses}, {first} {expected.losses}")


def report(layers: int, samples: dict[str, list[Sample]]) -> None:
    """Prints medians and each one over the first peer's."""
    first = next(iter(samples))
    wall = {p: statistics.median(s.wall for s in found) for p, found in samples.items()}
    own = {p: statistics.median(s.processor for s in found) for p, found in samples.items()}
    for peer in samples:
        shares = wall[first] / wall[peer], own[first] / own[peer]
        print(
            f"{layers:3} layers  {peer:15} {wall[peer]:6.2f} s, {own[peer]:6.2f} s of processor"
            f" time  {first}/{peer} = {shares[0]:.2f}, {shares[1]:.2f}"
        )


def main() -> None:
    """Samples all peers in turn, round by round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, nargs="+", default=[4])
    parser.add_argument("--peers", default="taut,jax")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.layers[0])
        return
    for layers in options.layers:
        samples: dict[str, list[Sample]] = {peer: [] for peer in options.peers.split(",")}
        for _ in range(options.samples):
            for peer, found in samples.items():
                found.append(sample(peer, layers))
        require_agreement(samples)
        report(layers, samples)


if __name__ == "__main__":
    main()
