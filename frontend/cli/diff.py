"""`taut diff`: whether two programs are the same, and where they are not."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

import click

from .group import OK, USER, with_traceback
from .output import emit
from .targets import is_text

if TYPE_CHECKING:
    from ...compiler.ir import Graph

EXAMPLES = """\b
Examples:
  taut diff before.ir after.ir
  taut diff train.py:step old_train.py:step --arg 'x=f32[64,8]' --stage opt
"""


@click.command(epilog=EXAMPLES)
@click.argument("a")
@click.argument("b")
@click.option(
    "--stage",
    "-s",
    default="joint",
    show_default=True,
    metavar="STAGE",
    help="What to compare: trace, joint (with gradients; IR text as it stands), opt, or a pass.",
)
@click.option(
    "--arg",
    "-a",
    "texts",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter's type or value, for the targets that are functions.",
)
@click.pass_context
@with_traceback
def diff(context: click.Context, a: str, b: str, stage: str, texts: tuple[str, ...]) -> None:
    """Compares the graphs of A and B, each a file of IR text or a function as `dump` takes it.

    Names of values and functions, and source lines, do not count.  Prints nothing and exits with 0
    if the programs are the same, else prints how they differ and exits with 1.
    """
    first, second = (_graphs(target, stage, texts) for target in (a, b))
    found = "".join(_differences(first, second, (a, b)))
    emit(found)
    context.exit(USER if found else OK)


def _graphs(target: str, stage: str, texts: tuple[str, ...]) -> tuple[Graph, ...]:
    from ..report import stages_of
    from .traced import report_on

    try:
        stages_of(stage)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    report = report_on(target, () if is_text(target) else texts, None)
    graphs = report.graphs(stage)
    if graphs is None:
        raise click.UsageError(f"{stage} is no stage with graphs: trace, joint, opt or a pass")
    return graphs


def _differences(
    first: tuple[Graph, ...], second: tuple[Graph, ...], names: tuple[str, str]
) -> list[str]:
    from ...compiler.text.difference import difference

    parts = []
    for a, b in zip_longest(first, second):
        if a is None or b is None:
            only, graph = (names[1], b) if a is None else (names[0], a)
            parts.append(f"only in {only}: @{graph.name}\n")
        else:
            parts.append(difference(a, b, names))
    return parts
