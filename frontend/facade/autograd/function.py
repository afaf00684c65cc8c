"""``Function`` and what belongs to it, under the dotted name that programs import it by."""

from taut.frontend.function import *
from taut.frontend.function import __all__ as __all__
