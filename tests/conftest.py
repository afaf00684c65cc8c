"""What every test runs under."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Before pytest meets the root's __init__.py: in a checkout whose folder is called taut it would
# import that folder as taut, in place of the installed package.
import taut  # noqa: F401 (for its entry in sys.modules)

# The same examples on every run and machine; no deadline, since whichever example comes first pays
# for a compilation.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--backend numba` runs the whole suite on that back end."""
    parser.addoption("--backend", choices=["llvm", "numba"], help="the back end to test")


def pytest_configure(config: pytest.Config) -> None:
    """Chooses the back end, and a cache of the run's own, before anything reads the options."""
    backend = config.getoption("--backend")
    if backend:
        os.environ["TAUT_BACKEND"] = backend
    os.environ.setdefault("TAUT_CACHE_DIR", str(Path(tempfile.mkdtemp(prefix="taut-tests-"))))
