"""Signs of zeros, infinities and nan: references, both back ends and PyTorch have one law.

Remainders keep the dividend's sign in a zero, sums start from +0, the sign of nan is 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taut
from taut.compiler.evaluate import evaluate
from taut.compiler.pipeline import run_passes
from taut.compiler.schedule import schedule
from taut.compiler.text import parse_graph
from taut.frontend.testing import assert_same_bits
from taut.runtime.compile import compile_program
from taut.runtime.host import host_target
from taut.runtime.options import default_options

INF, NAN = float("inf"), float("nan")
FLOATS = (0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 5.5, -0.75, 0.1, 1e30, INF, -INF, NAN)
KERNELS = ["compiled", "python"]


def law(x: float, y: float) -> float:
    """PyTorch's scalar code."""
    rest = float(np.fmod(x, y))
    return rest + y if rest != 0 and (y < 0) != (rest < 0) else rest


def run(text: str, inputs: list[Any], kernels: str) -> list[Any]:
    """The outputs of a program; without and with the passes they are as the graph's reference."""
    graph = parse_graph("taut-ir 1\n" + text)
    expected = evaluate(graph, inputs)
    for form in (graph, run_passes(graph)):
        assert_same_bits(evaluate(form, inputs), expected)
        for fuse in (True, False):
            program = schedule(form, host_target(), fuse=fuse)
            options = default_options().replace(kernels=kernels)
            assert_same_bits(compile_program(program, options)(inputs), expected)
    return expected


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_remainders(dtype: str, kernels: str) -> None:
    pairs = list(itertools.product(FLOATS, FLOATS))
    x, y = np.array(pairs, {"f32": np.float32, "f64": np.float64}[dtype]).T.copy()
    n = len(pairs)
    text = f"""
    func @f(%x: {dtype}[{n}], %y: {dtype}[{n}]) -> ({dtype}[{n}], {dtype}[{n}]) {{
      %0: {dtype}[{n}] = rem %x, %y
      %1: {dtype}[{n}] = sign %x
      return %0, %1
    }}"""
    rest, sign = run(text, [x, y], kernels)
    with np.errstate(invalid="ignore"):
        expected = [law(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    assert_same_bits([rest], [np.array(expected, x.dtype)])
    assert_same_bits([sign], [((x > 0) * 1 - (x < 0) * 1).astype(x.dtype)])


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", ["i8", "i16", "i32", "i64"])
def test_remainders_and_quotients_of_integers(dtype: str, kernels: str) -> None:
    """The smallest by -1 wraps, as C does where the processor does not trap; by 0 all is 0."""
    info = np.iinfo(f"i{int(dtype[1:]) // 8}")
    numbers = (0, 1, -1, 2, -3, 7, info.max, info.min)
    pairs = list(itertools.product(numbers, numbers))
    x, y = np.array(pairs, info.dtype).T.copy()
    n = len(pairs)
    text = f"""
    func @f(%x: {dtype}[{n}], %y: {dtype}[{n}]) -> ({dtype}[{n}], {dtype}[{n}]) {{
      %0: {dtype}[{n}] = rem %x, %y
      %1: {dtype}[{n}] = floordiv %x, %y
      return %0, %1
    }}"""
    rest, quotient = run(text, [x, y], kernels)
    assert rest.tolist() == [a % b if b else 0 for a, b in pairs]
    wrapped = [(a // b - info.min) % (2 * -info.min) + info.min if b else 0 for a, b in pairs]
    assert quotient.tolist() == wrapped


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("shape", "dims"),
    [("", []), ("3", []), ("0", [0]), ("1", [0]), ("20", [0]), ("20,1", [0]), ("3,20", [1])],
)
def test_sums_are_never_minus_zero(shape: str, dims: list[int], kernels: str) -> None:
    sizes = [int(size) for size in shape.split(",") if size]
    kept = ",".join(str(size) for axis, size in enumerate(sizes) if axis not in dims)
    text = f"""
    func @f(%x: f32[{shape}]) -> (f32[{kept}]) {{
      %0: f32[{kept}] = reduce_sum %x {{dims = {dims}}}
      return %0
    }}"""
    (total,) = run(text, [np.full(sizes, -0.0, np.float32)], kernels)
    assert not total.any()
    assert not np.signbit(total).any()


DIVISIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "remainder": lambda t, x, y: t.remainder(x, y),
    "fmod": lambda t, x, y: t.fmod(x, y),
    "floor_divide": lambda t, x, y: t.floor_divide(x, y),
    "floor": lambda t, x, y: t.div(x, y, rounding_mode="floor"),
    "trunc": lambda t, x, y: t.div(x, y, rounding_mode="trunc"),
    "sign": lambda t, x, y: t.sign(x),
    "numbers": lambda t, x, y: t.stack([2.5 // y, -2.5 % y, x // -0.7, t.fmod(x, 0.7)]),
}


@pytest.mark.parametrize("name", DIVISIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int32"])
def test_division_as_pytorch_has_it(name: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    if dtype.startswith("int"):
        info = np.iinfo(dtype)  # no -1: the smallest by it traps in PyTorch
        pairs = itertools.product((0, 1, 2, -2, -3, 7, info.max, info.min), repeat=2)
        numbers = np.array([p for p in pairs if p[1]], dtype)
    else:
        numbers = np.array([*itertools.product(FLOATS, FLOATS)], dtype)
    arrays = [np.ascontiguousarray(column) for column in numbers.T]
    expected = DIVISIONS[name](torch, *map(torch.from_numpy, arrays)).numpy()

    def divide(x: Any, y: Any) -> Any:
        return DIVISIONS[name](taut, x, y)

    for function in (divide, taut.compile(divide)):
        assert_same_bits([function(*map(taut.from_numpy, arrays)).numpy()], [expected])


def test_the_gradient_of_a_remainder_counts_what_was_taken_away() -> None:
    """1 / 0.1 rounds to 10, but 0.1 fits into 1 only 9 times: as a double it is a bit larger."""
    x = taut.tensor([1.0, -1.0, 7.0], dtype=taut.float64)
    y = taut.tensor([0.1, 0.1, 2.0], dtype=taut.float64, requires_grad=True)
    taut.remainder(x, y).sum().backward()
    assert y.grad is not None
    assert y.grad.tolist() == [-9.0, 10.0, -3.0]


def test_halves_are_added_up_in_single_precision() -> None:
    """In half precision 2048 + 1 is 2048."""
    ones = taut.ones(5000, 2, dtype=taut.float16)
    assert ones.sum(0).tolist() == [5000, 5000]
    assert ones[:, :1].sum(0).tolist() == [5000]
    assert ones.mean(0).tolist() == [1, 1]
