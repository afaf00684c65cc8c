"""A tracing compiler for tensor programs, with the names, numbers and printing of PyTorch.

The package is the folder that this file lies in: see ``[tool.setuptools]`` in ``pyproject.toml``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

# A test runner may import the checkout a second time, by its folder's name: that copy stays empty.
if __name__ == "taut":
    from . import compiler as compiler
    from .frontend.api import *  # noqa: F403  # __all__ says which
    from .frontend.api import __all__ as __all__
    from .frontend.functions.public import *  # noqa: F403  # again, for mypy: it adds no lists up

    __version__ = compiler.VERSION

    if TYPE_CHECKING:
        from . import autograd as autograd
        from . import func as func
        from . import linalg as linalg
        from . import nn as nn
        from . import optim as optim
        from . import testing as testing
        from . import utils as utils

    def __getattr__(name: str) -> object:
        """Imports `taut.nn` and its like when they are first named: `import taut` stays quick."""
        if name in ("autograd", "func", "linalg", "nn", "optim", "testing", "utils"):
            from importlib import import_module

            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
