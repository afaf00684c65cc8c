"""Units of programs: equal kernels become machine code once a process."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taut
from taut import nn, optim
from taut.compiler.errors import CompileError
from taut.compiler.text import parse_graph
from taut.runtime import objects
from taut.runtime.compile import compile_spec, generate
from taut.runtime.host import host_target
from taut.runtime.native import emit_object
from taut.runtime.options import Options
from taut.runtime.units import module_of, units_of

UNCACHED = Options(backend="llvm", cache=False)
ENTRY = "taut_program"
TAIL = """
  %u: f32[9,64] = tanh %s
  %v: f32[9] = reduce_sum %u {dims = [1]}
  return %v
}"""


def text_of(x: str, y: str, operation: str = "exp") -> str:
    """The LLVM text of a program whose arguments have these names."""
    head = f"taut-ir 1\nfunc @f(%{x}: f32[9,64], %{y}: f32[9,64]) -> (f32[9]) {{\n"
    first = f"  %e: f32[9,64] = {operation} %{x}\n  %s: f32[9,64] = add %e, %{y}"
    return generate(parse_graph(head + first + TAIL), UNCACHED).source


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The functions that LLVM is given to compile from here on, in a process without units."""
    defined: list[str] = []

    def counted(text: str, *args: Any) -> bytes:
        defined.extend(re.findall(r'^define (?!internal)[^@]*@"([^"]+)"', text, re.MULTILINE))
        return emit_object(text, *args)

    monkeypatch.setattr(objects, "emit_object", counted)
    objects._images.cache_clear()
    return defined


def test_units_are_the_same_whatever_values_are_called() -> None:
    one, other = (units_of(text_of(*names), ENTRY) for names in (("x", "y"), ("images", "labels")))
    assert [unit.symbol for unit in one] == [unit.symbol for unit in other]
    assert one[:-1] == other[:-1]
    assert one[-1].symbol == ENTRY


def test_units_that_do_something_else_have_another_symbol() -> None:
    one, other = (units_of(text_of("x", "y", name), ENTRY) for name in ("exp", "sin"))
    assert {unit.symbol for unit in one} & {unit.symbol for unit in other} == {ENTRY}


def test_units_together_are_the_program() -> None:
    text = text_of("x", "y")
    units = units_of(text, ENTRY)
    names = re.compile(r'^define .*@"([^"]+)"', re.MULTILINE)
    whole = module_of(units)
    assert len(names.findall(whole)) == len(names.findall(text))
    assert emit_object(whole, host_target())


def test_equal_layers_are_calls_of_one_function() -> None:
    lines = [
        f"  %h{i}: f32[9,9] = matmul %t{i}, %w\n  %t{i + 1}: f32[9,9] = tanh %h{i}"
        for i in range(4)
    ]
    body = "\n".join(lines)
    head = "taut-ir 1\nfunc @f(%t0: f32[9,9], %w: f32[9,9]) -> (f32[9,9]) {\n"
    spec = generate(parse_graph(f"{head}{body}\n  return %t4\n}}"), UNCACHED)
    assert spec.source.count('define internal void @"step.tanh"') == 1
    assert spec.source.count('call void @"step.tanh"') == 4
    x, w = np.random.default_rng(0).normal(size=(2, 9, 9)).astype(np.float32)
    (found,) = compile_spec(spec, UNCACHED)([x, w])
    expected = x
    for _ in range(4):
        expected = np.tanh(expected @ w)
    # Four products of length 9 in float32, and tanh within a few units in the last place.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def train_step(layers: int, rule: Any = optim.Adam) -> Callable[[Any, Any], Any]:
    """A step of a network of some layers, which compiles on its first call."""
    taut.manual_seed(0)
    parts = [module for _ in range(layers) for module in (nn.Linear(24, 24), nn.Tanh())]
    net = nn.Sequential(*parts)
    optimizer = rule(net.parameters(), lr=1e-3)

    @taut.compile(backend="llvm")
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def test_a_kernel_is_compiled_once_a_process(
    compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAUT_CACHE", "0")
    x, y = taut.randn(8, 24), taut.randn(8, 24)
    for layers in (2, 3, 7):
        train_step(layers)(x, y)
    kernels = [name for name in compiled if name != ENTRY]
    assert len(kernels) == len(set(kernels))
    assert compiled.count(ENTRY) == 3


def test_more_layers_take_no_more_kernels(
    compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAUT_CACHE", "0")
    x, y = taut.randn(8, 24), taut.randn(8, 24)
    train_step(4, optim.SGD)(x, y)
    before = len(compiled)
    train_step(9, optim.SGD)(x, y)
    assert compiled[before:] == [ENTRY]


def test_programs_that_share_units_give_what_each_gives_alone() -> None:
    x, y = taut.randn(8, 24), taut.randn(8, 24)
    alone = []
    for layers in (2, 5):
        objects._images.cache_clear()
        alone.append(train_step(layers)(x, y).item())
    assert [train_step(layers)(x, y).item() for layers in (2, 5)] == alone


def test_a_process_that_has_too_many_units_begins_anew(
    compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "MAX_UNITS", 1)
    for operation in ("exp", "sin", "exp"):
        spec = generate(
            parse_graph(
                f"taut-ir 1\nfunc @f(%x: f32[3]) -> (f32[3]) {{\n  %y: f32[3] = {operation} %x\n"
                "  return %y\n}"
            ),
            UNCACHED,
        )
        (found,) = compile_spec(spec, UNCACHED)([np.ones(3, np.float32)])
        assert found == pytest.approx(getattr(np, operation)(np.ones(3)), rel=1e-6)
    assert compiled.count(compiled[0]) == 2


def test_a_text_that_uses_what_it_does_not_declare_is_refused() -> None:
    text = text_of("x", "y").replace('define void @"kernel', 'define void @"other', 1)
    with pytest.raises(CompileError, match="LLVM rejects the generated code"):
        objects.emit_objects(text, ENTRY, host_target())
