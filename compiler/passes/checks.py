"""Checks: each condition is tested once, and one that always holds never.

The law: checks run in order and the first that fails ends the program, so a second check of one
condition cannot fail.  One that is known to fail stays.
"""

from __future__ import annotations

from ..ir import Graph, Value
from .constants import is_constant


def run(graph: Graph) -> Graph:
    """Drops checks that cannot fail; see the module for the law."""
    seen: set[Value] = set()
    kept = []
    for check in graph.checks:
        if check.condition not in seen and not is_constant(check.condition, True):
            kept.append(check)
            seen.add(check.condition)
    return graph.replace(checks=tuple(kept))
