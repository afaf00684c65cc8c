"""How the time of a first call grows with the number of layers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FIRST_CALL = """
import sys, time
import taut
from taut import nn, optim

parts = [m for _ in range(int(sys.argv[1])) for m in (nn.Linear(64, 64), nn.ReLU())]
net = nn.Sequential(*parts, nn.Linear(64, 10))
optimizer = optim.Adam(net.parameters(), lr=1e-3)

@taut.compile
def step(x, y):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
    return loss

x, y = taut.randn(32, 64), taut.randint(0, 10, (32,))
start = time.process_time()
step(x, y)
print(time.process_time() - start)
"""


def seconds(layers: int, folder: Path) -> float:
    """Processor time of a training step's first call, in a new process with an empty cache."""
    environment = {**os.environ, "TAUT_CACHE_DIR": str(folder), "TAUT_BACKEND": "llvm"}
    command = [sys.executable, "-c", FIRST_CALL, str(layers)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.slow
def test_the_time_grows_slower_than_the_layers(tmp_path: Path) -> None:
    """It is 2.4 times on a quiet machine: each layer adds less than a tenth of what is fixed."""
    samples = [
        [seconds(layers, tmp_path / f"{layers}.{i}") for layers in (4, 48)] for i in range(4)
    ]
    few, many = map(min, zip(*samples, strict=True))
    assert many <= 3 * few
