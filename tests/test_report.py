from __future__ import annotations

import json
import re
from typing import Any

import pytest

import taut
from taut.compiler.pipeline import STAGES
from taut.compiler.text import parse_graph
from taut.frontend.report import Report, parse_graphs, stages_of
from taut.frontend.report_json import report_json
from taut.runtime.options import Options

LAYER = """\
taut-ir 1
func @layer<B>(%x: f32[B,8], %w: f32[8,16], %b: f32[16]) -> (f32[B,16]) {
  %z: f32[B,16] = matmul %x, %w              loc("mlp.py":12:9)
  %b2: f32[B,16] = broadcast %b {dims = [1]}   loc("mlp.py":12:9)
  %h: f32[B,16] = add %z, %b2                loc("mlp.py":12:9)
  %c: bool[] = full {value = true}
  check %c "never fails"
  %one: f32[B,16] = full {value = 1.0}
  %y: f32[B,16] = mul %h, %one
  %t: f32[B,16] = tanh %y                    loc("mlp.py":13:9)
  return %t
}
"""
LLVM, NUMBA = Options(cache=False), Options(backend="numba", cache=False)


def layer(options: Options = LLVM) -> Report:
    return Report(parse_graph(LAYER), options)


# --- selections ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "stages"),
    [
        ("opt", ("opt",)),
        ("simplify", ("simplify",)),
        ("trace..opt", ("trace", "joint", "opt")),
        ("opt..opt", ("opt",)),
        ("..joint", ("trace", "joint")),
        ("llvm..", ("llvm", "asm")),
        ("..", STAGES),
        ("all", STAGES),
    ],
)
def test_a_selection_names_stages_in_the_pipelines_order(
    selection: str, stages: tuple[str, ...]
) -> None:
    assert stages_of(selection) == stages


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("otp", "no stage is called 'otp'; did you mean 'opt'?"),
        (
            "trace..memroy",  # codespell:ignore memroy
            "no stage is called 'memroy'; did you mean 'memory'?",
        ),
        (
            "xyz",
            f"no stage is called 'xyz'; there are {', '.join(STAGES)} and all",
        ),
        ("opt..trace", "the stage 'trace' comes before 'opt'; did you mean trace..opt?"),
    ],
)
def test_an_unknown_stage_is_an_error_with_the_nearest_name(selection: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        layer().text(selection)


# --- text ---------------------------------------------------------------------------------------


def test_graph_stages_are_ir_text() -> None:
    report = layer()
    assert parse_graph(report.text("trace")) == parse_graph(LAYER)
    assert report.text("joint") == report.text("trace")
    optimised = parse_graph(report.text("opt"))
    assert [node.prim.name for node in optimised.nodes] == ["matmul", "broadcast", "add", "tanh"]
    assert not optimised.checks


def test_a_pass_is_a_stage_to_stop_after() -> None:
    stopped = parse_graph(layer().text("simplify"))
    assert len(stopped.nodes) < len(parse_graph(LAYER).nodes)
    assert stopped.checks, "the pass that removes checks comes later"


def test_later_stages_show_groups_memory_and_kernels() -> None:
    report = layer()
    assert report.text("fused").startswith("fused @layer: 1 groups")
    assert "group 0: matmul matmul_add_tanh" in report.text("fused")
    assert "0: x: f32[B,8] input 0\n" in report.text("memory")
    assert "tanh" in report.text("kernel")
    assert report.text("kernel").startswith("kernel ")


def test_the_llvm_back_end_shows_llvm_ir_and_assembly() -> None:
    report = layer()
    assert 'define i32 @"taut_program"(ptr %"table")' in report.text("llvm")
    assert re.search(r"^taut_program:", report.text("asm"), re.MULTILINE)


def test_the_numba_back_end_shows_python() -> None:
    report = layer(NUMBA)
    compile(report.text("kernel"), "<kernel>", "exec")
    assert "@kernel\ndef " in report.text("kernel")
    assert report.text("llvm") == report.text("kernel")
    assert report.stages("all") == ("trace", "joint", "opt", "fused", "memory", "kernel")


def test_several_stages_have_headers_that_are_comments() -> None:
    report = layer()
    text = report.text("trace..opt")
    assert re.findall("^// stage: (.*)$", text, re.MULTILINE) == ["trace", "joint", "opt"]
    graphs = parse_graphs(text)
    assert [str(g) for g in graphs] == [report.text(s) for s in ("trace", "joint", "opt")]


def test_a_range_of_one_stage_has_its_header() -> None:
    report = layer()
    assert report.text("opt..opt") == f"// stage: opt\n{report.text('opt')}"


def test_every_stage_ends_with_one_line_end() -> None:
    report = layer()
    for stage in STAGES:
        assert re.search(r"[^\n]\n\Z", report.text(stage)), stage


def test_a_report_computes_a_stage_once(monkeypatch: pytest.MonkeyPatch) -> None:
    report = layer()
    first = report.text("memory")
    (program,) = report.programs
    assert program.scheduled is program.scheduled
    assert program.optimised is program.optimised
    monkeypatch.setattr("taut.compiler.schedule.schedule_stages", None)
    assert report.text("memory") == first


def test_a_program_without_kernels_says_so() -> None:
    graph = parse_graph("taut-ir 1\nfunc @f(%x: f32[2]) -> (f32[2]) { return %x }")
    assert Report(graph, LLVM).text("kernel") == "// f has no kernels\n"
    assert Report(graph, LLVM).kernels() == []


# --- kernels ------------------------------------------------------------------------------------


def test_kernels_are_loop_ir_with_costs() -> None:
    (kernel,) = layer().kernels()
    assert "tanh" in kernel.name
    assert str(kernel.bytes_moved) == "B*64+64"
    assert kernel.symbols == ("B",)


def test_programs_of_several_graphs_are_shown_one_after_another() -> None:
    other = LAYER.replace("@layer", "@other")
    report = Report(parse_graphs(LAYER + other), LLVM)
    assert [g.name for g in parse_graphs(report.text("opt"))] == ["layer", "other"]
    assert len(report.kernels()) == 2


def test_an_error_in_the_second_graph_is_told_at_its_own_line() -> None:
    wrong = LAYER.replace("tanh %y", "tanh %nix")
    line = 2 * LAYER.count("\n") - 2
    with pytest.raises(ValueError, match=rf"^two\.ir:{line}:24: %nix is not defined"):
        parse_graphs(LAYER + wrong, "two.ir")


# --- JSON ---------------------------------------------------------------------------------------


def test_json_of_graphs_is_structured() -> None:
    found = report_json(layer(), "opt")
    assert (found["name"], found["backend"]) == ("layer", "llvm")
    (stage,) = found["stages"]
    (graph,) = stage["programs"]
    assert graph["symbols"] == ["B"]
    assert graph["inputs"][0] == {"name": "%x", "dtype": "f32", "shape": ["B", 8], "weak": False}
    assert graph["nodes"][1] == {
        "primitive": "broadcast",
        "results": [{"name": "%b2", "dtype": "f32", "shape": ["B", 16], "weak": False}],
        "operands": ["%b"],
        "attributes": {"dims": [1]},
        "locs": [{"file": "mlp.py", "line": 12, "column": 9, "grad": False}],
    }
    assert [output["name"] for output in graph["outputs"]] == ["%t"]
    assert graph["outputs"][0]["replaces"] is None


def test_json_has_the_checks_and_the_donations() -> None:
    text = """\
taut-ir 1
func @write(%x: f32[4], %ok: bool[]) -> (f32[4]) {
  check %ok "x is empty"   loc("a.py":1:2)
  %y: f32[4] = neg %x
  return %y -> %x
}
"""
    (stage,) = report_json(Report(parse_graph(text), LLVM), "trace")["stages"]
    (graph,) = stage["programs"]
    loc = {"file": "a.py", "line": 1, "column": 2, "grad": False}
    assert graph["checks"] == [{"condition": "%ok", "message": "x is empty", "locs": [loc]}]
    assert graph["outputs"][0]["replaces"] == "%x"


def test_json_of_schedules_is_structured() -> None:
    fused, memory, kernel = report_json(layer(), "fused..kernel")["stages"]
    (plan,), (program,), (kernels,) = (s["programs"] for s in (fused, memory, kernel))
    assert [group["kind"] for group in plan["groups"]] == ["matmul"]
    assert plan["cuts"] == []
    (step,) = program["steps"]
    assert step["step"] == "blocks"
    assert step["product"]["rows"] == "B"
    assert program["buffers"][0]["shape"] == ["B", 8]
    assert step["after"]["kernel"] == kernels["kernels"][0]["name"]
    assert step["before"] is None
    assert kernels["kernels"][0]["bytes"] == "B*64+64"
    assert kernels["kernels"][0]["text"] == layer().text("kernel")


@pytest.mark.parametrize("options", [LLVM, NUMBA], ids=["llvm", "numba"])
def test_json_of_all_stages_is_strict_json(options: Options) -> None:
    found = report_json(layer(options), "all")
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text) == found
    assert [s["stage"] for s in found["stages"]] == list(layer(options).stages("all"))


def test_json_writes_infinities_as_text() -> None:
    text = """\
taut-ir 1
func @f() -> (f32[2]) {
  %x: f32[2] = full {value = -inf}
  return %x
}
"""
    (stage,) = report_json(Report(parse_graph(text), LLVM), "trace")["stages"]
    assert stage["programs"][0]["nodes"][0]["attributes"] == {"value": "-inf"}


# --- compiled functions -------------------------------------------------------------------------


@taut.compile
def scaled_tanh(x: taut.Tensor) -> Any:
    return taut.tanh(x * 2.0)


def test_a_compiled_function_shows_its_newest_form() -> None:
    scaled_tanh(taut.ones(3))
    scaled_tanh(taut.ones(5))
    assert "func @scaled_tanh(%x: f32[5]) -> (f32[5])" in scaled_tanh.ir()
    assert scaled_tanh.ir("trace..opt").count("// stage: ") == 3
    (kernel,) = scaled_tanh.kernels()
    assert kernel.extents == (5,)
    assert scaled_tanh.report().name == "scaled_tanh"


def test_a_result_with_a_gradient_is_two_programs() -> None:
    @taut.compile
    def square(x: taut.Tensor) -> Any:
        return x * x

    square(taut.ones(3, requires_grad=True))
    (traced,) = parse_graphs(square.ir("trace"))
    forward, backward = parse_graphs(square.ir("opt"))
    assert [graph.name for graph in (traced, forward, backward)] == [
        "square",
        "square",
        "square_backward",
    ]
    assert len(backward.inputs) == 2, "the argument and the result's cotangent"
    assert len(square.kernels()) == 2


def test_a_step_has_its_gradients_in_the_joint_stage_only() -> None:
    w = taut.ones(3, requires_grad=True)

    @taut.compile
    def step(x: taut.Tensor) -> Any:
        loss = (w * x).sum()
        loss.backward()
        return loss

    step(taut.ones(3))
    assert "grad " not in step.ir("trace")
    assert "grad " in step.ir("joint")
