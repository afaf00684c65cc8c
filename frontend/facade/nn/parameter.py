"""``Parameter`` under the dotted name that many programs import it by."""

from taut.frontend.nn.parameter import *
from taut.frontend.nn.parameter import __all__ as __all__
