"""Layers, losses and containers: the public names of ``taut.frontend.nn``."""

from taut.frontend.nn import *
from taut.frontend.nn import __all__ as __all__

from . import functional as functional
from . import init as init
from . import parameter as parameter
from . import utils as utils
