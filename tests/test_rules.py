"""Rewrite rules: each one alone, IR in and IR out, and the same numbers where numbers are hard."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from taut.compiler.aval import Aval, evaluate_dim
from taut.compiler.ir import Graph
from taut.compiler.passes import simplify
from taut.compiler.passes.rewrite import rewrite
from taut.compiler.text import canonical_text, parse_graph
from taut.compiler.verify import verify
from taut.frontend.testing import assert_same_bits, evaluate_contiguous

Array = npt.NDArray[Any]


class Case(NamedTuple):
    """A block of rewrite_rules.txt."""

    name: str
    before: Graph
    after: Graph | None


def _function(inputs: str, body: str, types: str) -> Graph:
    """A function from its inputs and its body; the type of its result is somewhere in `types`."""
    result = body.rsplit(maxsplit=1)[-1]
    found = re.search(rf"{result}: (~?\w+\[[^\]]*\])", types)
    assert found is not None, f"no type of {result} in {types}"
    sizes = "<B>" if "[B" in inputs else ""
    return parse_graph(f"taut-ir 1\nfunc @f{sizes}{inputs} -> ({found[1]}) {{\n{body}\n}}")


def _read(block: str) -> Case:
    name, inputs, *lines = block.splitlines()
    before, _, after = "\n".join(lines).partition("\n->\n")
    return Case(
        name.removeprefix("# "),
        _function(inputs, before, inputs + before),
        _function(inputs, after, inputs + after) if after else None,
    )


TEXT = Path(__file__).with_name("rewrite_rules.txt").read_text(encoding="utf-8")
ALL = [_read(block) for block in TEXT.strip().split("\n\n") if block.startswith("#")]
CHANGED = [case for case in ALL if case.after is not None]
UNCHANGED = [case for case in ALL if case.after is None]


def hard_inputs(rng: np.random.Generator, graph: Graph) -> list[Array]:
    """Numbers at which an identity of real numbers may fail."""
    return [_hard_array(rng, value.aval) for value in graph.inputs]


def _hard_array(rng: np.random.Generator, aval: Aval) -> Array:
    shape = tuple(evaluate_dim(dim, {"B": 3}) for dim in aval.shape)
    if aval.dtype.is_floating_point:
        info = np.finfo(aval.dtype.long_name)
        largest, smallest = float(info.max), float(info.tiny)
        special = [np.nan, np.inf, 0.0, 1.0, 0.1, 2.5, 7.7, largest, smallest, smallest / 4]
        signed = rng.choice(np.array(special), shape) * rng.choice([-1.0, 1.0], shape)
        return np.asarray(signed, aval.dtype.numpy)
    if aval.dtype.kind == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    limits = np.iinfo(aval.dtype.long_name)
    numbers = [limits.min, limits.max, 0, 1, 2, 3, limits.max // 2]
    return np.asarray(rng.choice(np.array(numbers, aval.dtype.numpy), shape))


@pytest.mark.parametrize("case", CHANGED, ids=lambda case: case.name)
def test_rule(case: Case) -> None:
    assert case.after is not None
    result = verify(rewrite(case.before, simplify.RULES.only(case.name)))
    assert canonical_text(result) == canonical_text(case.after)
    simplified = simplify.run(case.before)
    rng = np.random.default_rng(0)
    for _ in range(20):
        arrays = hard_inputs(rng, case.before)
        expected = evaluate_contiguous(case.before, arrays)
        assert_same_bits(evaluate_contiguous(result, arrays), expected)
        assert_same_bits(evaluate_contiguous(simplified, arrays), expected)


@pytest.mark.parametrize("case", UNCHANGED, ids=lambda case: case.name)
def test_what_would_change_a_bit_or_a_type_stays(case: Case) -> None:
    assert canonical_text(simplify.run(case.before)) == canonical_text(case.before)


def test_every_rule_has_a_case_and_a_law() -> None:
    names = simplify.RULES.names
    assert len(names) == len(set(names))
    assert set(names) == {case.name for case in CHANGED}
    for law in simplify.RULES.laws:
        assert "->" in law


def test_every_refused_law_has_its_reason() -> None:
    """Case by case, in the decision record."""
    record = Path(__file__).parents[1] / "docs/decisions/0012-laws-that-change-no-bit.md"
    rows = re.findall(r"^\| `(.*)` \| (.+) \|$", record.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name.replace("\\|", "|") for name, _ in rows] == [case.name for case in UNCHANGED]
