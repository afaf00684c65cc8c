"""Layers and losses as plain functions: the public names of ``taut.frontend.nn.functional``."""

from taut.frontend.nn.functional import *
from taut.frontend.nn.functional import __all__ as __all__
