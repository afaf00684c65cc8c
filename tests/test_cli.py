from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import taut
from taut.compiler.pipeline import STAGES
from taut.compiler.text import parse_graph
from taut.frontend.cli import cli, main
from taut.frontend.report import parse_graphs
from taut.runtime.cache import Cache

TRAIN = """\
import taut
from taut import nn, optim

print("a print while importing")
taut.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = optim.SGD(net.parameters(), lr=0.1)
criterion = nn.MSELoss()
number = 3


@taut.compile
def step(x, y):
    optimizer.zero_grad()
    loss = criterion(net(x), y)
    loss.backward()
    optimizer.step()
    return loss


def plain(x, scale=2.0, *, flag=False):
    print("a print of the function")
    z = x * scale
    if flag:
        return z + 1.0
    return z


def helper(y):
    return y @ y


def wrong(x):
    y = x + 1.0
    return helper(y)


def pair(batch, **options):
    return batch[0] + batch[1] * options["factor"]


def several(*parts):
    return parts[0] + parts[1]


class Model:
    @taut.compile
    def doubled(self, x):
        return x + x


model = Model()
fast = taut.compile(nn.Linear(3, 2))

if __name__ == "__main__":
    raise RuntimeError("imported as a script")
"""

CALLED = """\
import taut


@taut.compile
def double(x):
    return x + x


double(taut.ones(3))
double(taut.ones(5))
"""

LAYER = """\
taut-ir 1
func @layer<B>(%x: f32[B,8], %w: f32[8,16]) -> (f32[B,16]) {
  %z: f32[B,16] = matmul %x, %w   loc("mlp.py":12:9)
  %one: f32[B,16] = full {value = 1.0}
  %y: f32[B,16] = mul %z, %one
  %t: f32[B,16] = tanh %y         loc("mlp.py":13:9)
  return %t
}
"""
USER_MODULES = {
    "train", "called", "broken", "ends", "main", "neighbour", "package", "package.part",
}  # fmt: skip
STEP_ARGS = ("--arg", "x=f32[4,8]", "--arg", "y=f32[4,1]")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory: a program, a text, and a cache of its own."""
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "called.py").write_text(CALLED)
    (tmp_path / "layer.ir").write_text(LAYER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [n for n in os.environ if n.startswith("TAUT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TAUT_CACHE_DIR", str(tmp_path / "cache"))
    yield tmp_path
    for name in USER_MODULES & set(sys.modules):
        del sys.modules[name]


def run(*arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(cli, arguments, input=input)


def shown(*arguments: str, input: str | None = None) -> str:
    """What a command that succeeds prints."""
    result = run(*arguments, input=input)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def error(*arguments: str, code: int, input: str | None = None) -> str:
    """What a command that fails says; it prints nothing else."""
    result = run(*arguments, input=input)
    assert result.exit_code == code, (result.stdout, result.stderr)
    assert not result.stdout
    return result.stderr


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "taut", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )


# --- what is shown ------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_of_a_training_step_is_shown(folder: Path, stage: str) -> None:
    text = shown("dump", "train.py:step", *STEP_ARGS, "--stage", stage)
    telling = {
        "trace": "func @step(\n    %x: f32[4,8],\n    %y: f32[4,1],\n",
        "joint": '"train.py":16:',
        "opt": " -> %",
        "fused": "fused @step: ",
        "memory": "program @step\n",
        "kernel": "kernel ",
        "llvm": "define i32 @",
        "asm": "taut_program:",
    }
    assert telling[stage] in text
    assert str(folder) not in text


def test_the_graph_stages_of_a_step_read_back(folder: Path) -> None:
    texts = [shown("dump", "train.py:step", *STEP_ARGS, "-s", s) for s in ("trace", "joint", "opt")]
    forward, joint, optimised = map(parse_graph, texts)
    assert [str(g) for g in (forward, joint, optimised)] == texts
    assert len(forward.nodes) < len(joint.nodes)
    assert len(optimised.nodes) <= len(joint.nodes)
    assert sum(d is not None for d in joint.donations) == 4, "parameters are updated in place"


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_of_a_text_is_shown(folder: Path, stage: str) -> None:
    text = shown("dump", "layer.ir", "--stage", stage)
    assert text == shown("dump", "-", "--stage", stage, input=LAYER)
    assert text.endswith("\n")


def test_the_default_stage_is_the_optimised_graph(folder: Path) -> None:
    assert shown("dump", "layer.ir") == shown("dump", "layer.ir", "--stage", "opt")


def test_an_optimised_text_stays_as_it_is(folder: Path) -> None:
    once = shown("dump", "layer.ir", "--stage", "opt")
    assert "mul" not in once.replace("matmul", "")
    assert shown("dump", "-", "--stage", "opt", input=once) == once


def test_a_range_of_stages_has_headers(folder: Path) -> None:
    text = shown("dump", "layer.ir", "--stage", "trace..opt")
    assert re.findall("^// stage: (.*)$", text, re.MULTILINE) == ["trace", "joint", "opt"]
    assert len(parse_graphs(text)) == 3


def test_the_numba_back_end_shows_its_python(folder: Path) -> None:
    text = shown("dump", "layer.ir", "--stage", "kernel", "--backend", "numba")
    compile(text, "kernels", "exec")
    assert "@kernel\ndef " in text


def test_what_the_users_program_prints_stays_off_stdout(folder: Path) -> None:
    result = run("dump", "train.py:plain", "--arg", "x=f32[4]")
    parse_graph(result.stdout)
    assert result.stderr == "a print while importing\n"  # and the function is not called


def test_json_is_structured(folder: Path) -> None:
    found = json.loads(shown("dump", "layer.ir", "--stage", "all", "--format", "json"))
    assert found["name"] == "layer"
    assert [stage["stage"] for stage in found["stages"]] == list(STAGES)
    (optimised,) = found["stages"][2]["programs"]
    assert [node["primitive"] for node in optimised["nodes"]] == ["matmul", "tanh"]


# --- targets ------------------------------------------------------------------------------------


def test_a_function_that_was_called_is_shown_as_it_was_compiled(folder: Path) -> None:
    assert "func @double(%x: f32[5])" in shown("dump", "called.py:double")
    assert "func @double(%x: f32[7])" in shown("dump", "called.py:double", "--arg", "x=f32[7]")


def test_a_module_object_is_shown_by_its_forward(folder: Path) -> None:
    text = shown("dump", "train.py:net", "--arg", "input=f32[4,8]", "--stage", "trace")
    assert "func @Sequential(\n    %input: f32[4,8],\n" in text
    assert [n.prim.name for n in parse_graph(text).nodes].count("matmul") == 2


def test_a_compiled_module_is_shown_as_its_call(folder: Path) -> None:
    text = shown("dump", "train.py:fast", "--arg", "input=f32[4,3]", "--stage", "trace")
    (graph,) = parse_graphs(text)
    assert graph.name == "Linear"
    assert [str(value.aval) for value in graph.inputs] == ["f32[4,3]", "f32[2,3]", "f32[2]"]


def test_what_backward_runs_is_shown_too(folder: Path) -> None:
    text = shown("dump", "train.py:net", "--arg", "input=f32[4,8]", "--stage", "opt")
    forward, backward = parse_graphs(text)
    assert backward.name == f"{forward.name}_backward"
    assert shown("dump", "-", input=text) == text


def test_a_compiled_method_of_an_object_is_shown(folder: Path) -> None:
    assert "add %x, %x" in shown("dump", "train.py:model.doubled", "--arg", "x=f32[4]")


def test_a_module_is_found_by_its_dotted_name(folder: Path) -> None:
    (folder / "package").mkdir()
    (folder / "package" / "part.py").write_text("def twice(x):\n    return x + x\n")
    assert "add %x, %x" in shown("dump", "package.part:twice", "--arg", "x=f32[4]")


def test_a_file_imports_its_neighbours(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "neighbour.py").write_text("def twice(x):\n    return x + x\n")
    (folder / "sub" / "main.py").write_text("from neighbour import twice\n")
    assert "add %x, %x" in shown("dump", "sub/main.py:twice", "--arg", "x=f32[4]")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("train.py:stpe", "train.py has no 'stpe'; did you mean 'step'?"),
        ("train.py:model.doubeld", "train.py.model has no 'doubeld'; did you mean 'doubled'?"),
        ("trainn.py:step", "there is no file trainn.py; did you mean 'train.py'?"),
        ("laier.ir", "there is no file laier.ir; did you mean 'layer.ir'?"),
        ("train.py:number", ("train.py:number is of type int; name a function, a method or "
         "a module object")),
        ("train.py:Model", ("train.py:Model is a class; name a function, a method or a module "
         "object")),
        ("nix.nux:f", "no module is called 'nix'"),
        ("called.py", "which function of called.py? Say called.py:name; there are: double"),
        ("step", ("'step' is no target; a target is file.py:function, package.module:object, "
         "file.ir, or - for IR text on stdin")),
    ],
)  # fmt: skip
def test_a_bad_target_is_the_users_error(folder: Path, target: str, message: str) -> None:
    said = error("dump", target, code=1)
    assert said.removeprefix("a print while importing\n") == f"taut: error: {message}\n"


def test_a_text_with_a_mistake_is_told_at_its_place(folder: Path) -> None:
    text = LAYER.replace("tanh", "tanhh")
    assert error("dump", "-", input=text, code=1) == (
        "taut: error: <stdin>:6:19: unknown primitive 'tanhh'; did you mean 'tanh'?\n"
    )


# --- what the user's program raises -------------------------------------------------------------


def test_an_error_while_tracing_is_told_at_the_users_lines(folder: Path) -> None:
    said = error("dump", "train.py:wrong", "--arg", "x=f32[4,8]", code=1)
    lines = said.splitlines()
    assert [line for line in lines if line.startswith("  File")] == [
        '  File "train.py", line 35, in wrong',
        '  File "train.py", line 30, in helper',
    ]
    assert lines[-1].startswith("taut: error: RuntimeError: ")
    assert "(4, 8)" in lines[-1] or "4x8" in lines[-1]
    assert "frontend" not in said, "taut's own frames are not shown"


def test_a_traceback_is_shown_on_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("dump", "train.py:wrong", "--arg", "x=f32[4,8]")
    assert "record.py" in error(*arguments, "--traceback", code=1)
    monkeypatch.setenv("TAUT_TRACEBACK", "1")
    assert "record.py" in error(*arguments, code=1)


def test_an_error_while_importing_is_told_at_its_line(folder: Path) -> None:
    (folder / "broken.py").write_text("import nix_nax\n")
    assert error("dump", "broken.py:f", code=1) == (
        '  File "broken.py", line 1, in <module>\n'
        "    import nix_nax\n"
        "taut: error: ModuleNotFoundError: No module named 'nix_nax'\n"
    )


def test_a_syntax_error_is_told_at_its_line(folder: Path) -> None:
    (folder / "broken.py").write_text("def f(:\n    pass\n")
    said = error("dump", "broken.py:f", code=1)
    assert "line 1\n    def f(:\n" in said
    assert said.splitlines()[-1] == "taut: error: SyntaxError: invalid syntax"


def test_a_program_that_ends_while_it_is_imported(folder: Path) -> None:
    (folder / "ends.py").write_text("import sys\nsys.exit(3)\n")
    assert error("dump", "ends.py:f", code=1) == (
        '  File "ends.py", line 2, in <module>\n'
        "    sys.exit(3)\n"
        "taut: error: importing ends.py ended the program: exit(3)\n"
    )


def test_an_error_of_tauts_own_asks_for_a_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> str:
        raise KeyError("x")

    monkeypatch.setattr("taut.frontend.report.Report.text", fails)
    assert error("dump", "layer.ir", code=4) == (
        "taut: internal error: KeyError: 'x'\n"
        "This is an error in taut, not in your program: please report it, with the command that "
        "you gave.\n`--traceback` (or TAUT_TRACEBACK=1) shows where it happened.\n"
    )
    assert "in fails" in error("dump", "layer.ir", "--traceback", code=4)


def test_what_a_back_end_cannot_show_is_the_users_error(folder: Path) -> None:
    said = error("dump", "layer.ir", "--stage", "asm", "--backend", "numba", code=1)
    assert said == "taut: error: layer: the numba back end has no LLVM text to show\n"


def test_a_setting_that_does_not_exist_is_the_users_error(folder: Path) -> None:
    done = process("dump", "layer.ir", TAUT_BACKEND="lvm")
    assert (done.returncode, done.stdout) == (1, b"")
    message = b"taut: error: TAUT_BACKEND is 'lvm'; it must be 'llvm' or 'numba'\n"
    assert done.stderr == message


# --- arguments ----------------------------------------------------------------------------------


def test_sizes_may_be_names(folder: Path) -> None:
    text = shown("dump", "train.py:plain", "--arg", "x=f32[B,2*B+1]")
    assert "func @plain<B>(%x: f32[B,B*2+1])" in text


def test_a_step_is_traced_with_a_named_size(folder: Path) -> None:
    arguments = ("--arg", "x=f32[B,8]", "--arg", "y=f32[B,1]")
    assert "func @step<B>" in shown("dump", "train.py:step", *arguments)
    assert "define i32 @" in shown("dump", "train.py:step", *arguments, "--stage", "llvm")


def test_an_array_gives_its_type(folder: Path) -> None:
    np.save("x.npy", np.zeros((3, 5)))
    assert "func @plain(%x: f64[3,5])" in shown("dump", "train.py:plain", "--arg", "x=@x.npy")


def test_a_float_is_an_input_and_all_else_part_of_the_program(folder: Path) -> None:
    arguments = ("dump", "train.py:plain", "--arg", "x=f32[4]")
    assert "%scale: ~f64[]" in shown(*arguments, "--arg", "scale=0.5")
    assert "%scale" not in shown(*arguments, "--arg", "scale=3")
    assert "add" in shown(*arguments, "--arg", "flag=true")
    assert "add" not in shown(*arguments, "--arg", "flag=false")


def test_arguments_may_be_nested_and_variable(folder: Path) -> None:
    text = shown("dump", "train.py:pair", "-a", "batch=(f32[4], f32[4])", "-a", "factor=2.5")
    assert "func @pair(%batch_0: f32[4], %batch_1: f32[4], %factor: ~f64[])" in text
    assert "add" in shown("dump", "train.py:several", "-a", "parts=(f32[4], f32[4])")


def test_missing_arguments_are_named_with_an_example(folder: Path) -> None:
    said = error("dump", "train.py:step", "--arg", "y=f32[4,1]", code=2)
    assert said == (
        "a print while importing\n"
        "taut: error: step needs types or values, besides those given, for: 'x'\n"
        "For instance:  taut dump train.py:step --arg 'x=f32[64,8]'\n"
        "see `taut dump --help`\n"
    )
    assert "for: 'x', 'y'\n" in error("dump", "train.py:step", code=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("z=f32[4]", "plain has no parameter 'z'; it takes x, scale, flag"),
        ("scal=2.0", "plain has no parameter 'scal'; did you mean 'scale'?"),
        ("x", "--arg x: expected name=value, such as x=f32[64,8]"),
        ("x=f23[4]", "--arg x=f23[4]: unknown dtype 'f23'; did you mean 'f32'?"),
        ("x=f32[-4]", "--arg x=f32[-4]: a size cannot be negative, got -4"),
        ("x=f32[4.5]", "--arg x=f32[4.5]: not a size: '4.5'"),
        ("x=f32[inf]", "--arg x=f32[inf]: 'inf' means something else, so no size can be called so"),
        ("x=f32", "--arg x=f32: f32 alone is no type; a scalar tensor is f32[]"),
        ("flag=truee", "--arg flag=truee: cannot read 'truee'; did you mean 'true'?"),
        ("x=f32[4", ("--arg x=f32[4: cannot read 'f32[4'; give a type (f32[64,8]), an array "
         "(@x.npy), a number, true, false, none, or quoted 'text'")),
    ],
)  # fmt: skip
def test_a_bad_argument_is_an_error_of_usage(folder: Path, text: str, message: str) -> None:
    said = error("dump", "train.py:plain", "--arg", text, code=2)
    first = said.removeprefix("a print while importing\n").splitlines()[0]
    assert first == f"taut: error: {message}"


def test_an_argument_given_twice_is_an_error_of_usage(folder: Path) -> None:
    said = error("dump", "train.py:plain", "-a", "x=f32[4]", "-a", "x=f32[5]", code=2)
    assert said.startswith("taut: error: --arg x=f32[5]: 'x' is given twice\n")


def test_an_array_that_cannot_be_read_is_the_users_error(folder: Path) -> None:
    said = error("dump", "train.py:plain", "--arg", "x=@nix.npy", code=1)
    assert said == "taut: error: cannot read nix.npy: No such file or directory\n"
    (folder / "bad.npy").write_bytes(b"no array")
    said = error("dump", "train.py:plain", "--arg", "x=@bad.npy", code=1)
    assert said.startswith("taut: error: bad.npy is not an array that taut can use: ")
    np.save("c.npy", np.zeros(3, complex))
    said = error("dump", "train.py:plain", "--arg", "x=@c.npy", code=1)
    assert "c.npy is not an array that taut can use: can't convert np.ndarray" in said


def test_a_text_takes_no_arguments(folder: Path) -> None:
    said = error("dump", "layer.ir", "--arg", "x=f32[4]", code=2)
    message = "--arg is for functions: IR text says its arguments' types"
    assert said == f"taut: error: {message}\nsee `taut dump --help`\n"


# --- where it is written ------------------------------------------------------------------------


def test_a_file_gets_what_stdout_would(folder: Path) -> None:
    expected = shown("dump", "layer.ir", "--stage", "trace..opt")
    result = run("dump", "layer.ir", "--stage", "trace..opt", "--out", "out.txt")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "wrote out.txt\n")
    assert Path("out.txt").read_text() == expected


def test_a_folder_gets_a_file_for_each_stage(folder: Path) -> None:
    assert shown("dump", "layer.ir", "--stage", "all", "--out", "stages") == ""
    assert {path.name for path in Path("stages").iterdir()} == {
        "layer.trace.ir",
        "layer.joint.ir",
        "layer.opt.ir",
        "layer.fused.txt",
        "layer.memory.txt",
        "layer.kernel.txt",
        "layer.llvm.ll",
        "layer.asm.s",
    }
    assert Path("stages/layer.opt.ir").read_text() == shown("dump", "layer.ir")
    assert shown("dump", "stages/layer.opt.ir") == shown("dump", "layer.ir")


def test_a_folder_gets_one_stage_and_the_other_forms(folder: Path) -> None:
    shown("dump", "layer.ir", "--out", "new/")
    shown("dump", "layer.ir", "--stage", "kernel", "--backend", "numba", "--out", "new")
    shown("dump", "layer.ir", "--stage", "opt..memory", "--format", "json", "--out", "new")
    assert {path.name for path in Path("new").iterdir()} == {
        "layer.opt.ir",
        "layer.kernel.py",
        "layer.opt.json",
        "layer.fused.json",
        "layer.memory.json",
    }
    assert json.loads(Path("new/layer.memory.json").read_text())["stages"][0]["stage"] == "memory"


def test_a_place_that_cannot_be_written_is_the_users_error(folder: Path) -> None:
    said = error("dump", "layer.ir", "--out", "layer.ir/x.txt", code=1)
    assert said.startswith("taut: error: cannot write layer.ir/x.txt: ")


# --- processes ----------------------------------------------------------------------------------


def test_two_processes_print_the_same_bytes(folder: Path) -> None:
    arguments = ("dump", "train.py:step", *STEP_ARGS, "--stage", "all")
    first, second = (process(*arguments, PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert str(folder).encode() not in first.stdout


def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    command = [sys.executable, "-m", "taut", "dump", "layer.ir", "--stage", "llvm"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 0


def test_help_imports_no_compiler_libraries() -> None:
    program = (
        "import sys; from taut.frontend.cli import main; code = main(['--help']);"
        "heavy = {'numba', 'scipy', 'llvmlite', 'rich'} & set(sys.modules);"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


# --- the other commands -------------------------------------------------------------------------


def test_the_version_is_tauts() -> None:
    assert shown("--version") == f"taut {taut.__version__}\n"


def test_main_returns_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert main(["ops", "nix"]) == 1
    assert main(["nix"]) == 2
    assert capsys.readouterr().out == f"taut {taut.__version__}\n"


def test_unknown_commands_and_options_get_the_nearest_name() -> None:
    assert error("dmp", code=2) == (
        "taut: error: no command is called 'dmp'; did you mean 'dump'?\nsee `taut --help`\n"
    )
    assert "did you mean 'clear'?" in error("cache", "cleer", code=2)
    assert "there are cache, diff, doctor, dump, ops, opt, run" in error("nix", code=2)
    assert "--stage" in error("dump", "layer.ir", "--stge", "opt", code=2)


def test_an_unknown_stage_gets_the_nearest_name(folder: Path) -> None:
    assert error("dump", "layer.ir", "--stage", "fusd", code=2) == (
        "taut: error: no stage is called 'fusd'; did you mean 'fused'?\nsee `taut dump --help`\n"
    )


def test_no_command_shows_the_help() -> None:
    assert "Commands:\n  cache " in error(code=2)
    assert "Commands:\n  clear " in error("cache", code=2)


def test_ops_lists_every_primitive() -> None:
    lines = shown("ops").splitlines()
    assert lines[0].split() == [
        "name", "operands", "attributes", "gradient", "lowering", "meaning",
    ]  # fmt: skip
    found = {line.split()[0]: line for line in lines[1:]}
    assert {"matmul", "add", "reduce_sum", "broadcast"} <= found.keys()
    assert re.fullmatch(r"add +x, y +yes +elementwise +x \+ y", found["add"])
    assert re.fullmatch(r"concat +\*parts +dim +yes +window +operands .*", found["concat"])
    assert re.fullmatch(r"floor +x +no +elementwise +x rounded down", found["floor"])


def test_ops_as_json() -> None:
    everything = json.loads(shown("ops", "--format", "json"))
    one = json.loads(shown("ops", "broadcast", "--format", "json"))
    assert one in everything
    assert one == {
        "name": "broadcast",
        "meaning": "x repeated: its dimension i becomes dimension dims[i] of the result",
        "operands": ["x"],
        "attributes": ["dims"],
        "gradient": True,
        "lowering": "movement",
    }


def test_ops_shows_one_primitive() -> None:
    assert shown("ops", "select") == (
        "name        select\n"
        "meaning     x where the condition holds, else y\n"
        "operands    condition, x, y\n"
        "attributes  none\n"
        "gradient    yes\n"
        "lowering    elementwise\n"
    )
    assert "operands    x, y, z\n" in shown("ops", "fma")
    assert error("ops", "matmull", code=1) == (
        "taut: error: no primitive is called 'matmull'; did you mean 'matmul'?\n"
    )


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two entries, as the commands see it."""
    from taut.runtime import options

    place = tmp_path / "kept"
    cache = Cache(place)
    cache.put("a" * 64, b"x" * 2000)
    cache.put("b" * 64, b"x" * 10)
    chosen = options.Options(cache_dir=place)
    monkeypatch.setattr(options, "default_options", lambda: chosen)
    return place


def test_cache_lists_tells_and_clears(kept: Path) -> None:
    lines = [line.split() for line in shown("cache", "ls").splitlines()]
    assert lines[0] == ["key", "size", "used", "program"]
    assert {(key, size, unit) for key, size, unit, *_ in lines[1:]} == {
        ("a" * 16, "2.1", "KiB"),
        ("b" * 16, "118", "B"),
    }
    told = dict(line.split(maxsplit=1) for line in shown("cache", "info").splitlines())
    assert told["folder"] == str(kept)
    assert (told["entries"], told["usable"]) == ("2", "yes")
    assert told["size"] == "2.2 KiB of at most 512.0 MiB"
    assert shown("cache", "clear") == "removed 2 entries, 2.2 KiB\n"
    assert not list(kept.iterdir())
    empty = run("cache", "ls")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "the cache is empty\n")


@pytest.mark.slow
def test_doctor_runs_both_back_ends(folder: Path) -> None:
    done = process("doctor", TAUT_CHECK="1", TAUT_BAKEND="llvm")
    assert done.returncode == 0, done.stdout
    told = dict(re.split(r"  +", line, maxsplit=1) for line in done.stdout.decode().splitlines())
    assert told["taut"] == taut.__version__
    assert told["numpy"] == np.__version__
    assert told["cache folder"] == str(folder / "cache")
    assert (told["llvm back end"], told["numba back end"]) == ("works", "works")
    assert told["TAUT_CHECK"] == "1"
    assert told["TAUT_BAKEND"] == (
        "llvm  (taut reads no such variable; did you mean 'TAUT_BACKEND'?)"
    )


def test_doctor_tells_what_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    from taut.frontend.cli.doctor import self_test
    from taut.runtime.options import Options

    def fails(*_: object) -> None:
        raise ImportError("no numba here")

    monkeypatch.setattr("taut.runtime.compile.compile_graph", fails)
    assert self_test("numba", Options()) == "fails: ImportError: no numba here"
    monkeypatch.setattr(
        "taut.runtime.compile.compile_graph", lambda *_: lambda _: [np.zeros(5, np.float32)]
    )
    assert self_test("numba", Options()) == "fails: wrong result"
