"""The command line: `taut`, also as `python -m taut`.

Only what was asked for goes to stdout; messages go to stderr.  Exit codes: 0 all is well, 1 an
error of the user's program or files, 2 a command that is not understood, 4 an error of taut's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from ...compiler import VERSION
from .cache import cache
from .diff import diff
from .doctor import doctor
from .dump import dump
from .group import Taut
from .ops import ops
from .opt import opt
from .run import run

__all__ = ["cli", "main"]


@click.group(cls=Taut, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="taut", message="%(prog)s %(version)s")
def cli() -> None:
    """A tracing compiler for tensor programs, with the names and numbers of PyTorch."""


for command in (dump, opt, run, diff, ops, cache, doctor):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the process's exit code.

    Args:
        arguments: the command line's, unless given.
    """
    return cli.run(arguments)
