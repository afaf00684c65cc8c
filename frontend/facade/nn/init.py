"""Starting values of parameters: the public names of ``taut.frontend.nn.init``."""

from taut.frontend.nn.init import *
from taut.frontend.nn.init import __all__ as __all__
