"""`taut dump`: what compiling makes of a function, stage by stage."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...compiler.errors import CompileError
from .group import UserError, with_traceback
from .output import emit, say

if TYPE_CHECKING:
    from ..report import Report

DEFAULT_STAGES = {"text": "opt", "json": "opt", "dot": "fused", "html": "all"}
SUFFIXES = {"llvm": ".ll", "asm": ".s", "fused": ".txt", "memory": ".txt", "kernel": ".txt"}
"""Endings of files; all other stages are graphs in IR text."""

EXAMPLES = """\b
Examples:
  taut dump train.py:step --arg 'x=f32[64,8]' --arg 'y=f32[B]'
  taut dump train.py:step --arg x=@x.npy --stage trace..opt
  taut dump step.ir --stage kernel
  taut dump step.ir --format html --out step.html
  taut dump step.ir --format dot | dot -Tsvg -o step.svg
"""


@click.command(epilog=EXAMPLES)
@click.argument("target")
@click.option(
    "--stage",
    "-s",
    metavar="STAGE",
    help="trace, joint, opt, fused, memory, kernel, llvm or asm; a range such as trace..opt; all; "
    "or a pass, to stop after it.  By default opt; fused for dot, all for html.",
)
@click.option(
    "--arg",
    "-a",
    "texts",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter's type (x=f32[B,8]; sizes may be names), array (x=@x.npy) or value (lr=0.1).",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "dot", "html"]),
    default="text",
    show_default=True,
    help="dot: a drawing for Graphviz, groups as clusters; html: one page with all stages linked.",
)
@click.option(
    "--out",
    "-o",
    default="-",
    metavar="FILE|DIR|-",
    help="Where to write; a folder gets one file for each stage.",
)
@click.option(
    "--backend",
    type=click.Choice(["llvm", "numba"]),
    help="Back end, in place of the function's own.",
)
@with_traceback
def dump(
    target: str, stage: str | None, texts: tuple[str, ...], form: str, out: str, backend: str | None
) -> None:
    """Shows what compiling makes of TARGET.

    TARGET is file.py:function, package.module:object, file.ir, or - for IR text on stdin.  Python
    files are imported as modules.  Without --arg, a function that its module has called already is
    shown as it was compiled then.
    """
    from ..report import stages_of
    from .traced import report_on

    stage = stage or DEFAULT_STAGES[form]
    try:
        stages_of(stage)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    report = report_on(target, texts, backend)
    folder = _folder(out, 1 if form == "html" else len(report.stages(stage)))
    if folder is None:
        _write(out, _rendered(report, stage, form))
        return
    for name in (stage,) if form == "html" else report.stages(stage):
        _write(str(folder / _file_name(report, name, form)), _rendered(report, name, form))


def _rendered(report: Report, stage: str, form: str) -> str:
    try:
        return _FORMS[form](report, stage)
    except CompileError as error:
        raise UserError(str(error)) from error


def _json(report: Report, stage: str) -> str:
    from ..report_json import report_json

    return json.dumps(report_json(report, stage), indent=2, ensure_ascii=False) + "\n"


def _dot(report: Report, stage: str) -> str:
    from ..report_dot import report_dot

    try:
        return report_dot(report, stage)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _html(report: Report, stage: str) -> str:
    from ..viewer import report_html

    return report_html(report, report.stages(stage))


_FORMS: dict[str, Callable[[Report, str], str]] = {
    "text": lambda report, stage: report.text(stage),
    "json": _json,
    "dot": _dot,
    "html": _html,
}


def _folder(out: str, stages: int) -> Path | None:
    """The folder that `--out` names, or None for a file or stdout."""
    path = Path(out)
    if out != "-" and (path.is_dir() or out.endswith("/") or (stages > 1 and not path.suffix)):
        return path
    return None


def _file_name(report: Report, stage: str, form: str) -> str:
    suffix = SUFFIXES.get(stage, ".ir") if form == "text" else f".{form}"
    if report.options.emitter == "numba" and stage in ("kernel", "llvm") and form == "text":
        suffix = ".py"
    name = re.sub(r"[^\w.-]", "_", report.name)
    return f"{name}.{stage}{suffix}"


def _write(out: str, text: str) -> None:
    if out == "-":
        emit(text)
        return
    path = Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    say(f"wrote {path}")
