"""Helpers for tests of tensor programs: the public names of ``taut.frontend.testing``."""

from taut.frontend.testing import *
from taut.frontend.testing import __all__ as __all__
