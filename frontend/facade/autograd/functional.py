"""Derivatives at a point: the public names of ``taut.frontend.jacobians``."""

from taut.frontend.jacobians import *
from taut.frontend.jacobians import __all__ as __all__
