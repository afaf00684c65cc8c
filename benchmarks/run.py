"""Times taut against its peers.

Answers are compared first; each peer has a process of its own, and rounds are interleaved.  What is
reported are medians and ratios.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cases import ABSENT, CASES, PEERS, checksum

CHECKED_STEPS = 5
TOLERANCE = 2e-4
"""Relative: float32 sums in different orders, through five steps."""


class Worker:
    """A peer in a process of its own, which runs a round when told to."""

    def __init__(self, case: str, peer: str) -> None:
        self.peer = peer
        command = [sys.executable, str(Path(__file__)), case, "--worker", peer]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.answers: list[list[float]] = self._read()

    def round(self, seconds: float) -> float:
        """Seconds a step, over about `seconds` of running."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return float(self._read())

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.peer} ended early")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def work(case: str, peer: str) -> None:
    """What a worker does: some steps, whose results it prints, then a round for each line read."""
    step = CASES[case](peer)
    print(json.dumps([checksum(step()) for _ in range(CHECKED_STEPS)]), flush=True)
    start = time.perf_counter()
    step()
    estimate = time.perf_counter() - start
    for line in sys.stdin:
        count = max(3, int(float(line) / max(estimate, 1e-7)))
        start = time.perf_counter()
        for _ in range(count):
            result = step()
        checksum(result)  # waits for a peer that answers before it is done
        estimate = (time.perf_counter() - start) / count
        print(json.dumps(estimate), flush=True)


def installed(peer: str) -> bool:
    """Whether the peer can run here."""
    name = peer.split("-", maxsplit=1)[0]
    return importlib.util.find_spec(name) is not None


def require_agreement(workers: list[Worker]) -> None:
    """Raises if a peer's answers differ from taut's by more than rounding."""
    first = workers[0]
    for worker in workers[1:]:
        for ours, theirs in zip(first.answers, worker.answers, strict=True):
            scale = max(map(abs, ours))
            if max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) > TOLERANCE * scale:
                raise RuntimeError(f"{worker.peer} answers {theirs}, {first.peer} {ours}")


def measure(case: str, rounds: int, seconds: float, peers: list[str]) -> dict[str, list[float]]:
    """Seconds a step for each peer and round."""
    workers = [Worker(case, peer) for peer in peers]
    try:
        require_agreement(workers)
        times: dict[str, list[float]] = {peer: [] for peer in peers}
        for number in range(rounds + 1):
            for worker in workers:
                taken = worker.round(seconds)
                if number:  # the first round warms up
                    times[worker.peer].append(taken)
        return times
    finally:
        for worker in workers:
            worker.close()


def report(case: str, times: dict[str, list[float]]) -> None:
    """Prints medians, ranges, and each median over taut's."""
    ours = statistics.median(times["taut"])
    print(f"{case}: all answers agree over {CHECKED_STEPS} calls")
    for peer, taken in times.items():
        middle = statistics.median(taken)
        low, high = min(taken) * 1e6, max(taken) * 1e6
        print(
            f"  {peer:15} {middle * 1e6:10.2f} us  ({low:.2f} to {high:.2f})"
            f"  taut/{peer} = {ours / middle:.2f}"
        )


def main() -> None:
    """Runs the cases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3, help="of a round, for each peer")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.cases[0], options.worker)
        return
    wanted = options.peers.split(",")
    peers = [p for p in wanted if installed(p)]
    if missing := [p for p in wanted if p not in peers]:
        print(f"not installed: {', '.join(missing)}")
    for case in options.cases or CASES:
        able = [peer for peer in peers if peer not in ABSENT.get(case, ())]
        report(case, measure(case, options.rounds, options.seconds, able))


if __name__ == "__main__":
    main()
