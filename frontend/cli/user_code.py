"""Running the user's code: its prints stay off stdout, what it raises is told at its lines."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import click

from .group import UserError

_ROOT = Path(__file__).absolute().parents[2]
_OWN = tuple(f"{_ROOT / room}/" for room in ("compiler", "runtime", "frontend"))
_IMPORT = ("<frozen ", str(Path(importlib.__file__).parent))


@contextmanager
def user_code(doing: str) -> Iterator[None]:
    """Turns whatever the block raises into a UserError.

    Args:
        doing: what the block does, for errors that have no line of the user's.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (click.ClickException, click.Abort, KeyboardInterrupt):
        raise
    except SystemExit as error:
        raise UserError(f"{doing} ended the program: exit({error.code})", _lines(error)) from error
    except Exception as error:
        last = traceback.format_exception_only(error)
        detail = "".join(last[:-1]).rstrip()  # of a syntax error: the line and the place in it
        lines = "\n".join(filter(None, (_lines(error), detail)))
        raise UserError(last[-1].strip(), lines or f"{doing}:") from error


def _lines(error: BaseException) -> str:
    """The user's part of a traceback, as Python prints it."""
    frames = traceback.extract_tb(error.__traceback__)
    shown = [frame for frame in frames if not frame.filename.startswith((*_OWN, *_IMPORT))]
    for frame in shown:
        frame.filename = _short(frame.filename)
    return "".join(traceback.format_list(shown)).rstrip()


def _short(filename: str) -> str:
    """A path relative to the working directory where it is below that."""
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
