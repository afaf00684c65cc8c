"""The peak that `taut dump --stage memory` prints is what a process really takes.

Each program runs in a process of its own, large enough that what Python and the linker take on the
side is noise: at most 3 % of at least 200 MiB.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from taut.runtime.options import default_options

TOLERANCE = 0.03
LEAST = 200 << 20

PROGRAM = '''
import gc
import re

import taut
import taut.nn.functional as F
from taut import nn, optim
from taut.frontend.report import Report
from taut.runtime.compile import compile_graph


class Block(nn.Module):
    """A block of a GPT."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        shape = *x.shape[:2], self.heads, x.shape[2] // self.heads
        q, k, v = (p.view(*shape).transpose(1, 2) for p in self.qkv(self.norms[0](x)).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


def training(net, loss_of, make):
    """A step of Adam."""
    optimizer = make(net.parameters(), lr=0.1)

    def step(*args):
        optimizer.zero_grad()
        loss = loss_of(*args)
        loss.backward()
        optimizer.step()
        return loss

    return step


def warm_up():
    """Loads what any program needs; a BLAS takes memory for its panels."""
    taut.compile(lambda x: (x @ x).tanh().sum())(taut.ones(1024, 1024))


def mlp_step():
    net = nn.Sequential(nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256))
    loss = lambda x, y: F.mse_loss(net(x), y)
    return training(net, loss, optim.Adam), (taut.ones(10000, 256), taut.ones(10000, 256))


def mlp():
    net = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 256))
    return taut.no_grad()(net.forward), (taut.ones(40000, 256),)


def attended(q, k, v):
    return F.softmax(q @ k.mT * 0.1, -1) @ v


def attention():
    return attended, [taut.ones(48, 1024, 64) for _ in range(3)]


def attention_outside():
    return attended, [taut.ones(24, 1024, 64, requires_grad=True) for _ in range(3)]


def blocks_step():
    net = nn.Sequential(Block(128, 4), Block(128, 4))
    return training(net, lambda x: (net(x) ** 2).mean(), optim.SGD), (taut.ones(20, 256, 128),)


def blocks():
    net = nn.Sequential(Block(128, 4), Block(128, 4))
    return taut.no_grad()(net.forward), (taut.ones(128, 256, 128),)


def status(key):
    """A line of the process's status, in bytes."""
    with open("/proc/self/status") as lines:
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def reset():
    """Starts counting the peak anew; what it is now."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return status("VmRSS")


def made(name):
    """A compiled function, and what to call it with."""
    function, args = globals()[name]()
    return taut.compile(function), args


def report_on(name):
    """The stages of the program, and what compiling leaves; neither network nor arguments."""
    function, args = made(name)
    report = Report(function.graph_for(*args))
    return report, [compile_graph(program.graph) for program in report.programs]


def main(name):
    warm_up()
    report, programs = report_on(name)
    printed = [int(peak) for peak in re.findall(r"peak (\\d+) bytes", report.text("memory"))]
    gc.collect()
    before = reset()
    function, args = made(name)
    for _ in range(3):
        result = None
        reset()
        result = function(*args)
        print(printed[0], status("VmHWM") - before)
    if len(programs) > 1:
        loss = result.sum()
        reset()
        loss.backward()
        print(printed[1] + result.numel() * 4, status("VmHWM") - before)  # which nobody reads


main("{name}")
'''


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
@pytest.mark.parametrize(
    "name", ["mlp", "mlp_step", "attention", "attention_outside", "blocks", "blocks_step"]
)
def test_the_peak_is_what_a_process_takes(name: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM.replace("{name}", name))
    command = [sys.executable, "program.py"]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(64 << 10)},  # what is freed goes back
        capture_output=True,
        text=True,
        check=True,
    )
    calls = [tuple(map(int, line.split())) for line in run.stdout.splitlines()]
    assert len(calls) == (4 if name == "attention_outside" else 3)
    assert max(printed for printed, _ in calls) >= LEAST
    for printed, taken in calls:
        assert printed * (1 - TOLERANCE) <= taken <= printed * (1 + TOLERANCE) + library()


def library() -> int:
    """What NumPy's BLAS may hold, which multiplies where Numba compiles."""
    return 64 << 20 if default_options().emitter == "numba" else 0
