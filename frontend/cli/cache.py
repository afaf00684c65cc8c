"""`taut cache`: compiled programs that the disk keeps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from .group import Group, UserError, with_traceback
from .output import emit, emit_fields, emit_table, say

if TYPE_CHECKING:
    from ...runtime.cache import Cache
    from ...runtime.options import Options

KEY_DIGITS = 16
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_AGES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


@click.group(cls=Group)
def cache() -> None:
    """Shows or empties the cache of compiled programs."""


@cache.command("ls")
@with_traceback
def list_entries() -> None:
    """Lists the entries, the last used first."""
    entries = cache_of(_options()).entries()
    if not entries:
        say("the cache is empty")
        return
    now = time.time()
    rows = (
        (e.key[:KEY_DIGITS], size_text(e.size), f"{age_text(now - e.used)} ago") for e in entries
    )
    emit_table(("key", "size", "used"), rows)


@cache.command()
@with_traceback
def info() -> None:
    """Shows the cache's folder and size."""
    about = cache_of(_options()).info()
    emit_fields(
        {
            "folder": str(about.folder),
            "entries": str(about.entries),
            "size": f"{size_text(about.size)} of at most {size_text(about.limit)}",
            "usable": usable_text(_options(), about.usable),
        }
    )


@cache.command()
@with_traceback
def clear() -> None:
    """Removes every entry."""
    kept = cache_of(_options())
    size = kept.info().size
    removed = kept.clear()
    emit(f"removed {removed} {'entry' if removed == 1 else 'entries'}, {size_text(size)}\n")


def _options() -> Options:
    from ...runtime.options import default_options

    try:
        return default_options()
    except ValueError as error:
        raise UserError(str(error)) from error


def cache_of(options: Options) -> Cache:
    """The cache's folder, whether or not programs are kept there now."""
    from ...runtime.cache import Cache, default_folder

    return Cache(options.cache_dir or default_folder())


def usable_text(options: Options, usable: bool) -> str:
    """Whether programs are kept, and why not."""
    if not options.cache:
        return "no: TAUT_CACHE=0 turns it off"
    return "yes" if usable else "no: the folder cannot be written to, or others may write to it"


def size_text(size: int) -> str:
    """Bytes for people: `1.5 MiB`."""
    for scale, unit in _SIZES:
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def age_text(seconds: float) -> str:
    """A time that has passed, for people: `3 h`."""
    for length, unit in _AGES:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return "0 s"
