"""`taut run`: a graph in IR text, compiled and run on arrays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .group import UserError, with_traceback
from .output import emit, say
from .targets import read_graphs
from .traced import options_for
from .values import parse_arguments

if TYPE_CHECKING:
    from ...compiler.ir import Graph

EXAMPLES = """\b
Examples:
  taut run step.ir --arg 'x=f32[64,8]' --arg lr=0.1
  taut run step.ir --arg x=@x.npy --seed 1 --out results
"""


@click.command(epilog=EXAMPLES)
@click.argument("source", metavar="IN.ir")
@click.option(
    "--arg",
    "-a",
    "texts",
    multiple=True,
    metavar="NAME=VALUE",
    help="An input's array (x=@x.npy), number (lr=0.1), or type, to make data up (x=f32[64,8]).",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
              help="Seed of the data that is made up.")  # fmt: skip
@click.option("--out", "-o", metavar="DIR", help="Write the results there as .npy files instead.")
@click.option("--backend", type=click.Choice(["llvm", "numba"]), help="Back end to compile with.")
@with_traceback
def run(
    source: str, texts: tuple[str, ...], seed: int, out: str | None, backend: str | None
) -> None:
    """Runs the graph of IN.ir, or of stdin if it is -, and prints its results as tensors.

    Inputs that no --arg names are made up: normal floats, and integers 0 and 1, the same each time.
    """
    from .made_up import arrays_for

    graphs = read_graphs(source)
    if len(graphs) != 1:
        raise UserError(f"{source} holds {len(graphs)} graphs; a file to run holds one")
    arrays = arrays_for(graphs[0], parse_arguments(texts, bool), seed)
    results = _results(graphs[0], arrays, backend)
    if out is None:
        emit(_printed(graphs[0], results))
    else:
        _save(graphs[0], results, Path(out))


def _results(graph: Graph, arrays: list[Any], backend: str | None) -> list[Any]:
    from ...compiler.errors import CheckFailed, CompileError
    from ...runtime.compile import compile_graph

    try:
        return compile_graph(graph, options_for(backend))(arrays)
    except CheckFailed as error:
        raise UserError(f"a check of {graph.name or 'the graph'} failed: {error}") from error
    except CompileError as error:
        raise UserError(str(error)) from error


def _printed(graph: Graph, results: list[Any]) -> str:
    """Each result below its name and type."""
    from ...compiler.text.printer import value_names
    from ..create import from_numpy

    names, parts = value_names(graph), []
    returned = zip(graph.outputs, graph.donations, results, strict=True)
    for output, donated, array in returned:
        target = "" if donated is None else f" -> {names[graph.inputs[donated]]}"
        sizes = ",".join(map(str, array.shape))
        parts.append(f"{names[output]}: {output.aval.dtype.name}[{sizes}]{target}\n")
        parts.append(f"{from_numpy(array)!r}\n")
    return "".join(parts)


def _save(graph: Graph, results: list[Any], folder: Path) -> None:
    import numpy as np

    from ...compiler.text.printer import value_names

    names = value_names(graph)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (output, array) in enumerate(zip(graph.outputs, results, strict=True)):
            name = re.sub(r"[^\w.-]", "_", names[output].removeprefix("%"))
            path = folder / f"{number}.{name}.npy"
            np.save(path, array)
            say(f"wrote {path}")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
