"""The first call of the digits step, timed from after `import taut`.

From nothing, and from the disk cache.  Every sample is a new process; the cache is a folder of
this program's own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = """
import sys, time
start = time.perf_counter()
import taut
imported = time.perf_counter()
sys.path.insert(0, {examples!r})
import digits
x, y, _, _ = digits.load(0)
taut.manual_seed(0)
_, step = digits.make_step()
step = taut.compile(step)
begin = time.perf_counter()
loss = step(x[:64], y[:64]).item()
first = time.perf_counter()
print(imported - start, first - begin, loss)
"""


def sample(cache: Path) -> tuple[float, float, float]:
    """Seconds of the import and of the first call, and the loss, in a new process."""
    examples = str(Path(__file__).parent.parent / "examples")
    environment = {**os.environ, "TAUT_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", PROGRAM.format(examples=examples)]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    imported, first, loss = map(float, output.stdout.split())
    return imported, first, loss


def main() -> None:
    """Prints medians over fresh processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=7)
    options = parser.parse_args()
    cold: list[tuple[float, float, float]] = []
    warm: list[tuple[float, float, float]] = []
    for _ in range(options.samples):
        with tempfile.TemporaryDirectory() as folder:
            cold.append(sample(Path(folder)))
            warm.append(sample(Path(folder)))
    if len({loss for _, _, loss in cold + warm}) != 1:
        raise RuntimeError("the loss differs between processes")
    for name, index, samples in (
        ("import taut", 0, cold + warm),
        ("first call, from nothing", 1, cold),
        ("first call, from the disk cache", 1, warm),
    ):
        times = [s[index] for s in samples]
        print(f"{name:32} {statistics.median(times):.3f} s  ({min(times):.3f} to {max(times):.3f})")


if __name__ == "__main__":
    main()
