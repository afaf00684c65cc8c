"""A tracing compiler for tensor programs, with the names, numbers and printing of PyTorch.

The package is the folder that this file lies in: see ``[tool.setuptools]`` in ``pyproject.toml``.
"""

# A test runner may import the checkout a second time, by its folder's name: that copy stays empty.
if __name__ == "taut":
    from . import autograd as autograd
    from . import compiler as compiler
    from . import linalg as linalg
    from . import nn as nn
    from . import optim as optim
    from .frontend.api import *  # noqa: F403  # __all__ says which
    from .frontend.api import __all__ as __all__
    from .frontend.functions.public import *  # noqa: F403  # once more, for mypy: it reads no sum of lists

    __version__ = compiler.VERSION
