"""The printer: a graph as IR text.  `parser` has the grammar, the package an example."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..aval import SymDim
from ..dtypes import DType
from ..errors import IRError
from ..ir import Check, Graph, Loc, Node, Value

VERSION = 1
"""Version of the text form, in the first line of every text."""

PLAIN_NAME = re.compile(r"[^\W\d][\w.]*")
"""Names that need no quotes after `%` or `@`: identifiers, and paths such as `layers.0.weight`."""

LINE_WIDTH = 100
"""A list of inputs or results that is longer goes one item a line."""

LOC_COLUMN = 80
"""Locations are aligned, but not further right than this on account of a few long lines."""


def print_graph(graph: Graph) -> str:
    """The IR text of `graph`, names and source lines included.

    Raises:
        IRError: a parameter is of a kind that text cannot hold.
    """
    return _document(graph, bare=False)


def print_bare(graph: Graph) -> str:
    """The IR text without function names, value names and source lines."""
    return _document(graph, bare=True)


def _document(graph: Graph, *, bare: bool) -> str:
    return f"taut-ir {VERSION}\n{_Function(graph, '', bare).text()}\n"


def quote(text: str) -> str:
    """A string literal of IR text: JSON's, with characters beyond ASCII left as they are."""
    return json.dumps(text, ensure_ascii=False)


def plain_or_quoted(name: str) -> str:
    """A name as it stands after `%` or `@`."""
    return name if PLAIN_NAME.fullmatch(name) else quote(name)


def format_locs(locs: Iterable[Loc]) -> str:
    """`loc("a.py":1:2, grad "b.py":3:4)`, each place once, in order; empty if there is none."""
    places = (
        f"{'grad ' if loc.grad else ''}{quote(loc.file)}:{loc.line}:{loc.column}"
        for loc in sorted(set(locs))
    )
    inside = ", ".join(places)
    return f"loc({inside})" if inside else ""


def value_names(graph: Graph, *, bare: bool = False) -> dict[Value, str]:
    """The text of each value: `%x` where it has a name, else `%0`, `%1`, ... in order."""
    names: dict[Value, str] = {}
    taken: set[str] = set()
    number = 0
    for value in (*graph.inputs, *(r for node in graph.nodes for r in node.results)):
        name = None if bare else graph.names.get(value)
        if name is None:
            names[value], number = f"%{number}", number + 1
        else:
            names[value] = _unique(name, taken)
    return names


def _unique(name: str, taken: set[str]) -> str:
    """`%name`, numbered if another value has it: an ill-formed graph must still print."""
    text, copy = f"%{plain_or_quoted(name)}", 2
    while text in taken:
        text, copy = f"%{plain_or_quoted(f'{name}.{copy}')}", copy + 1
    taken.add(text)
    return text


class _Function:
    """Prints one function, a graph or a region of a node."""

    def __init__(self, graph: Graph, indent: str, bare: bool) -> None:
        self.graph, self.indent, self.bare = graph, indent, bare
        self.names = value_names(graph, bare=bare)

    def text(self) -> str:
        body = self._aligned(list(self._statements()))
        return "\n".join([self._header(), *body, self._return(), f"{self.indent}}}"])

    def _header(self) -> str:
        graph = self.graph
        name = f" @{plain_or_quoted(graph.name)}" if graph.name and not self.bare else ""
        symbols = f"<{', '.join(graph.symbols)}>" if graph.symbols else ""
        inputs = map(self._binder, graph.inputs)
        types = (str(output.aval) for output in graph.outputs)
        head = _listing(f"func{name}{symbols}(", inputs, ")", self.indent)
        return head + _listing(" -> (", types, ") {", self.indent)

    def _binder(self, value: Value) -> str:
        return f"{self._name(value)}: {value.aval}"

    def _name(self, value: Value) -> str:
        """An operand that nothing defines prints too, so that an error can show the graph."""
        return self.names.get(value, "%?")

    def _statements(self) -> Iterator[tuple[str, str]]:
        """Each statement with its location."""
        checks = _places_of_checks(self.graph)
        yield from map(self._check, checks[-1])
        for position, node in enumerate(self.graph.nodes):
            yield self._node(node), self._locs(self.graph.locs.get(node, ()))
            yield from map(self._check, checks[position])

    def _locs(self, locs: Iterable[Loc]) -> str:
        return "" if self.bare else format_locs(locs)

    def _check(self, check: Check) -> tuple[str, str]:
        locs = () if check.loc is None else (check.loc,)
        return f"check {self._name(check.condition)} {quote(check.message)}", self._locs(locs)

    def _node(self, node: Node) -> str:
        binders = ", ".join(map(self._binder, node.results))
        operands = ", ".join(map(self._name, node.operands))
        parts = (node.prim.name, operands, self._attributes(node))
        return f"{binders} = {' '.join(filter(None, parts))}"

    def _attributes(self, node: Node) -> str:
        shown = (k for k in sorted(node.params) if k not in node.prim.from_type)
        text = ", ".join(f"{key} = {self._literal(node.params[key])}" for key in shown)
        return f"{{{text}}}" if text else ""

    def _literal(self, value: Any) -> str:
        if isinstance(value, tuple):
            return f"[{', '.join(map(self._literal, value))}]"
        if isinstance(value, Graph):
            return _Function(value, self.indent + "    ", self.bare).text()
        return format_scalar(value)

    def _return(self) -> str:
        margin = f"{self.indent}  "
        pairs = zip(self.graph.outputs, self.graph.donations, strict=True)
        return margin + _listing("return ", (self._result(*pair) for pair in pairs), "", margin)

    def _result(self, output: Value, donated: int | None) -> str:
        target = "" if donated is None else f" -> {self._name(self.graph.inputs[donated])}"
        return self._name(output) + target

    def _aligned(self, statements: Sequence[tuple[str, str]]) -> list[str]:
        margin = f"{self.indent}  "
        widths = [len(text) for text, loc in statements if loc and "\n" not in text]
        column = min(max(widths, default=0), LOC_COLUMN)
        return [
            f"{margin}{_pad(text, column)}   {loc}" if loc else margin + text
            for text, loc in statements
        ]


def _pad(text: str, column: int) -> str:
    """A statement up to the column of its location; one with a region stays as it is."""
    return text if "\n" in text else text.ljust(column)


def _listing(start: str, items: Iterable[str], end: str, indent: str) -> str:
    """`start a, b end` on one line where that fits, else one item a line."""
    items = list(items)
    line = f"{start}{', '.join(items)}{end}"
    if len(indent) + len(line) <= LINE_WIDTH:
        return line.rstrip()
    inside = ",\n".join(f"{indent}    {item}" for item in items)
    return f"{start.rstrip()}\n{inside}\n{indent}{end}".rstrip()


def _places_of_checks(graph: Graph) -> defaultdict[int, list[Check]]:
    """The checks after each node's position (-1: before all), as early as their order allows."""
    position = {node: i for i, node in enumerate(graph.nodes)}
    places: defaultdict[int, list[Check]] = defaultdict(list)
    earliest = -1
    for check in graph.checks:
        earliest = max(earliest, position.get(check.condition.node, -1))
        places[earliest].append(check)
    return places


def format_scalar(value: object) -> str:
    """A parameter that is no list and no region, as it stands in text.

    Floats print as the shortest decimal that reads back the same.
    """
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case int() | SymDim():
            return str(value)
        case float():
            return float.__repr__(value)  # NumPy's float64 is one, with a repr of its own
        case str():
            return quote(value)
        case DType():
            return value.name
    raise IRError(f"a parameter of type {type(value).__name__} has no text form: {value!r}")
