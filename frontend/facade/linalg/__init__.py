"""Linear algebra: the public names of ``taut.frontend.functions.linalg``."""

from taut.frontend.functions.linalg import *
from taut.frontend.functions.linalg import __all__ as __all__
