"""Programs derived from programs: cotangents, tangents, batches."""

from .batch import batch
from .gradient import gradient_graph
from .jvp import tangent_graph
from .vjp import backward_graph, cotangents

__all__ = ["backward_graph", "batch", "cotangents", "gradient_graph", "tangent_graph"]
