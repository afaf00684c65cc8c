"""`taut opt`, `run` and `diff`: IR text in, IR text or results out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from taut.compiler import evaluate_graph, parse_graph, pipeline
from taut.compiler.ir import Graph
from taut.compiler.pipeline import PARTS, PASSES, Pass
from taut.compiler.primitives.create import graph_input
from taut.compiler.primitives.random import STATE
from taut.frontend.cli import cli

STEP = """\
taut-ir 1
func @step<B>(%x: f32[B,3], %w: f32[3,1], %lr: f32[]) -> (f32[], f32[3,1]) {
  %z: f32[B,1] = matmul %x, %w                  loc("fit.py":3:9)
  %loss: f32[] = reduce_sum %z {dims = [0, 1]}   loc("fit.py":4:9)
  %one: f32[3,1] = full {value = 1.0}
  %v: f32[3,1] = mul %w, %one
  %c: bool[] = lt %lr, %loss
  check %c "the step is too long"
  return %loss, %v -> %w
}
"""
LEFT = """\
taut-ir 1
func @step<B>(%x: f32[B,3], %w: f32[3,1], %lr: f32[]) -> (f32[], f32[3,1]) {
  %z: f32[B,1] = matmul %x, %w                   loc("fit.py":3:9)
  %loss: f32[] = reduce_sum %z {dims = [0, 1]}   loc("fit.py":4:9)
  %c: bool[] = lt %lr, %loss
  check %c "the step is too long"
  return %loss, %w -> %w
}
"""
X = ("--arg", "x=f32[4,3]", "--arg", "lr=-100.0")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "step.ir").write_text(STEP)
    return tmp_path


def run(*arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(cli, arguments, input=input)


def shown(*arguments: str, input: str | None = None) -> str:
    result = run(*arguments, input=input)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def error(*arguments: str, code: int, input: str | None = None) -> str:
    """The first line that a failing command says; it prints nothing else."""
    result = run(*arguments, input=input)
    assert result.exit_code == code, (result.stdout, result.stderr)
    assert not result.stdout
    return result.stderr.splitlines()[0].removeprefix("taut: error: ")


# --- IR in, IR out ------------------------------------------------------------------------------


PRODUCT = """\
%a: f32[2,2] = reshape %x; %b: f32[2,2] = reshape %y;
%m: f32[2,2] = matmul %a, %b; %r: f32[2,2] = transpose %m {perm = [1, 0]}"""
TURNED = """\
%b: f32[2,2] = reshape %y; %0: f32[2,2] = transpose %b {perm = [1, 0]};
%a: f32[2,2] = reshape %x; %1: f32[2,2] = transpose %a {perm = [1, 0]};
%r: f32[2,2] = matmul %0, %1"""


def function(body: str, result: str = "%r") -> str:
    """A function of x: f32[4], y: f32[4] and c: bool[4] from statements between semicolons."""
    head = "func @f(%x: f32[4], %y: f32[4], %c: bool[4])"
    statements = "".join(f"  {line.strip()}\n" for line in body.split(";") if line.strip())
    kind = re.search(rf"{re.escape(result)}: (\w+\[[\d,]*\])", f"{body} %x: f32[4] %y: f32[4]")
    assert kind is not None
    return f"taut-ir 1\n{head} -> ({kind[1]}) {{\n{statements}  return {result}\n}}\n"


@pytest.mark.parametrize(
    ("passes", "body", "expected", "result"),
    [
        (
            "fold",
            "%a: f32[4] = full {value = 3.0}; %s: f32[4] = mul %a, %a; %r: f32[4] = add %x, %s",
            "%s: f32[4] = full {value = 9.0}; %r: f32[4] = add %x, %s",
            "%r",
        ),
        ("algebra", "%a: f32[4] = neg %x; %r: f32[4] = neg %a", "", "%x"),
        (
            "algebra",
            "%a: f32[4] = neg %y; %r: f32[4] = sub %x, %a",
            "%r: f32[4] = add %x, %y",
            "%r",
        ),
        (
            "logic",
            "%a: bool[4] = not %c; %r: f32[4] = select %a, %x, %y",
            "%r: f32[4] = select %c, %y, %x",
            "%r",
        ),
        ("casts", "%a: f64[4] = cast %x; %r: f32[4] = cast %a", "", "%x"),
        (
            "shapes",
            "%a: f32[2,2] = reshape %x; %r: f32[1,4] = reshape %a",
            "%r: f32[1,4] = reshape %x",
            "%r",
        ),
        (
            "narrow",
            "%a: f32[3,4] = broadcast %x {dims = [1]}; %r: f32[3,4] = exp %a",
            "%0: f32[4] = exp %x; %r: f32[3,4] = broadcast %0 {dims = [1]}",
            "%r",
        ),
        (
            "narrow,shapes,casts",
            "%a: f32[4] = neg %x; %r: f32[4] = exp %a",
            "%a: f32[4] = neg %x; %r: f32[4] = exp %a",
            "%r",
        ),
        ("layout", PRODUCT, TURNED, "%r"),
        (
            "simplify",
            "%o: f32[4] = full {value = 1.0}; %a: f32[4] = mul %x, %o; %r: f32[4] = add %a, %y",
            "%r: f32[4] = add %x, %y",
            "%r",
        ),
        (
            "checks",
            '%t: bool[] = full {value = true}; check %t "holds"; %r: f32[4] = exp %x',
            "%r: f32[4] = exp %x",
            "%r",
        ),
    ],
)
def test_a_pass_does_what_its_text_says(passes: str, body: str, expected: str, result: str) -> None:
    got = shown("opt", "-", "--passes", passes, input=function(body))
    assert got == str(parse_graph(function(expected, result)))
    assert shown("opt", "-", "--passes", passes, input=got) == got, "again changes nothing"


def test_without_a_choice_the_pipeline_runs(folder: Path) -> None:
    assert shown("opt", "step.ir") == LEFT
    names = ",".join(p.name for p in PASSES)
    assert shown("opt", "-", "--passes", names, input=STEP) == LEFT
    assert shown("dump", "step.ir", "--stage", "opt") == LEFT
    assert parse_graph(shown("opt", "step.ir", "--passes", "")) == parse_graph(STEP)


def test_a_file_may_hold_several_graphs(folder: Path) -> None:
    assert shown("opt", "-", input=f"{STEP}\n{STEP}") == f"{LEFT}\n{LEFT}"


def test_the_graph_is_shown_after_passes(folder: Path) -> None:
    every = run("opt", "step.ir", "--print-after", "all")
    assert every.stdout == LEFT
    heads = re.findall(r"^// after .*$", every.stderr, re.MULTILINE)
    assert heads == [
        "// after layout: no change",
        "// after simplify",
        "// after checks: no change",
    ]
    changed = run("opt", "step.ir", "--print-after", "changed").stderr
    assert changed == f"// after simplify\n{LEFT}"
    assert run("opt", "step.ir", "--print-after", "simplify").stderr == changed


def test_passes_are_timed(folder: Path) -> None:
    told = run("opt", "step.ir", "--timing")
    assert told.stdout == LEFT
    lines = told.stderr.splitlines()
    assert lines[0] == "// timing of @step"
    assert re.fullmatch(r"//   simplify +\d+\.\d{3} ms +5 -> 3 nodes", lines[2])
    assert [line.split()[1] for line in lines[1:]] == ["layout", "simplify", "checks", "all"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--passes", "fold,algebar"),
            "--passes: no pass is called 'algebar'; did you mean 'algebra'?",
        ),
        (
            ("--passes", "xyzzy"),
            "--passes: no pass is called 'xyzzy'; there are "
            + ", ".join(p.name for p in (*PASSES, *PARTS)),
        ),
        (
            ("--print-after", "simplifi"),
            "--print-after: 'simplifi' is none of the passes that run; did you mean 'simplify'?",
        ),
        (
            ("--passes", "fold", "--print-after", "layout"),
            "--print-after: 'layout' is none of the passes that run; those are fold",
        ),
    ],
)
def test_an_unknown_pass_is_an_error_of_usage(
    folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert error("opt", "step.ir", *arguments, code=2) == message


def test_a_pass_that_breaks_a_graph_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_it(graph: Graph) -> Graph:
        return graph.replace(outputs=(graph_input(7, graph.outputs[0].aval), graph.outputs[1]))

    broken = (PASSES[0], Pass("breaker", break_it, "a fault"), PASSES[1])
    monkeypatch.setattr(pipeline, "PASSES", broken)
    said = error("opt", "step.ir", "--verify-each", code=4)
    assert "IRError: after the pass breaker: step: output" in said


def test_a_graph_that_is_not_well_formed_is_the_users_error() -> None:
    text = STEP.replace("%v -> %w", "%v -> %lr")
    assert "cannot replace" in error("opt", "-", input=text, code=1)
    assert error("opt", "nix.ir", code=1) == "there is no file nix.ir"


# --- results ------------------------------------------------------------------------------------


def test_results_are_printed_as_tensors(folder: Path) -> None:
    np.save("x.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    np.save("w.npy", np.ones((3, 1), np.float32))
    given = ("--arg", "x=@x.npy", "--arg", "w=@w.npy", "--arg", "lr=0.5")
    column = "tensor([[1.],\n        [1.],\n        [1.]])"
    expected = f"%loss: f32[]\ntensor(15.)\n%v: f32[3,1] -> %w\n{column}\n"
    assert shown("run", "step.ir", *given) == expected
    assert shown("run", "-", *given, "--backend", "numba", input=STEP) == expected
    assert (np.load("w.npy") == 1).all()


def test_made_up_data_is_the_same_each_time(folder: Path) -> None:
    first = shown("run", "step.ir", *X)
    assert first == shown("run", "step.ir", *X)
    assert first == shown("run", "step.ir", *X, "--arg", "w=f32[3,1]"), "its type changes nothing"
    assert first != shown("run", "step.ir", *X, "--seed", "1")


def test_results_are_written_and_are_those_of_the_graph(folder: Path) -> None:
    result = run("run", "step.ir", *X, "--out", "out")
    assert (result.stdout, result.stderr) == ("", "wrote out/0.loss.npy\nwrote out/1.v.npy\n")
    w = np.random.default_rng([0, 1]).standard_normal((3, 1)).astype(np.float32)
    x = np.random.default_rng([0, 0]).standard_normal((4, 3)).astype(np.float32)
    expected = evaluate_graph(parse_graph(STEP), [x, w, np.float32(-100)])
    for name, array in zip(("0.loss", "1.v"), expected, strict=True):
        # A sum of 12 products of numbers around 1.
        np.testing.assert_allclose(np.load(f"out/{name}.npy"), array, rtol=0, atol=1e-5)


def test_every_kind_of_input_can_be_made_up(folder: Path) -> None:
    state = str(STATE)
    text = (
        f"taut-ir 1\nfunc @f<N>(%a: bool[N], %b: i64[3], %t: f64[2,N], %s: {state}, %lr: ~f64[])"
        " -> (bool[N], i64[3], f64[2,N], ~f64[], f32[2]) {\n"
        f"  %u: f32[2], %s2: {state} = uniform %s\n  return %a, %b, %t, %lr, %u\n}}\n"
    )
    shown_text = shown("run", "-", "--arg", "t=f64[2,5]", input=text)
    assert shown_text.splitlines()[0] == "%a: bool[5]"
    assert set(re.findall(r"True|False", shown_text)) == {"True", "False"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), ("the size B of x: f32[B,3] is not known; give it an array or a type with numbers, "
              "such as --arg 'x=f32[4,3]'")),
        (("-a", "x=f32[4,2]"), "--arg x: expected f32[B,3], got size 2 in dimension 1"),
        (("-a", "x=f32[C,3]"), "--arg x: sizes must be numbers here, not f32[C,3]"),
        (("-a", "x=f64[4,3]"), "--arg x: the graph takes f32[B,3], not f64[4,3]"),
        (("-a", "x=f32[4]"), "--arg x: the graph takes f32[B,3], not f32[4]"),
        (("-a", "x=3.0"), "--arg x: the graph takes f32[B,3], not 3.0"),
        (("-a", "lr=none"), "--arg lr: the graph takes f32[], not None"),
        (("-a", "xx=f32[4,3]"), "step has no input 'xx'; did you mean 'x'?"),
        (("-a", "q7=f32[4,3]"), "step has no input 'q7'; it takes x, w, lr"),
        (("-a", "=f32[4,3]"), "--arg =f32[4,3]: expected name=value, such as x=f32[64,8]"),
    ],
)  # fmt: skip
def test_an_argument_that_does_not_fit_is_an_error_of_usage(
    folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert error("run", "step.ir", *arguments, code=2) == message


def test_an_integer_must_be_one_of_the_inputs() -> None:
    text = "taut-ir 1\nfunc @f(%n: i8[]) -> (i8[]) {\n  return %n\n}\n"
    assert shown("run", "-", "--arg", "n=-5", input=text) == (
        "%n: i8[]\ntensor(-5, dtype=torch.int8)\n"
    )
    assert error("run", "-", "--arg", "n=300", input=text, code=2) == (
        "--arg n: the graph takes i8[], not 300"
    )
    assert error("run", "-", "--arg", "n=0.5", input=text, code=2) == (
        "--arg n: the graph takes i8[], not 0.5"
    )


def test_names_that_are_paths_can_be_given() -> None:
    head = 'func @f(%net.0.w: f32[], %"a b": f32[]) -> (f32[], f32[])'
    text = f'taut-ir 1\n{head} {{\n  return %net.0.w, %"a b"\n}}\n'
    got = shown("run", "-", "--arg", "net.0.w=2.0", "--arg", "a b=3.0", input=text)
    assert got == '%net.0.w: f32[]\ntensor(2.)\n%"a b": f32[]\ntensor(3.)\n'


def test_a_check_that_fails_is_the_users_error(folder: Path) -> None:
    said = error("run", "step.ir", "-a", "x=f32[4,3]", "-a", "lr=100.0", code=1)
    assert said == "a check of step failed: the step is too long"
    assert error("run", "-", input=STEP * 2, code=1) == "- holds 2 graphs; a file to run holds one"


# --- differences --------------------------------------------------------------------------------


def test_the_same_program_has_no_difference(folder: Path) -> None:
    (folder / "other.ir").write_text(STEP.replace("%z", "%q").replace("@step", "@other"))
    result = run("diff", "step.ir", "other.ir")
    assert (result.exit_code, result.output) == (0, "")


def test_a_difference_is_shown_and_told_by_the_exit_code(folder: Path) -> None:
    result = run("diff", "step.ir", "-", input=STEP.replace("%lr, %loss", "%loss, %lr"))
    assert (result.exit_code, result.stderr) == (1, "")
    lines = result.stdout.splitlines()
    assert lines[:2] == ["--- step.ir", "+++ -"]
    assert [line for line in lines[2:] if line[0] in "+-"] == [
        "-  %c: bool[] = lt %lr, %loss",
        "+  %c: bool[] = lt %loss, %lr",
    ]


def test_stages_are_compared(folder: Path) -> None:
    (folder / "left.ir").write_text(LEFT)
    assert run("diff", "step.ir", "left.ir").exit_code == 1
    assert run("diff", "step.ir", "left.ir", "--stage", "opt").exit_code == 0
    assert run("diff", "step.ir", "left.ir", "--stage", "simplify").exit_code == 0
    assert "stage with graphs" in error("diff", "step.ir", "left.ir", "-s", "asm", code=2)
    assert "did you mean 'opt'" in error("diff", "step.ir", "left.ir", "-s", "otp", code=2)


def test_functions_are_compared_with_functions_and_texts(folder: Path) -> None:
    (folder / "two_ways.py").write_text(
        "def a(x):\n    return (x + x) * x\n\n\ndef b(x):\n    return x * (x + x)\n\n\n"
        "def c(x):\n    y = x + x\n    return y * x\n"
    )
    x = ("--arg", "x=f32[4]")
    assert run("diff", "two_ways.py:a", "two_ways.py:c", *x).exit_code == 0
    assert run("diff", "two_ways.py:a", "two_ways.py:b", *x).exit_code == 1
    (folder / "a.ir").write_text(shown("dump", "two_ways.py:a", *x, "--stage", "joint"))
    assert run("diff", "a.ir", "two_ways.py:c", *x).exit_code == 0
    said = run("diff", "a.ir", "two_ways.py:c")
    assert said.exit_code == 2
    assert "For instance:  taut diff two_ways.py:c --arg 'x=f32[64,8]'" in said.stderr


def test_a_graph_that_only_one_has_is_named(folder: Path) -> None:
    result = run("diff", "step.ir", "-", input=STEP * 2)
    assert (result.exit_code, result.stdout) == (1, "only in -: @step\n")
