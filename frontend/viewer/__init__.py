"""A report as one HTML page: the stages side by side, and what belongs together lit up.

The page is a single file that needs no network: its style, its script and its data are inside.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

from ...compiler.pipeline import STAGES
from ..report import Report
from .blocks import Block, Origins
from .columns import Column, columns_of

__all__ = ["report_html"]


def report_html(report: Report, stages: Iterable[str] = STAGES) -> str:
    """The page of a report.

    Args:
        report: any report.
        stages: those to show, besides the source.

    Raises:
        CompileError: the back end cannot compile the program.
    """
    shown = columns_of(report, Origins(report), set(stages))
    data = json.dumps(_data(report, shown), ensure_ascii=False, separators=(",", ":"))
    parts = {
        "title": html.escape(report.name or "taut"),
        "style": _resource("page.css"),
        "script": _resource("page.js"),
        "data": data.replace("<", "\\u003c"),  # so that no `</script>` ends it
    }
    head, *pieces = _resource("page.html").split("{{")
    filled = (parts[name] + rest for name, _, rest in (piece.partition("}}") for piece in pieces))
    return head + "".join(filled)


def _resource(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _data(report: Report, columns: list[Column]) -> dict[str, Any]:
    """Columns of blocks, each `[text, number of its set]`; equal sets of operations once."""
    numbers: dict[frozenset[int], int] = {frozenset(): 0}
    listed = [
        {
            "name": column.name,
            "about": column.about,
            "blocks": [_entry(block, numbers) for block in column.blocks],
        }
        for column in columns
    ]
    sets = [sorted(operations) for operations in numbers]
    return {"name": report.name, "sets": sets, "columns": listed}


def _entry(block: Block, numbers: dict[frozenset[int], int]) -> list[str | int]:
    return [block.text, numbers.setdefault(block.operations, len(numbers))]
