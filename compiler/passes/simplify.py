"""Simplify: the rules of the other files here together, until none fits.

The law: every rule gives an equal value of the same type, bit for bit, and none undoes another, so
that the result does not change when the pass runs again.
"""

from __future__ import annotations

from ..ir import Graph
from . import algebra, casts, fold, logic, narrow, shapes
from .rewrite import Rules, rewrite

RULES = Rules(fold.RULES, algebra.RULES, logic.RULES, casts.RULES, shapes.RULES, narrow.RULES)

DIFFERENTIABLE_RULES = RULES.without("marker")


def run(graph: Graph) -> Graph:
    """Rewrites by all rules; see the module for the law."""
    return rewrite(graph, RULES)


def run_differentiable(graph: Graph) -> Graph:
    """As `run`, for a graph that may be differentiated again: what is constant to it stays so."""
    return rewrite(graph, DIFFERENTIABLE_RULES)
