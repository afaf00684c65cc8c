"""Differentiation: a pass that derives the backward graph from the VJP rules of the primitives."""

from .vjp import backward_graph, cotangents

__all__ = ["backward_graph", "cotangents"]
