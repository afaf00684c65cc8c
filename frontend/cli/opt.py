"""`taut opt`: IR text in, passes, IR text out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from .group import with_traceback
from .output import emit, say
from .targets import read_graphs

if TYPE_CHECKING:
    from ...compiler.ir import Graph
    from ...compiler.pipeline import Pass

EXAMPLES = """\b
Examples:
  taut opt step.ir
  taut opt step.ir --passes fold,algebra --print-after changed
  taut dump train.py:step -s joint | taut opt - --verify-each --timing
"""


@click.command(epilog=EXAMPLES)
@click.argument("source", metavar="IN.ir")
@click.option(
    "--passes", "-p", metavar="A,B,...", help="Passes to run, in order; by default the pipeline."
)
@click.option("--verify-each", is_flag=True, help="Verify the graph after each pass.")
@click.option(
    "--print-after",
    metavar="all|changed|PASS",
    help="Print the graph to stderr after every pass, after those that changed it, or after one.",
)
@click.option("--timing", is_flag=True, help="Say on stderr how long each pass took.")
@with_traceback
def opt(
    source: str, passes: str | None, verify_each: bool, print_after: str | None, timing: bool
) -> None:
    """Runs passes over the graphs of IN.ir, or of stdin if it is -, and prints the results."""
    chosen = _passes(passes)
    _require_run(print_after, chosen)
    results = []
    for graph in read_graphs(source):
        watch = _Watch(graph, print_after)
        results.append(watch.run(chosen, verify_each))
        if timing:
            say("\n".join(watch.table()))
    emit("\n".join(map(str, results)))


def _passes(names: str | None) -> tuple[Pass, ...]:
    from ...compiler.pipeline import PASSES, find_pass

    if names is None:
        return PASSES
    try:
        return tuple(find_pass(name.strip()) for name in names.split(",") if name.strip())
    except ValueError as error:
        raise click.UsageError(f"--passes: {error}") from None


def _require_run(wanted: str | None, passes: Sequence[Pass]) -> None:
    from ...compiler.text.lexer import suggestion

    names = [p.name for p in passes]
    if wanted is not None and wanted not in ("all", "changed", *names):
        hint = suggestion(wanted, (*names, "all", "changed")) or f"; those are {', '.join(names)}"
        raise click.UsageError(f"--print-after: {wanted!r} is none of the passes that run{hint}")


class _Watch:
    """One graph on its way through the passes."""

    def __init__(self, graph: Graph, print_after: str | None) -> None:
        self.graph, self.print_after = graph, print_after
        self.rows: list[tuple[str, float, int]] = []

    def run(self, passes: Sequence[Pass], check: bool) -> Graph:
        """The graph after the passes, each timed and shown as asked for."""
        from ...compiler.pipeline import verify_stage

        for step in passes:
            before, start = self.graph, time.perf_counter()
            self.graph = step.run(before)
            self.rows.append((step.name, time.perf_counter() - start, len(before.nodes)))
            self._show(step.name, before)
            if check:
                verify_stage(self.graph, f"after the pass {step.name}")
        return self.graph

    def _show(self, name: str, before: Graph) -> None:
        changed = self.graph != before
        if self.print_after in ("all", name) or (self.print_after == "changed" and changed):
            say(f"// after {name}{'' if changed else ': no change'}\n{self.graph}".rstrip())

    def table(self) -> Iterator[str]:
        """A line for each pass, and one for all."""
        after = [nodes for _, _, nodes in self.rows[1:]] + [len(self.graph.nodes)]
        yield f"// timing of @{self.graph.name}"
        for (name, seconds, nodes), left in zip(self.rows, after, strict=True):
            yield f"//   {name:10} {1e3 * seconds:9.3f} ms  {nodes:6} -> {left} nodes"
        yield f"//   {'all':10} {1e3 * sum(row[1] for row in self.rows):9.3f} ms"
