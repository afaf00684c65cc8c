"""Injected faults: a pytest plugin that breaks one law of one stage; the tests have to notice.

    pytest -p faults --fault fuse tests/test_schedule.py

Run with this folder on the module path, as `test_faults.py` does.  Each fault is what a hurried
change might do: a condition that is always true, a table's wrong entry, an end one step early.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, settings


class Fault(NamedTuple):
    """A wrong piece of taut.

    Attributes:
        module: where it is, below `taut`.
        name: the function, method or attribute to replace.
        wrong: from what is there to what replaces it.
        tests: those that must notice, each for itself enough.
    """

    module: str
    name: str
    wrong: Callable[[Any], Any]
    tests: str


def always(value: object) -> Callable[[Any], Any]:
    """A function that gives one answer, whatever it is asked."""
    return lambda _: lambda *_, **__: value


FAULTS = {
    # --- passes over the graph
    "fold": Fault("compiler.passes.fold", "_all_same", always(True), "test_rules.py::test_rule"),
    "algebra": Fault(
        "compiler.passes.algebra", "_is_float", always(False), "test_rules.py::test_rule"
    ),
    "logic": Fault(
        "compiler.passes.logic",
        "_is_float",
        always(False),
        "test_rules.py::test_what_would_change_a_bit_or_a_type_stays",
    ),
    "casts": Fault(
        "compiler.passes.casts",
        "_holds",
        always(True),
        "test_rules.py::test_what_would_change_a_bit_or_a_type_stays",
    ),
    "shapes": Fault(
        "compiler.passes.shapes",
        "_same_window",
        always(True),
        "test_rules.py::test_what_would_change_a_bit_or_a_type_stays",
    ),
    "narrow": Fault(
        "compiler.passes.narrow",
        "_narrow_constant",
        lambda right: lambda value, shape: right(value, shape) and value,
        "test_rules.py::test_rule",
    ),
    "layout": Fault(
        "compiler.passes.layout",
        "swap_last",
        lambda right: lambda x: x if x.aval.shape[-1] == x.aval.shape[-2] else right(x),
        "test_passes.py::test_a_product_that_was_turned_round_is_the_same",
    ),
    "rewrite": Fault(
        "compiler.passes.rewrite",
        "_keeps_type",
        always(True),
        "test_rules.py::test_what_would_change_a_bit_or_a_type_stays",
    ),
    "checks": Fault(
        "compiler.passes.checks",
        "is_constant",
        always(True),
        "test_passes.py::test_checks_that_cannot_fail_are_dropped",
    ),
    "verify": Fault(
        "compiler.verify",
        "_verify_node",
        always(None),
        "test_random_graphs.py::test_verify_notices_a_wrong_type",
    ),
    # --- gradients
    "vjp loop": Fault(
        "compiler.autodiff.vjp",
        "add",
        lambda _: lambda total, cotangent: cotangent,
        "test_random_gradients.py",
    ),
    "vjp rule": Fault(
        "compiler.primitives.elementwise",
        "cos.vjp",
        lambda right: lambda ct, out, x: right(x, out, ct),
        "test_primitives.py::test_gradient_against_differences",
    ),
    # --- the schedule
    "fuse in a cycle": Fault(
        "compiler.schedule.clusters",
        "Clusters.between",
        always(False),
        "test_fuse.py",
    ),
    "fuse at two points": Fault(
        "compiler.schedule.fuse",
        "agreed",
        lambda _: lambda first, second: first,
        "test_fuse.py::test_why_not_two_points_at_once",
    ),
    "lower": Fault(
        "compiler.schedule.indexing",
        "strides",
        lambda right: lambda shape: right(shape)[::-1],
        "test_lower.py",
    ),
    "in place": Fault("compiler.schedule.effects", "same_place", always(True), "test_memory.py"),
    "blocks": Fault(
        "compiler.schedule.unions",
        "_why_apart",
        always(""),
        "test_fuse.py::test_what_may_follow_a_product",
    ),
    "donation": Fault(
        "compiler.schedule.memory", "_Homes._is_done", always(True), "test_memory.py"
    ),
    "liveness": Fault(
        "compiler.schedule.memory",
        "assign_slots",
        lambda right: lambda lives: right([life._replace(end=life.start) for life in lives]),
        "test_memory.py",
    ),
    # --- text
    "printer": Fault(
        "compiler.text.printer",
        "format_scalar",
        lambda right: lambda x: f"{x:e}" if isinstance(x, float) else right(x),
        "test_text.py",
    ),
    "parser": Fault("compiler.text.parser", "_parse_donation", always(None), "test_text.py"),
    # --- meaning and machine code
    "evaluate": Fault(
        "compiler.evaluate",
        "apply_reference",
        lambda right: lambda node, xs, sizes: right(node, xs[::-1], sizes),
        "test_primitives.py::test_value_against_numpy",
    ),
    "llvm operation": Fault(
        "compiler.primitives.elementwise",
        "lt.lowering.llvm",
        lambda right: right | {"float": "fcmp <="},
        "test_llvm.py::test_every_elementwise_primitive",
    ),
    "llvm reduction": Fault(
        "compiler.codegen.llvm_kernel",
        "REDUCTION_LANES",
        lambda n: n // 2,
        "test_llvm.py::test_sums_have_one_order",
    ),
    "vector mathematics": Fault(
        "compiler.codegen.vector_math",
        "FUNCTIONS",
        lambda right: right | {"exp": right["expm1"]},
        "test_vector_math.py::test_f32_bound_on_a_sample_of_all_bit_patterns",
    ),
    "python kernels": Fault(
        "compiler.codegen.python_kernel",
        "_identity",
        lambda right: lambda combine, dtype: right("add", dtype),
        "test_random_graphs.py::test_python_kernels",
    ),
    "differences": Fault(
        "compiler.text.difference",
        "_statement",
        always("x"),
        "test_library.py::test_an_addition_is_one_line_and_its_use",
    ),
    # --- the runtime and the front end
    "disk cache": Fault(
        "runtime.cache",
        "_same_checksum",
        always(True),
        "test_cache.py::test_any_flipped_byte_and_any_cut_is_a_miss",
    ),
    "cache keys": Fault(
        "runtime.keys",
        "PARTS",
        lambda parts: tuple(part for part in parts if part != "machine"),
        "test_cache_tools.py::test_another_machines_program_under_our_name_is_a_miss",
    ),
    "packed entries": Fault(
        "runtime.cache_tools",
        "foreign",
        always(None),
        "test_cache_tools.py::test_entries_of_elsewhere_are_refused_with_the_reason",
    ),
    "arguments": Fault(
        "runtime.executable",
        "aligned_copy",
        lambda _: lambda array: array,
        "test_runtime.py::test_a_donated_input_is_copied_and_its_copy_returned",
    ),
    "guards": Fault(
        "frontend.compiled_function",
        "name_guards",
        always(()),
        "test_compile.py::test_a_changed_global_is_noticed",
    ),
    "origins": Fault(
        "frontend.viewer.blocks",
        "_names_in",
        always(()),
        "test_viewer.py::test_a_product_is_found_where_it_is_made",
    ),
    "lines of assembly": Fault(
        "runtime.line_table",
        "_read",
        lambda right: lambda text: ((line, n and n - 1) for line, n in right(text)),
        "test_viewer.py::test_an_instruction_comes_from_the_line_that_says_so",
    ),
    "state": Fault(
        "frontend.found_state",
        "FoundState.holds",
        always(True),
        "test_compile.py::test_a_replaced_parameter_is_noticed",
    ),
    "one tensor twice": Fault(
        "frontend.found_state",
        "Overlaps.alike",
        always(True),
        "test_compiled_arguments.py::test_a_write_is_seen_through_both_names",
    ),
    "failed calls": Fault(
        "frontend.outside",
        "Outside.take_back",
        always(None),
        "test_failed_calls.py::test_a_failed_step_leaves_nothing_behind",
    ),
}


def inject(fault: Fault) -> None:
    """Puts the wrong piece in its place, for the rest of the process."""
    *path, name = fault.name.split(".")
    owner: Any = reduce(getattr, path, import_module(f"taut.{fault.module}"))
    wrong = fault.wrong(getattr(owner, name))
    if isinstance(owner, (ModuleType, type)):
        setattr(owner, name, wrong)
    else:
        object.__setattr__(owner, name, wrong)  # a frozen object


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault", choices=[*FAULTS, "none"], help="what to break")


def pytest_configure(config: pytest.Config) -> None:
    """Breaks what was asked for; a failing example is not made smaller, since nobody reads it."""
    settings.register_profile("faults", derandomize=True, deadline=None, phases=[Phase.generate])
    settings.load_profile("faults")
    fault = config.getoption("--fault")
    if fault != "none":
        inject(FAULTS[fault])
