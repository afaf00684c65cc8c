"""Commands whose errors become messages and exit codes, in one place for all."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from ...compiler.text.lexer import suggestion
from .output import say

OK, USER, USAGE, INTERNAL, INTERRUPTED = 0, 1, 2, 4, 130

BUG_HINT = """\
This is an error in taut, not in your program: please report it, with the command that you gave.
`--traceback` (or TAUT_TRACEBACK=1) shows where it happened."""


class UserError(click.ClickException):
    """Something of the user's is wrong: a file, a name, a program that cannot be traced.

    Attributes:
        lines: where it happened, for people; above the message.
    """

    exit_code = USER

    def __init__(self, message: str, lines: str = "") -> None:
        super().__init__(message)
        self.lines = lines


@dataclass
class Settings:
    """What holds for the whole command."""

    traceback: bool = False


def _show_traceback(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Settings).traceback = True


def with_traceback(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the option `--traceback`."""
    return click.option(
        "--traceback",
        is_flag=True,
        envvar="TAUT_TRACEBACK",
        expose_value=False,
        is_eager=True,
        callback=_show_traceback,
        help="After an error, show where in taut it happened.",
    )(command)


class Group(click.Group):
    """A group that proposes the nearest name for an unknown command, and alone shows its help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the options before the command."""
        if not args:
            say(ctx.get_help())
            ctx.exit(USAGE)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that the first argument names."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            known = self.list_commands(ctx)
            hint = suggestion(name, known) or f"; there are {', '.join(known)}"
            raise click.UsageError(f"no command is called {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


class Taut(Group):
    """The whole command line."""

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> NoReturn:
        """Runs, then leaves the process: how click's test runner calls."""
        sys.exit(self.run(args))

    def run(self, arguments: Sequence[str] | None = None) -> int:
        """Runs a command and tells its errors; the exit code."""
        settings = Settings()
        try:
            result = super().main(arguments, prog_name="taut", standalone_mode=False, obj=settings)
        except Exception as error:  # noqa: BLE001 (nothing may leave as a bare traceback)
            return _tell(error, settings.traceback)
        return result if isinstance(result, int) else OK


def _tell(error: Exception, with_traceback: bool) -> int:
    if with_traceback and not isinstance(error, click.UsageError):
        say("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, click.Abort):
        return INTERRUPTED
    if not isinstance(error, click.ClickException):
        say(f"taut: internal error: {type(error).__name__}: {error}\n{BUG_HINT}")
        return INTERNAL
    if isinstance(error, UserError) and error.lines:
        say(error.lines)
    say(f"taut: error: {error.format_message()}")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        say(f"see `{error.ctx.command_path} --help`")
    return error.exit_code
