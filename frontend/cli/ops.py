"""`taut ops`: the primitives that graphs are made of."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import click

from ...compiler.primitive import Elementwise, Primitive, all_primitives, no_gradient
from ...compiler.text.lexer import suggestion
from .group import UserError, with_traceback
from .output import emit, emit_fields, emit_table

COLUMNS = ("name", "operands", "attributes", "gradient", "lowering", "meaning")


@click.command()
@click.argument("name", required=False)
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@with_traceback
def ops(name: str | None, form: str) -> None:
    """Lists the primitives that graphs are made of, or shows NAME alone."""
    from ...compiler import primitives  # noqa: F401 (importing registers them)

    known = {p.name: p for p in all_primitives()}
    if name is not None and name not in known:
        hint = suggestion(name, known) or "; `taut ops` lists all"
        raise UserError(f"no primitive is called {name!r}{hint}")
    chosen = [describe(p) for p in ([known[name]] if name else known.values())]
    if form == "json":
        emit(json.dumps(chosen[0] if name else chosen, indent=2, ensure_ascii=False) + "\n")
    elif name:
        emit_fields({key: _cell(value) or "none" for key, value in chosen[0].items()})
    else:
        emit_table(COLUMNS, ([_cell(entry[c]) for c in COLUMNS] for entry in chosen))


def describe(primitive: Primitive) -> dict[str, Any]:
    """A primitive as plain data.

    `attributes` are those that IR text writes out, `*` before an operand's name means any number of
    them, and `gradient` is false where the result is constant almost everywhere or no float.
    """
    from ...compiler.text.attributes import attributes_of

    lowering = primitive.lowering
    return {
        "name": primitive.name,
        "meaning": primitive.doc,
        "operands": _operands(primitive),
        "attributes": list(attributes_of(primitive).allowed),
        "gradient": primitive.vjp not in (None, no_gradient),
        "lowering": None if lowering is None else type(lowering).__name__.lower(),
    }


def _operands(primitive: Primitive) -> list[str]:
    lowering = primitive.lowering
    if isinstance(lowering, Elementwise):
        count = len(set(re.findall(r"\{(\d)\}", lowering.python)))
        if _is_variadic(primitive):  # one type rule for all of them: the scalar code tells how many
            return ["x", "y", "z"][:count]
    parameters = inspect.signature(primitive.type_rule).parameters.values()
    return [str(p).partition(":")[0] for p in parameters if p.kind is not p.KEYWORD_ONLY]


def _is_variadic(primitive: Primitive) -> bool:
    parameters = inspect.signature(primitive.type_rule).parameters.values()
    return any(p.kind is p.VAR_POSITIONAL for p in parameters)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else value or ""
