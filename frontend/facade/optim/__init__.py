"""Optimizers: the public names of ``taut.frontend.optim``."""

from taut.frontend.optim import *
from taut.frontend.optim import __all__ as __all__

from . import lr_scheduler as lr_scheduler
