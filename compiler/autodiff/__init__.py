"""Differentiation: a pass that derives the backward graph from the VJP rules of the primitives."""

from .gradient import gradient_graph
from .vjp import backward_graph, cotangents

__all__ = ["backward_graph", "cotangents", "gradient_graph"]
