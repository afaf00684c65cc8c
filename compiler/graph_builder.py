"""Graphs by hand: names for inputs and values, and what is returned.

layer = GraphBuilder("layer")
x = layer.input("x", "f32[B,8]")
w = layer.input("w", "f32[8,16]")
z = layer.name("z", ops.matmul(x, w))
graph = layer.returns(ops.tanh(z))
"""

from __future__ import annotations

from collections.abc import Mapping

from .aval import Aval, parse_aval
from .errors import IRError
from .ir import Check, Graph, Value
from .primitives.create import graph_input
from .verify import verify


class GraphBuilder:
    """Collects what a graph has besides its nodes, which the functions of `ops` make.

    Args:
        name: the function's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._inputs: list[Value] = []
        self._checks: list[Check] = []
        self._names: dict[Value, str] = {}

    def input(self, name: str, type: Aval | str) -> Value:
        """The next argument.

        Args:
            name: its name.
            type: its type, as IR text has it: `f32[B,8]`, sizes being numbers or names.

        Raises:
            IRError: the text is no type, or the name is taken.
        """
        aval = parse_aval(type) if isinstance(type, str) else type
        value = graph_input(len(self._inputs), aval)
        self._inputs.append(value)
        return self.name(name, value)

    def name(self, name: str, value: Value) -> Value:
        """Names a value, for people, and returns it.

        Raises:
            IRError: another value has the name.
        """
        if self._names.get(value, name) == name and name in self._names.values():
            if value not in self._names:
                raise IRError(f"{self._name}: another value is called {name!r}")
            return value
        self._names[value] = name
        return value

    def check(self, condition: Value, message: str) -> None:
        """Lets the program fail with `message` unless `condition`, a bool scalar, holds."""
        self._checks.append(Check(condition, message))

    def returns(self, *outputs: Value, replaces: Mapping[Value, Value] | None = None) -> Graph:
        """The graph with these results.

        Args:
            outputs: the results, in order.
            replaces: for a result the input whose memory it takes: the new value of a state.

        Raises:
            IRError: the graph is not well formed.
        """
        position = {value: i for i, value in enumerate(self._inputs)}
        targets = {} if replaces is None else replaces
        donations = tuple(position[targets[o]] if o in targets else None for o in outputs)
        inputs, checks = tuple(self._inputs), tuple(self._checks)
        return verify(Graph(self._name, inputs, outputs, donations, checks, self._names))
