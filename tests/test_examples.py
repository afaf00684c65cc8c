"""Every example runs as its reader would run it, and prints what it is there to show."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
EPOCHS, TRAINING_IMAGES, BATCH = 60, 1437, 64


def run(program: str, *arguments: str, **environment: str) -> str:
    """What an example prints; warnings are errors."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / program), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(pattern: str, text: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, text)]


def tensors(text: str) -> list[str]:
    """The texts of the tensors that are printed."""
    return re.findall(r"tensor\([^()]*\)", text)


# --- what each one shows --------------------------------------------------------------------------


def quickstart(text: str) -> None:
    losses = numbers(r"loss (\d+\.\d+)", text)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-4
    assert "{'traces': 1, 'calls': 1000, 'native_calls': 1000}" in text
    assert "func @step(" in text


def digits(text: str, epochs: int = EPOCHS, accuracy: float = 97.0) -> None:
    (reached,) = numbers(r"accuracy (\d+\.\d)% on 360 images", text)
    assert reached >= accuracy
    first, last = numbers(r"(\d+\.\d+)(?= ->|$)", text.partition("\naccuracy")[0])
    assert last < first / 2
    calls = 1 + epochs * (TRAINING_IMAGES // BATCH) + 500  # the first, the training, the timing
    assert re.search(rf"compiled 1 graph in \d+\.\d\d s, {calls} native calls", text)
    assert re.search(r"a step +\d+ us eager, \d+ us compiled", text)


def gpt(text: str) -> None:
    first, last = numbers(r"(\d\.\d+)(?= ->| in \d)", text)
    assert first == pytest.approx(math.log(96), abs=0.2)  # 96 characters, equally likely
    assert last < first - 0.5
    assert "step {'traces': 1, 'calls': 40, 'native_calls': 40}" in text
    assert len(text.partition("\nThe ")[2]) == GPT_WRITES + 1  # and the line's end


def read_a_kernel(text: str) -> None:
    values = [0.5 * x * (1 + math.tanh(0.7978845608 * (x + 0.044715 * x**3))) for x in range(-3, 4)]
    assert numbers(r"-?\d+\.\d{4}", tensors(text)[0]) == [round(v, 4) for v in values]
    assert "fused @gelu: 1 groups, 0 edges cut" in text
    assert text.count("@kernel") == 1
    assert re.search(r"for i0 in range\(7\):\n\s+x_i = x\[i0\]", text)
    assert re.search(r"inner = \w+ \* np\.float32\(0\.797\d+\)  # read_a_kernel\.py:19\n", text)
    assert "    %0 = load x[i0]" in text


def build_a_graph(text: str) -> None:
    assert "%grad_slope: f32[] = reduce_sum" in text
    assert text.count("taut-ir 1\nfunc @fit<N>(%x: f32[N], %y: f32[N], %slope: f32[]") == 2
    derived, optimised = (part.count(" = ") for part in text.split("As optimised:"))
    assert optimised < derived
    evaluated, compiled = (numbers(r"-?\d+\.\d+", line) for line in text.splitlines()[-3:-1])
    assert compiled == pytest.approx(evaluated, rel=1e-5)  # sums of 32 numbers
    assert text.endswith("loss 0.000000  slope 3.000  start 1.000\n")


def add_a_primitive(text: str) -> None:
    assert "%0: f32[4] = copysign %x, %y" in text
    results = re.findall(r"^(evaluated|llvm|numba) +\[ -1.  -4.  -9. -16.\]$", text, re.MULTILINE)
    assert results == ["evaluated", "llvm", "numba"]
    assert tensors(text) == ["tensor([-1., -1.])"]


def addition(text: str) -> None:
    assert text == "tensor([5, 7, 9])\ntensor([-3, -3, -3])\n"


def multiplication(text: str) -> None:
    assert text == "tensor([ 4, 10, 18])\ntensor([0.2500, 0.4000, 0.5000])\n"


def linear_algebra(text: str) -> None:
    product, inverse, solution = (numbers(r"-?\d+\.\d*", found) for found in tensors(text)[:3])
    assert product == [6, 2, 13, 6]
    assert inverse == [0.6, -0.2, -0.2, 0.4]
    assert solution == [-0.2, -0.4, 1.4, 0.8]


def network(text: str) -> None:
    assert text.count("Parameter containing:\ntensor(") == 4
    sizes = [len(re.findall(r"-?\d+\.\d+|nan|inf", found)) for found in tensors(text)]
    assert sizes == [10, 10, 10, 1]


def network_compiled(text: str) -> None:
    network(text)
    w1, b1, w2, b2 = (numbers(r"-?\d+\.\d+(?:e[-+]\d+)?", found) for found in tensors(text))
    hidden = [w + b for w, b in zip(w1, b1, strict=True)]  # at x = 1
    output = sum(w * h for w, h in zip(w2, hidden, strict=True)) + b2[0]
    assert output == pytest.approx(2.0, abs=2e-3)  # the target; 31 numbers of 4 decimals


def preprocessing(text: str) -> None:
    assert tensors(text) == [
        "tensor([0., 0., 0.])",
        "tensor([1., 1., 1.])",
        "tensor([1.0000, 1.0000, 1.0000])",
    ]
    assert numbers(r"test loss (.*)", text)[0] < 0.01


SHOWN: dict[str, Callable[[str], None]] = {
    "add_a_primitive.py": add_a_primitive,
    "build_a_graph.py": build_a_graph,
    "article/addition.py": addition,
    "article/linear_algebra.py": linear_algebra,
    "article/multiplication.py": multiplication,
    "article/network.py": network,
    "article/network_compiled.py": network_compiled,
    "article/preprocessing.py": preprocessing,
    "digits.py": digits,
    "gpt.py": gpt,
    "quickstart.py": quickstart,
    "read_a_kernel.py": read_a_kernel,
}

GPT_WRITES = 60
ARGUMENTS = {
    "gpt.py": (
        *("--layers", "2", "--heads", "2", "--width", "32", "--block", "16", "--batch", "8"),
        *("--steps", "40", "--lr", "1e-2", "--prompt", "The ", "--sample", str(GPT_WRITES)),
    )
}
"""For programs that take longer than a test may."""


# --- tests ----------------------------------------------------------------------------------------


def test_every_example_is_here() -> None:
    assert {p.relative_to(EXAMPLES).as_posix() for p in EXAMPLES.rglob("*.py")} == set(SHOWN)


@pytest.mark.parametrize("program", SHOWN)
def test_example_shows_what_it_is_there_for(program: str) -> None:
    SHOWN[program](run(program, *ARGUMENTS.get(program, ())))


def test_digits_takes_options() -> None:
    digits(run("digits.py", "--epochs", "3", "--seed", "1"), epochs=3, accuracy=80.0)


def test_kernels_run_as_python() -> None:
    """The same source, uncompiled: the same numbers, and Numba is not asked."""
    read_a_kernel(run("read_a_kernel.py", TAUT_KERNELS="python"))


def test_quickstart_on_the_other_back_end() -> None:
    quickstart(run("quickstart.py", TAUT_BACKEND="numba"))
