"""Graphs of a report as drawings, in the language of Graphviz.

Values are boxes, edges their uses.  The stage `fused` draws each group of nodes that run together
as a cluster; what is computed wherever it is read has a dashed border, and an edge that was not
fused is dashed, and its tooltip says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..compiler.ir import Graph, Node, Value
from ..compiler.schedule.names import kernel_name, value_names
from ..compiler.schedule.plan import FusionPlan
from .report import Report

_STYLE = """\
  rankdir=TB; bgcolor="transparent"; fontname="Helvetica"; fontsize=11; nodesep=0.25; ranksep=0.35;
  node [shape=box, style="rounded,filled", fillcolor="#fffefb", color="#9aa1ad", fontname="Helvetica", fontsize=10];
  edge [color="#6b7280", arrowsize=0.6];
"""  # noqa: E501  # lines of the drawing


def report_dot(report: Report, stage: str) -> str:
    """The drawing of a stage: a digraph for each program.

    Args:
        report: any report.
        stage: `trace`, `joint`, `opt`, the name of a pass, or `fused`.

    Raises:
        ValueError: the stage has no graphs.
    """
    if stage == "fused":
        plans = [program.scheduled.plan for program in report.programs]
        return "\n".join(_Drawing(plan.graph, plan).text() for plan in plans)
    graphs = report.graphs(stage)
    if graphs is None:
        raise ValueError(f"{stage} is no stage to draw; those are trace, joint, opt, fused, passes")
    return "\n".join(_Drawing(graph).text() for graph in graphs)


class _Drawing:
    """One graph, in the clusters of a plan if there is one."""

    def __init__(self, graph: Graph, plan: FusionPlan | None = None) -> None:
        self.graph, self.plan = graph, plan
        self.names = value_names(graph)
        self.why = {} if plan is None else {(c.producer, c.consumer): c.why for c in plan.cuts}

    def text(self) -> str:
        lines = (*self._inputs(), *self._nodes(), *self._edges(), *self._outputs())
        body = "".join(f"  {line}\n" for line in lines)
        return f"digraph {_text(self.graph.name or 'graph')} {{\n{_STYLE}{body}}}\n"

    def _inputs(self) -> Iterator[str]:
        for value in self.graph.inputs:
            label = _text(f"{self.names[value]}\n{value.aval}")
            yield f'{self._id(value)} [label={label}, shape=ellipse, fillcolor="#e8f0fa"];'

    def _nodes(self) -> Iterator[str]:
        grouped: set[Node] = set()
        for number, group in enumerate(self.plan.groups if self.plan else ()):
            grouped.update(group.nodes)
            name = kernel_name(group.nodes)
            label = _text(
                f"{number}: {name}" if group.kind == name else f"{number}: {group.kind} {name}"
            )
            yield f"subgraph cluster_{number} {{"
            yield f'  label={label}; style="rounded,filled"; color="#d9b65c"; fillcolor="#fff6dc";'
            yield from (f"  {self._node(node)}" for node in group.nodes)
            yield "}"
        alone = ', style="rounded,dashed"' if self.plan else ""  # computed where it is read
        yield from (self._node(node, alone) for node in self.graph.nodes if node not in grouped)

    def _node(self, node: Node, style: str = "") -> str:
        first = node.results[0]
        types = ", ".join(str(r.aval) for r in node.results)
        label = _text(f"{self.names[first]}\n{node.prim.name}: {types}")
        locs = ", ".join(str(loc) for loc in sorted(set(self.graph.locs.get(node, ()))))
        tooltip = _text(locs or node.prim.doc)
        return f"{self._id(first)} [label={label}, tooltip={tooltip}{style}];"

    def _edges(self) -> Iterator[str]:
        for node in self.graph.nodes:
            for operand in dict.fromkeys(node.operands):
                why = self.why.get((operand, node))
                told = "" if why is None else f" [style=dashed, tooltip={_text(str(why))}]"
                yield f"{self._id(operand)} -> {self._id(node.results[0])}{told};"

    def _outputs(self) -> Iterator[str]:
        returned = zip(self.graph.outputs, self.graph.donations, strict=True)
        for number, (output, donated) in enumerate(returned):
            to = "" if donated is None else f"\n-> {self.names[self.graph.inputs[donated]]}"
            label = _text(f"result {number}{to}")
            yield f'"result {number}" [label={label}, shape=ellipse, fillcolor="#e6f4ea"];'
            yield f'{self._id(output)} -> "result {number}";'

    def _id(self, value: Value) -> str:
        return _text(f"%{self.names[value.node.results[0]]}")


def _text(text: str) -> str:
    """A string of Graphviz's language."""
    return json.dumps(text, ensure_ascii=False)
