"""IR text: the printed form of a graph, its parser, and the hash of what a graph computes.

A function is a header, one line for each node, and a return:

    taut-ir 1
    func @step<B>(%x: f32[B,8], %w: f32[8,16]) -> (f32[B,16]) {
      %z: f32[B,16] = matmul %x, %w            loc("mlp.py":12:9)
      %0: f32[B,16] = full {value = 0.0}       loc("mlp.py":13:9)
      %h: f32[B,16] = maximum %z, %0           loc("mlp.py":13:9, grad "mlp.py":14:5)
      return %h
    }

Every printed graph reads back equal, and printed text that is read prints as the same characters.
"""

from __future__ import annotations

from .canonical import canonical_text, graph_hash
from .parser import parse_graph
from .printer import print_graph

__all__ = ["canonical_text", "graph_hash", "parse_graph", "print_graph"]
