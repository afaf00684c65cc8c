"""Every injected fault turns the tests red by itself; without one they are green."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


def load_plugin() -> Any:
    """The plugin as a module; this folder is on no path here."""
    spec = importlib.util.spec_from_file_location("faults", HERE / "faults.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


FAULTS = load_plugin().FAULTS


def run_tests(fault: str, tests: list[str]) -> subprocess.CompletedProcess[str]:
    """pytest with a fault, up to the first failure; no program of it reaches the disk cache."""
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    options = ["-p", "faults", "--fault", fault, "-n", "0", "-p", "no:cacheprovider", "-x", "-q"]
    options += ["--backend", "llvm"]  # whichever runs this test: some faults are that one's
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(str(HERE / test) for test in tests)],
        env=os.environ | {"PYTHONPATH": path, "TAUT_CACHE": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def selected(name: str) -> list[str]:
    """The tests that must notice a fault."""
    tests: str = FAULTS[name].tests
    return tests.split()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_noticed(name: str) -> None:
    done = run_tests(name, selected(name))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed" in done.stdout


def test_without_a_fault_the_same_tests_pass() -> None:
    done = run_tests("none", sorted({test for name in FAULTS for test in selected(name)}))
    assert done.returncode == 0, done.stdout + done.stderr
