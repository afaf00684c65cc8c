"""Injected faults: each breaks one law of one stage, and the tests have to notice.

A fault is what a hurried change might do: a condition that is always true, a table's wrong entry,
an end one step early.  Those of one line are in `faults.txt`.

Run as a program, as `test_faults.py` does, this file injects faults and runs tests as its input
says, each time in a process forked from one that has imported everything but taut.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import reduce
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

HERE = Path(__file__).parent


_STATE = "test_python_state.py::test_a_compiled_function_means_what_it_means_undecorated"


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

    @property
    def file(self) -> str:
        """Where it is, below the root."""
        return f"{self.module.replace('.', '/')}.py"

    def inject(self) -> None:
        """Puts the wrong piece in its place, for the rest of the process."""
        *path, name = self.name.split(".")
        owner: Any = reduce(getattr, path, import_module(f"taut.{self.module}"))
        wrong = self.wrong(getattr(owner, name))
        if isinstance(owner, (ModuleType, type)):
            setattr(owner, name, wrong)
        else:
            object.__setattr__(owner, name, wrong)  # a frozen object


class Line(NamedTuple):
    """A wrong line of a file."""

    file: str
    right: str
    wrong: str
    tests: str

    def text(self) -> str:
        """The file with the wrong line."""
        text = (HERE.parent / self.file).read_text(encoding="utf-8")
        assert text.count(self.right) == 1, f"{self.right!r} is not once in {self.file}"
        return text.replace(self.right, self.wrong)

    def inject(self) -> None:
        """Lets the file's module be imported so."""
        sys.meta_path.insert(0, _Changed(self))


class _Changed(MetaPathFinder):
    """Finds one module of taut, with another text than its file's."""

    def __init__(self, line: Line) -> None:
        self._name = f"taut.{line.file.removesuffix('.py').replace('/', '.')}"
        self._text = line.text()

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """The module's specification; None of others."""
        del target
        spec = PathFinder.find_spec(name, path) if name == self._name else None
        if spec is not None:
            assert spec.origin is not None
            spec.loader = _Text(name, spec.origin, self._text)
        return spec


class _Text(SourceFileLoader):
    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:  # the loader is one module's
        return compile(self._text, self.path, "exec")


def read_lines() -> dict[str, Line]:
    """The blocks of faults.txt."""
    found = {}
    for block in (HERE / "faults.txt").read_text(encoding="utf-8").strip().split("\n\n")[1:]:
        name, file, *rest = block.splitlines()
        right, wrong = ("\n".join(x[2:] for x in rest if x.startswith(sign)) for sign in "-+")
        assert name.startswith("# "), name
        assert name[2:] not in found, f"two faults are called {name[2:]!r}"
        found[name[2:]] = Line(file, right, wrong, rest[-1])
    return found


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
        "frontend.watch.reads",
        "Reads.guards",
        lambda _: property(lambda reads: ()),
        "test_compile.py::test_a_changed_global_is_noticed",
    ),
    "contents of containers": Fault(
        "frontend.watch.reads",
        "Reads.all_of",
        lambda _: lambda reads, value, depth=0: None,
        f"{_STATE}[a_loop_over_a_list]",
    ),
    "changes while tracing": Fault(
        "frontend.watch.effects",
        "Effects.take_back",
        lambda _: lambda effects: None,
        f"{_STATE}[a_list_of_metrics]",
    ),
    "numbers that vary": Fault(
        "frontend.watch.numbers",
        "note",
        lambda _: lambda expression, seen: None,
        f"{_STATE}[a_counter_that_decides_now_and_then]",
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


EVERY: dict[str, Fault | Line] = {**FAULTS, **read_lines()}


# --- as a program ---------------------------------------------------------------------------------


def serve() -> None:
    """For each line of the input (a fault or "none", a file, tests) writes pytest's exit status.

    What pytest prints is in the file.
    """
    for name in ("hypothesis", "llvmlite.binding", "numba", "numpy", "scipy", "torch", "xdist"):
        with suppress(ImportError):
            import_module(name)
    for line in sys.stdin:
        fault, log, *tests = line.rstrip("\n").split("\t")
        print(_status(fault, log, tests), flush=True)


def _status(fault: str, log: str, tests: Sequence[str]) -> int:
    """That of pytest with a fault, up to the first failure, in a process of its own."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            status = _test(fault, tests)
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _test(fault: str, tests: Sequence[str]) -> int:
    """pytest's exit status; a failing example is not made smaller, since nobody reads it."""
    import pytest
    from hypothesis import Phase, settings

    settings.register_profile("faults", derandomize=True, deadline=None, phases=[Phase.generate])
    os.environ["HYPOTHESIS_PROFILE"] = "faults"
    if fault != "none":
        EVERY[fault].inject()
    options = ["-n", "0", "-p", "no:cacheprovider", "-x", "-q", "--backend", "llvm"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what `serve` has imported
    return pytest.main([*options, *tests])


if __name__ == "__main__":
    serve()
