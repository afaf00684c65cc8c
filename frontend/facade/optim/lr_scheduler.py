"""Learning-rate schedules: the public names of ``taut.frontend.optim.lr_scheduler``."""

from taut.frontend.optim.lr_scheduler import *
from taut.frontend.optim.lr_scheduler import __all__ as __all__
