"""Clipping of gradients, and the like: the public names of ``taut.frontend.nn.utils``."""

from taut.frontend.nn.utils import *
from taut.frontend.nn.utils import __all__ as __all__
