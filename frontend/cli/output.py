"""Where text goes: results to stdout, all else to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 200
"""Columns of a table that goes to a file or another program."""


def emit(text: str) -> None:
    """Writes a result to stdout; a reader that has gone away (`| head`) is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered would fail again, loudly, when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(message: str) -> None:
    """Writes a message to stderr."""
    print(message, file=sys.stderr)


def emit_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes a table to stdout."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(_plain, row))
    _emit_rich(table)


def emit_fields(fields: Mapping[str, str]) -> None:
    """Writes names and what they stand for to stdout, one to a line."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(name, _plain(value))
    _emit_rich(table)


def _emit_rich(table: Any) -> None:
    """Writes a table to stdout, in colour where that is a terminal."""
    console = _console()
    with console.capture() as captured:
        console.print(table)
    lines = captured.get().splitlines()
    emit("".join(f"{line.rstrip()}\n" for line in lines))


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, highlight=False, force_terminal=sys.stdout.isatty())
