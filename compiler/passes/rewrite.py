"""The engine of every pass that rebuilds a graph, and of rewriting by rules.

`rebuild` walks a graph once and carries its names and source lines over to the result.  `rewrite`
applies a table of rules until none fits any more: a rule sees one node whose operands are final.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from ..errors import IRError
from ..evaluate import interpret
from ..ir import Graph, Loc, Node, Value, apply_again, make_node
from ..primitive import Primitive

Replace: TypeAlias = "Callable[[Node, tuple[Value, ...]], Sequence[Value] | None]"
"""From a node of the old graph and its operands in the new one to its results; None keeps it."""

Rule: TypeAlias = "Callable[[Node], Value | None]"
"""A law: the value that equals a node's (only) result, or None where the law does not apply."""


def rebuild(graph: Graph, replace: Replace) -> Graph:
    """`graph` with each node replaced by what `replace` makes of it, regions included.

    Names and locations are carried over: a value that takes another's place takes its name, unless
    it has one or is an input, and its node takes the lines; so do new nodes that lead to it.
    """
    carried = _Carried(graph)

    def apply(node: Node, operands: list[Value]) -> Sequence[Value]:
        results = replace(node, tuple(operands))
        if results is None:
            results = renew(node, tuple(operands), replace).results
        carried.over(node, results)
        return results

    value_of = interpret(graph, graph.inputs, apply)
    checks = (dataclasses.replace(c, condition=value_of(c.condition)) for c in graph.checks)
    outputs = tuple(value_of(output) for output in graph.outputs)
    return carried.onto(graph.replace(outputs=outputs, checks=tuple(checks)))


def renew(node: Node, operands: tuple[Value, ...], replace: Replace) -> Node:
    """`node` on other operands, the graphs among its parameters rebuilt."""
    if any(map(_has_region, node.params.values())):
        params = {key: _renew_regions(value, replace) for key, value in node.params.items()}
        if any(params[key] is not value for key, value in node.params.items()):
            return make_node(node.prim, operands, params)
    return node if operands == node.operands else apply_again(node, operands)


def _has_region(param: Any) -> bool:
    return isinstance(param, Graph) or (
        type(param) is tuple and any(isinstance(p, Graph) for p in param)
    )


def _renew_regions(param: Any, replace: Replace) -> Any:
    if isinstance(param, Graph):
        return rebuild(param, replace)
    if _has_region(param):
        return tuple(_renew_regions(p, replace) for p in param)
    return param


class _Carried:
    """Names and locations on their way from an old graph to a new one."""

    def __init__(self, old: Graph) -> None:
        self.old = old
        self.names = {v: old.names[v] for v in old.inputs if v in old.names}
        self.locs: dict[Node, dict[Loc, None]] = {}
        self.known = {value.node for value in old.inputs}

    def over(self, node: Node, results: Sequence[Value]) -> None:
        """Notes that `results` stand for those of `node`, operands first."""
        for before, after in zip(node.results, results, strict=True):
            name = self.old.names.get(before)
            if name is not None and not after.is_input:
                self.names.setdefault(after, name)
        locs = self.old.locs.get(node, ())
        for heir in self._heirs(results):
            self.locs.setdefault(heir, {}).update(dict.fromkeys(locs))

    def _heirs(self, results: Sequence[Value]) -> list[Node]:
        """The nodes of `results`, and those behind them that have not been met before."""
        if len(results) == 1 and results[0].node in self.known:
            return [results[0].node]
        heirs = list(dict.fromkeys([r.node for r in results]))
        for node in heirs:  # which grows
            if node not in self.known:
                self.known.add(node)
                heirs += [o.node for o in node.operands if o.node not in self.known]
        return heirs

    def onto(self, graph: Graph) -> Graph:
        """`graph` with the names and locations of what it reaches."""
        values = (*graph.inputs, *(r for node in graph.nodes for r in node.results))
        names = {v: self.names[v] for v in values if v in self.names}
        locs = {n: tuple(self.locs[n]) for n in graph.nodes if self.locs.get(n)}
        return graph.replace(names=names, locs=locs)


class Rules:
    """Rules by what stands at the root of their pattern, in the order in which they are tried."""

    def __init__(self, *tables: Rules) -> None:
        self._rules: list[tuple[tuple[Primitive | type, ...], Rule]] = []
        for table in tables:
            self._rules += table._rules

    def on(self, *roots: Primitive | type) -> Callable[[Rule], Rule]:
        """Decorator: adds a rule for these primitives, or for all that lower in this way."""

        def add(rule: Rule) -> Rule:
            self._rules.append((roots, rule))
            return rule

        return add

    def of(self, primitive: Primitive) -> tuple[Rule, ...]:
        """The rules for nodes of a primitive."""
        kinds = (primitive, type(primitive.lowering))
        return tuple(rule for roots, rule in self._rules if any(k in roots for k in kinds))

    @property
    def names(self) -> tuple[str, ...]:
        """What the rules are called, in the order in which they are tried."""
        return tuple(rule.__name__ for _, rule in self._rules)

    @property
    def laws(self) -> tuple[str, ...]:
        """What the rules say, in the same order."""
        return tuple(rule.__doc__ or "" for _, rule in self._rules)

    def only(self, name: str) -> Rules:
        """A table of the rule called `name` alone, to see what it does."""
        table = Rules()
        table._rules = [entry for entry in self._rules if entry[1].__name__ == name]
        return table

    def without(self, name: str) -> Rules:
        """A table of all rules but the one called `name`."""
        table = Rules()
        table._rules = [entry for entry in self._rules if entry[1].__name__ != name]
        return table


def made_by(value: Value, *primitives: Primitive) -> Value | None:
    """The first operand of a value that one of the primitives made; None for other values."""
    return value.node.operands[0] if value.node.prim in primitives else None


def rewrite(graph: Graph, rules: Rules) -> Graph:
    """`graph` with the rules applied, operands first, until none fits; its types stay as they are.

    A rule that would change a value's `weak` flag does not fit.  Rules may compute with NumPy:
    what overflows or is invalid then does so in silence, as it will when the program runs.

    Raises:
        IRError: a rule gave a value of another type, which is a mistake in the rule.
    """
    with np.errstate(all="ignore"):
        return rebuild(graph, _Rewriter(rules))


class _Rewriter:
    """Keeps, for every node that it has met, the results that no rule rewrites any further."""

    def __init__(self, rules: Rules) -> None:
        self._rules_of = cache(rules.of)
        self._final: dict[Node, tuple[Value, ...]] = {}

    def __call__(self, node: Node, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        """The final results of a node, given its final operands."""
        node = renew(node, operands, self)
        found = self._final.get(node)
        if found is None:
            found = self._final[node] = self._rewritten(node)
        return found

    def _rewritten(self, node: Node) -> tuple[Value, ...]:
        for rule in self._rules_of(node.prim):
            value = rule(node)
            if value is not None and _keeps_type(rule, node, value):
                return (self._finished(value),)
        return node.results

    def _finished(self, value: Value) -> Value:
        """What becomes of a value that a rule made: its nodes may be new."""
        if value.is_input:
            return value
        results = self._final.get(value.node)
        if results is None:
            results = self(value.node, tuple(map(self._finished, value.node.operands)))
        return results[value.index]


def _keeps_type(rule: Rule, node: Node, value: Value) -> bool:
    before, after = node.results[0].aval, value.aval
    if (before.dtype, before.shape) != (after.dtype, after.shape):
        raise IRError(f"rule {rule.__doc__!r} of {node.prim} gave {after} in place of {before}")
    return before == after
