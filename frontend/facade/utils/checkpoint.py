"""Memory for time in the backward pass: the public names of ``taut.frontend.checkpoint``."""

from taut.frontend.checkpoint import *
from taut.frontend.checkpoint import __all__ as __all__
