"""The page with all stages linked, the drawings, and the map from assembly back to operations."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from taut.compiler import parse_graph
from taut.compiler.ir import Graph
from taut.compiler.primitive import all_primitives
from taut.compiler.schedule.program import RunKernel, RunSweep
from taut.frontend.cli import cli
from taut.frontend.report import Report
from taut.frontend.report_dot import report_dot
from taut.frontend.testing import random_graph
from taut.frontend.viewer import report_html
from taut.frontend.viewer.blocks import Origins
from taut.frontend.viewer.columns import columns_of
from taut.runtime.line_table import assembly_lines, with_lines
from taut.runtime.native import assembly
from taut.runtime.options import Options

STEP = """\
taut-ir 1
func @step(%x: f32[64,8], %w: f32[8,16], %b: f32[16]) -> (f32[64,16], f32[], f32[8,16]) {
  %z: f32[64,16] = matmul %x, %w                    loc("mlp.py":3:9)
  %b2: f32[64,16] = broadcast %b {dims = [1]}       loc("mlp.py":3:9)
  %h: f32[64,16] = add %z, %b2                      loc("mlp.py":3:9)
  %t: f32[64,16] = tanh %h                          loc("mlp.py":4:9)
  %one: f32[8,16] = full {value = 1.0}              loc("mlp.py":6:9)
  %u: f32[8,16] = mul %w, %one                      loc("mlp.py":6:9)
  %v: f32[8,16] = exp %u                            loc("mlp.py":6:9)
  %s: f32[] = reduce_sum %t {dims = [0, 1]}         loc("mlp.py":5:9, grad "mlp.py":4:9)
  %big: f32[] = full {value = 1e+30}                loc("mlp.py":7:9)
  %d: bool[] = lt %s, %big                          loc("mlp.py":7:9)
  check %d "a sum is too large"
  return %t, %s, %v -> %w
}
"""
SOURCE = """\
import taut

z = x @ w + b
t = taut.tanh(z)
s = t.sum()
w = taut.exp(w * 1)
assert s < 1e30
"""
LLVM, NUMBA = Options(cache=False), Options(backend="numba", cache=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlp.py").write_text(SOURCE)
    (tmp_path / "step.ir").write_text(STEP)
    return tmp_path


def step(options: Options = LLVM) -> Report:
    return Report(parse_graph(STEP), options)


def page_data(page: str) -> Any:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def lines_about(report: Report, *values: str) -> dict[str, list[str]]:
    """The lines of each column that belong to some values of the optimised graph."""
    origins = Origins(report)
    wanted = frozenset().union(*map(origins.programs[0].of_name, values))
    assert wanted
    return {
        column.name: [
            line.strip()
            for block in column.blocks
            if block.operations & wanted
            for line in block.text.splitlines()
        ]
        for column in columns_of(report, origins, set(report.stages("all")))
    }


# --- the map --------------------------------------------------------------------------------------


def test_an_operation_is_found_in_every_stage(folder: Path) -> None:
    lines = lines_about(step(), "v")
    assert lines["source"] == ["6  w = taut.exp(w * 1)"]
    assert lines["trace"][-1].startswith("%v: f32[8,16] = exp %u ")
    assert [line.split("  ")[0] for line in lines["opt"]] == ["%v: f32[8,16] = exp %w"]
    (group,) = [line for line in lines["fused"] if line.startswith("group")]
    assert re.fullmatch(r"group \d+: kernel exp over \(8, 16\)", group)
    (run,) = [line for line in lines["memory"] if "kernel" in line]
    assert "kernel exp(w#1) -> " in run
    assert lines["kernel"][0].startswith("kernel exp(")
    assert not any("tanh" in line for line in lines["kernel"])
    assert any('define void @"kernel.exp"' in line for line in lines["llvm"])
    assert not any("tanh" in line for line in lines["llvm"])
    assert len(lines["asm"]) > 5


def test_a_product_is_found_where_it_is_made(folder: Path) -> None:
    lines = lines_about(step(), "z")
    assert lines["source"] == ["3  z = x @ w + b"]
    assert any(re.match(r"\d+: matmul x#0 @ w#1 -> ", line) for line in lines["memory"])
    assert any("matmul" in line for line in lines["fused"])
    assert any('call void @"taut.product_f32"' in line for line in lines["llvm"])
    assert not any('"kernel.exp"' in line for line in lines["llvm"])


def test_checks_and_inputs_belong_somewhere(folder: Path) -> None:
    assert any("check" in line for line in lines_about(step(), "d")["memory"])
    lines = lines_about(step(), "x")
    assert any(line.startswith("%z: ") for line in lines["opt"])
    assert any(line.startswith("0: x: ") for line in lines["memory"])


def test_blocks_hold_the_whole_text_of_each_stage(folder: Path) -> None:
    for report in (step(), step(NUMBA)):
        columns = columns_of(report, Origins(report), set(report.stages("all")))
        for column in columns:
            if column.name not in ("source", "asm"):
                got = [x for b in column.blocks for x in b.text.splitlines() if x.strip()]
                assert got == [x for x in report.text(column.name).splitlines() if x.strip()]
    assert [column.name for column in columns] == [
        "source", "trace", "opt", "fused", "memory", "kernel",
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(25))
def test_steps_are_made_of_the_groups_of_random_graphs(seed: int) -> None:
    names = [p.name for p in all_primitives() if p.name != "input"]
    rng = np.random.default_rng(seed)
    report = Report(random_graph(rng, 25, symbolic=seed % 3 == 0, primitives=names), LLVM)
    origins = Origins(report).programs[0]
    plan = report.programs[0].scheduled.plan
    groups = [frozenset().union(*map(origins.of_node, g.nodes)) for g in plan.groups]
    runs = list(zip(report.programs[0].scheduled.program.steps, origins.steps, strict=True))
    steps = [found for step, found in runs if found and not isinstance(step, RunSweep)]
    operands = ([o.node for n in g.nodes for o in n.operands] for g in plan.groups)
    read = [frozenset().union(*map(origins.of_node, nodes)) for nodes in operands]
    whole = [group | others for group, others in zip(groups, read, strict=True)]
    assert all(any(found <= group for group in whole) for found in steps), "of one group each"
    assert all(any(group & found for found in origins.steps) for group in groups), "no step"
    kernels = [found for step, found in runs if isinstance(step, RunKernel) and len(found) > 1]
    assert all(found in groups for found in kernels)
    (_, llvm) = columns_of(report, Origins(report), {"llvm"})
    assert frozenset().union(*(block.operations for block in llvm.blocks)) >= set().union(*steps)


def test_every_program_of_a_function_with_gradients_is_mapped() -> None:
    import taut

    @taut.compile
    def cubed(x: taut.Tensor) -> Any:
        return x * x * x

    cubed(taut.ones(3, requires_grad=True))
    report = cubed.report()
    origins = Origins(report)
    assert len(origins.programs) == 2
    (line,) = {loc.line for loc in origins.locs if not loc.grad}
    found = origins.of_line("test_viewer.py", line)
    for program in origins.programs:
        assert found & frozenset().union(*program.steps), "forward and backward come from it"
    columns = {c.name: c for c in columns_of(report, origins, {"kernel"})}
    lit = [b.text for b in columns["source"].blocks if b.operations]
    assert [text.split(maxsplit=1)[1] for text in lit] == ["return x * x * x"]


# --- assembly and its lines -----------------------------------------------------------------------

DRAWS = """\
taut-ir 1
func @draws(%s: STATE, %a: f32[4,4], %b: f32[4,2]) -> (f32[4,2], STATE) {
  %u: f32[4,2], %t: STATE = uniform %s
  %c: f32[4,2] = add %u, %b
  %x: f32[4,2], %ok: bool[] = solve %a, %c
  return %x, %t
}
"""


def draws() -> Graph:
    from taut.compiler.primitives.random import STATE

    return parse_graph(DRAWS.replace("STATE", str(STATE)))


@pytest.mark.parametrize("graph", [parse_graph(STEP), draws()], ids=["step", "draws"])
@pytest.mark.parametrize("level", [0, 1, 3])
def test_tracking_lines_changes_no_instruction(graph: Graph, level: int) -> None:
    spec = Report(graph, LLVM).programs[0].spec
    lines = assembly_lines(spec, level=level)
    directive = re.compile(r"\s*(\.(file|cfi_\w+|ident)\b|$)")
    plain = [x for x in assembly(spec, level=level).splitlines() if not directive.match(x)]
    assert [line for line, _ in lines] == plain
    instructions = [place for line, place in lines if re.match(r"\t[a-z]", line)]
    # Prologues, spills and what LLVM made of several instructions have no place.
    assert sum(place is not None for place in instructions) > 0.6 * len(instructions)


def test_an_instruction_comes_from_the_line_that_says_so() -> None:
    spec = step().programs[0].spec
    source = spec.source.splitlines()
    pairs = [(line, source[n - 1]) for line, n in assembly_lines(spec) if n is not None]
    returns = [text for line, text in pairs if line.split() == ["retq"]]
    assert returns
    assert all(text.strip().startswith("ret ") for text in returns)
    calls = [text for line, text in pairs if line.split()[:1] == ["callq"]]
    assert all("call " in text for text in calls)


def test_a_module_with_metadata_of_its_own_keeps_it() -> None:
    text = "define void @f() {\nx:\n  ret void\n}\n!0 = !{i32 1}\n!7 = !{i32 2}\n!named = !{!0}\n"
    made = with_lines(text)
    assert "  ret void, !dbg !13\n" in made
    numbers = re.findall(r"^!(\d+) =", made, re.MULTILINE)
    assert len(numbers) == len(set(numbers))
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(made)
    module.verify()


# --- the page -------------------------------------------------------------------------------------


def test_the_page_is_one_file_without_a_network(folder: Path) -> None:
    page = report_html(step())
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|<link|\bsrc=|@import|url\(", page)
    assert "{{" not in page.partition("<script")[0]
    assert "prefers-color-scheme: dark" in page
    data = page_data(page)
    assert [column["name"] for column in data["columns"]] == [
        "source", "trace", "opt", "fused", "memory", "kernel", "llvm", "asm",
    ]  # fmt: skip
    assert data["sets"][0] == []
    assert all(0 <= block[1] < len(data["sets"]) for c in data["columns"] for block in c["blocks"])


def test_nothing_in_a_program_can_end_the_data() -> None:
    text = STEP.replace("@step", '@"</script><b>"').replace('"a sum', '"</script> {{style}} a sum')
    page = report_html(Report(parse_graph(text), LLVM))
    assert page.count("</script>") == 2
    assert "<title>&lt;/script&gt;&lt;b&gt; – taut</title>" in page
    assert page_data(page)["name"] == "</script><b>"
    shown = "".join(block[0] for column in page_data(page)["columns"] for block in column["blocks"])
    assert "</script> {{style}} a sum is too large" in shown


def test_a_source_that_is_not_there_is_shown_by_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = page_data(report_html(step()))["columns"][0]["blocks"]
    assert [text.strip() for text, operations in source if operations] == ["3", "4", "5", "6", "7"]


def test_a_long_source_is_shown_where_it_is_used(folder: Path) -> None:
    (folder / "mlp.py").write_text(SOURCE + "\n" * 500)
    lines = [text for text, _ in page_data(report_html(step()))["columns"][0]["blocks"]]
    assert lines[0] == "mlp.py"
    assert lines[1].split() == ["1", "import", "taut"]
    assert lines[10:] == ["  10", ""]


def test_dump_writes_the_page(folder: Path) -> None:
    page = ["dump", "step.ir", "--format", "html"]
    run = CliRunner().invoke(cli, [*page, "--backend", "llvm", "--out", "step.html"])
    assert (run.exit_code, run.stdout, run.stderr) == (0, "", "wrote step.html\n")
    assert (folder / "step.html").read_text() == report_html(step())
    part = CliRunner().invoke(cli, [*page, "-s", "opt..kernel"])
    names = [column["name"] for column in page_data(part.stdout)["columns"]]
    assert names == ["source", "opt", "fused", "memory", "kernel"]
    numba = CliRunner().invoke(cli, [*page, "--backend", "numba"])
    kernels = page_data(numba.stdout)["columns"][-1]
    assert kernels["name"] == "kernel"
    assert any("@kernel" in text or "def exp" in text for text, _ in kernels["blocks"])


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
ACTIONS = {
    "hover": "at('opt', '%t:').dispatchEvent(new Event('pointerover', {bubbles: true}));",
    "click": "at('opt', '%t:').click();",
    "keys": "at('fused', 'matmul').focus(); press('ArrowRight', 'ArrowLeft', 'ArrowDown');",
    "let go": "at('opt', '%t:').click(); press('Escape');",
    "hide": "press('2');",
}


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
def test_the_page_works_in_a_browser(folder: Path, action: str) -> None:
    script = f"""<script>
    const at = (stage, text) => [...document.querySelectorAll(`[aria-label=${{stage}}] [data-set]`)]
      .find((block) => block.textContent.includes(text));
    function press(...keys) {{
      for (const key of keys) {{
        const event = new KeyboardEvent("keydown", {{ key, bubbles: true }});
        document.activeElement.dispatchEvent(event);
      }}
    }}
    {ACTIONS[action]}
    </script></body>"""
    (folder / "page.html").write_text(report_html(step()).replace("</body>", script))
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    place = f"file://{folder}/page.html"
    done = subprocess.run([*command, place], capture_output=True, text=True, check=True)
    lit = re.findall(r'<div class="block lit( at)?"', done.stdout)
    if action == "hide":
        assert '<section aria-label="trace" hidden=""' in done.stdout
        assert done.stdout.count('aria-pressed="false"') == 1
    elif action == "let go":
        assert not lit
        assert '<body class="">' in done.stdout
    else:
        assert lit.count(" at") == 1
        assert len(lit) > 8
        assert f'<body class="{"held " if action == "click" else ""}lighting">' in done.stdout


def test_both_lines_of_a_step_that_runs_by_blocks_belong_to_it() -> None:
    text = STEP.replace("reduce_sum %t {dims = [0, 1]} ", "reduce_sum %b {dims = [0]} ")
    lines = lines_about(Report(parse_graph(text), LLVM), "t")["memory"]
    steps = [line for line in lines if "#" in line]
    assert [line.partition(" x")[0].partition("(")[0] for line in steps] == [
        "2: matmul",
        "by blocks with kernel add_tanh",
    ]


# --- drawings -------------------------------------------------------------------------------------


def test_a_drawing_has_groups_as_clusters() -> None:
    text = report_dot(step(), "fused")
    groups = step().programs[0].scheduled.plan.groups
    assert text.count("subgraph cluster_") == len(groups)
    assert text.count("{") == text.count("}")
    why = "it reduces over the product's rows: they must be complete"
    assert re.search(rf'"%z" -> "%h" \[style=dashed, tooltip="{why}"\];', text)
    assert '"%w" -> "%v"' in text
    assert r'[label="result 2\n-> w", ' in text


def test_graphs_are_drawn_without_clusters(folder: Path) -> None:
    text = report_dot(step(), "trace")
    assert "cluster" not in text
    assert r'"%u" [label="u\nmul: f32[8,16]", tooltip="\"mlp.py\":6:9"];' in text
    assert "%one" not in report_dot(step(), "opt")
    with pytest.raises(ValueError, match="asm is no stage to draw"):
        report_dot(step(), "asm")
    run = CliRunner().invoke(cli, ["dump", "step.ir", "--format", "dot", "--stage", "memory"])
    assert run.exit_code == 2
    run = CliRunner().invoke(cli, ["dump", "step.ir", "--format", "dot"])
    assert run.stdout == report_dot(step(), "fused")


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs graphviz")
@pytest.mark.parametrize("seed", range(6))
def test_graphviz_reads_drawings(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), symbolic=seed % 2 == 0)
    for stage in ("trace", "fused"):
        text = report_dot(Report(graph, LLVM), stage)
        done = subprocess.run(
            ["dot", "-Tplain"], input=text, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("\nnode ") >= len(graph.inputs)
