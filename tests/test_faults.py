"""Every injected fault turns the tests red by itself; without one they are green."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
ROOT = HERE.parent

Run: TypeAlias = "Callable[[str, list[str]], tuple[int, str]]"


def load_faults() -> Any:
    """The faults' module; this folder is on no path here."""
    spec = importlib.util.spec_from_file_location("faults", HERE / "faults.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


EVERY = load_faults().EVERY


PLAIN = {"__init__", "constants", "simplify", "gradient", "plan", "printing", "names"}
"""Files that hold data, print, or put together what other files do."""
SCHEDULE = {
    "fuse": "fuse clusters edges access unions checks attach finish tails prologues cost",
    "recompute": "recompute",
    "lower": "lower lowering builder nest indexing loops registers stages own_steps whole matrices",
    "share": "sharing sweeps forms",
    "order": "order",
    "place": "memory arena effects blocks program interpret",
}
"""The stages of the schedule, and their files."""


def stages() -> dict[str, set[str]]:
    """What each stage of the compiler is made of: a pass and a way to differentiate are a file."""
    files = {
        file.relative_to(ROOT).as_posix()
        for folder in ("passes", "autodiff")
        for file in (ROOT / "compiler" / folder).glob("*.py")
        if file.stem not in PLAIN
    }
    found = {file: {file} for file in sorted(files)}
    for name, stems in SCHEDULE.items():
        found[name] = {f"compiler/schedule/{stem}.py" for stem in stems.split()}
    found["verify"] = {"compiler/verify.py"}
    found["history"] = {"frontend/history.py"}
    found["found state"] = {"frontend/found_state.py"}
    found["text"] = {f"compiler/text/{f}.py" for f in ("printer", "parser", "difference")}
    found["disk cache"] = {f"runtime/{f}.py" for f in ("cache", "keys", "cache_tools")}
    generated = (ROOT / "compiler/codegen").rglob("*.py")
    found["machine code"] = {file.relative_to(ROOT).as_posix() for file in generated}
    return found


@pytest.mark.parametrize("stage", stages())
def test_every_stage_has_two_faults(stage: str) -> None:
    files = stages()[stage]
    assert sum(fault.file in files for fault in EVERY.values()) >= 2


def test_every_file_of_the_schedule_is_in_a_stage() -> None:
    on_disk = {file.stem for file in (ROOT / "compiler/schedule").glob("*.py")} - PLAIN
    named = " ".join(SCHEDULE.values()).split()
    assert sorted(named) == sorted(on_disk)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs tests with a fault: pytest's exit status, and what it printed.

    No program of a fault reaches the disk cache.
    """
    log = tmp_path_factory.mktemp("faults") / "log"
    with subprocess.Popen(
        [sys.executable, HERE / "faults.py"],
        env=os.environ | {"TAUT_CACHE": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        given, found = server.stdin, server.stdout

        def test(fault: str, tests: list[str]) -> tuple[int, str]:
            paths = [str(HERE / name) for name in tests]
            print(fault, log, *paths, sep="\t", file=given, flush=True)
            return int(found.readline()), log.read_text(encoding="utf-8")

        yield test
        given.close()


def selected(name: str) -> list[str]:
    """The tests that must notice a fault."""
    tests: str = EVERY[name].tests
    return tests.split()


@pytest.mark.parametrize("name", EVERY)
def test_a_fault_is_noticed(name: str, run: Run) -> None:
    status, printed = run(name, selected(name))
    assert status == 1, printed
    assert "1 failed" in printed


def test_without_a_fault_the_same_tests_pass(run: Run) -> None:
    status, printed = run("none", sorted({test for name in EVERY for test in selected(name)}))
    assert status == 0, printed
