"""Functions of functions: the public names of ``taut.frontend.func``."""

from taut.frontend.func import *
from taut.frontend.func import __all__ as __all__
