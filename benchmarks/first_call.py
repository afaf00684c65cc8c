"""The first call of a network's training step, by peer and number of layers.

Every sample is a new process, with a disk cache of its own for taut.  What a process does once
(imports, the start of the back end) is over when the time is taken, since a small function was
compiled before; with --once it counts.  The losses of the first five steps are compared before
anything is reported.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from cases import compiled, frameworks

WIDTH = 64
STEPS = 5
TOLERANCE = 1e-4
"""Relative: float32 sums in different orders, through five steps of AdamW."""


class Sample(NamedTuple):
    """Seconds of the first call, on the clock and of processor time, and the first losses."""

    wall: float
    processor: float
    losses: list[float]


Samples: TypeAlias = "dict[int, dict[str, list[Sample]]]"
"""By number of layers, then by peer."""


def step_of(network: str, peer: str, layers: int) -> Callable[[], Any]:
    """A training step that has not been called."""
    if network == "gpt":
        from gpt_step import make_step

        return make_step(peer, layers)
    from cases import trained

    return trained(peer, (WIDTH,) * layers + (10,), 64, "ReLU", adam=True)


def start(peer: str) -> None:
    """Compiles a small function."""
    if peer == "jax":
        import jax

        jax.jit(lambda x: x + 1)(1.0).block_until_ready()
    else:
        torch, _, _ = frameworks(peer)
        compiled(peer, torch, lambda x: x + 1)(torch.ones(()))


def work(network: str, peer: str, layers: int, once: bool) -> None:
    """What a sample's process does."""
    step = step_of(network, peer, layers)
    if not once:
        start(peer)
    wall, processor = time.perf_counter(), time.process_time()
    losses = [float(step().item())]
    taken = time.perf_counter() - wall, time.process_time() - processor
    losses += [float(step().item()) for _ in range(STEPS - 1)]
    print(json.dumps([*taken, losses]))


def sample(options: argparse.Namespace, peer: str, layers: int) -> Sample:
    """One measurement, in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__)), "--worker", peer, "--layers", str(layers)]
        command += ["--network", options.network] + ["--once"] * options.once
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


def report_growth(samples: Samples) -> None:
    """Prints how the time grows from the fewest to the most layers."""
    few, many = min(samples), max(samples)
    for peer in samples[few] if few != many else ():
        times = [statistics.median(s.processor for s in samples[n][peer]) for n in (many, few)]
        ratio = times[0] / times[1]
        print(f"{peer:15} {many} layers / {few} layers = {ratio:.2f} of processor time")


def main() -> None:
    """Samples all peers in turn, round by round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=("gpt", "mlp"), default="gpt")
    parser.add_argument("--once", action="store_true", help="count what a process does once")
    parser.add_argument("--layers", type=int, nargs="+", default=[4])
    parser.add_argument("--peers", default="taut,jax")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.network, options.worker, options.layers[0], options.once)
        return
    peers = options.peers.split(",")
    samples: dict[int, dict[str, list[Sample]]] = {
        n: {p: [] for p in peers} for n in options.layers
    }
    for _ in range(options.samples):
        for layers, found in samples.items():
            for peer in peers:
                found[peer].append(sample(options, peer, layers))
    for layers, found in samples.items():
        require_agreement(found)
        report(layers, found)
    report_growth(samples)


if __name__ == "__main__":
    main()
