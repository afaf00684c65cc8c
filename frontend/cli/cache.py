"""`taut cache`: compiled programs that the disk keeps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .group import OK, USER, Group, UserError, with_traceback
from .output import emit, emit_fields, emit_table, say

if TYPE_CHECKING:
    from ...runtime.cache import Cache
    from ...runtime.keys import Key
    from ...runtime.options import Options

KEY_DIGITS = 16
SHOWN = 40
"""Lines of the difference of two graphs: a graph that is another altogether tells nothing."""
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_AGES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


@click.group(cls=Group)
def cache() -> None:
    """Shows, checks, carries or empties the cache of compiled programs."""


@cache.command("ls")
@with_traceback
def list_entries() -> None:
    """Lists the entries, the last used first."""
    from ...runtime.cache_tools import name_of

    entries = _cache().entries()
    if not entries:
        say("the cache is empty")
        return
    now = time.time()
    rows = (
        (e.key[:KEY_DIGITS], size_text(e.size), f"{age_text(now - e.used)} ago", name_of(e))
        for e in entries
    )
    emit_table(("key", "size", "used", "program"), rows)


@cache.command()
@with_traceback
def info() -> None:
    """Shows the cache's folder and size."""
    about = _cache().info()
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
    kept = _cache()
    size = kept.info().size
    emit(f"removed {_entries(kept.clear())}, {size_text(size)}\n")


@cache.command()
@click.option("--fix", is_flag=True, help="Remove the bad entries.")
@click.pass_context
@with_traceback
def verify(context: click.Context, fix: bool) -> None:
    """Checks every entry; exits with 1 if any is bad and still there."""
    from ...compiler.errors import WhyNot
    from ...runtime.cache_tools import read_entry

    kept = _cache()
    found = [(entry, read_entry(entry)) for entry in kept.entries()]
    bad = [(entry, content) for entry, content in found if isinstance(content, WhyNot)]
    left = [entry for entry, _ in bad if not (fix and kept.remove(entry))]
    for entry, why in sorted(bad, key=lambda pair: pair[0].key):
        emit(f"{entry.key[:KEY_DIGITS]}: {why}{'' if entry in left else '; removed'}\n")
    emit(f"{_entries(len(found) - len(bad))} good, {len(bad)} bad\n")
    context.exit(USER if left else OK)


@cache.command("why-miss")
@click.argument("target")
@click.option(
    "--arg",
    "-a",
    "texts",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter's type or value, as for `taut dump`.",
)
@with_traceback
def why_miss(target: str, texts: tuple[str, ...]) -> None:
    """Says why TARGET is not in the cache: how its key differs from the closest entry's.

    TARGET is a function or IR text, as `taut dump` takes it.
    """
    from ...runtime.compile import key_of
    from .traced import report_on

    report = report_on(target, texts, None)
    options = report.options
    if options.emitter != "llvm":
        raise UserError(f"programs of the {options.emitter} back end are not kept on disk")
    if not options.cache:
        raise UserError("TAUT_CACHE=0 turns the cache off")
    for program in report.programs:
        emit("".join(f"{line}\n" for line in _explained(_cache(), key_of(program.graph, options))))


def _explained(kept: Cache, key: Key) -> list[str]:
    from ...runtime.cache_tools import explain

    name = key.name or "the graph"
    found = explain(kept, key)
    if found is None:
        return [f"{name}: not in the cache, which holds no other program to compare with"]
    digits = found.entry.key[:KEY_DIGITS]
    if found.is_hit:
        return [f"{name}: in the cache, as {digits}"]
    if found.damage is not None:
        return [f"{name}: its entry {digits} is bad: {found.damage}"]
    used = age_text(time.time() - found.entry.used)
    other = found.key.name or "a nameless graph"
    head = f"{name}: not in the cache; the closest entry is {digits}, {other}, used {used} ago"
    return [head, *_parts(found.key, key)]


def _parts(there: Key, here: Key) -> list[str]:
    """A line for each part of the key, and how it differs."""
    from ...runtime.cache_tools import part_changes
    from ...runtime.keys import PARTS

    lines = []
    for part in PARTS:
        changes = part_changes(part, there, here)
        lines.append(f"  {part:10}{'differs' if changes else 'the same'}")
        if part == "graph" and changes:
            changes = _graph_changes(there.text, here.text)
        lines += [f"    {change}" for change in changes]
    return lines


def _graph_changes(there: str, here: str) -> list[str]:
    from ...compiler.text import parse_graph
    from ...compiler.text.difference import difference

    lines = difference(parse_graph(there), parse_graph(here), ("there", "here")).splitlines()
    more = [f"and {len(lines) - SHOWN} more lines"] if len(lines) > SHOWN else []
    return lines[:SHOWN] + more


@cache.command()
@click.argument("out", type=click.Path(path_type=Path))
@with_traceback
def pack(out: Path) -> None:
    """Writes all good entries to the file OUT, for `unpack` on a machine of the same kind."""
    from ...runtime.cache_tools import pack_entries

    try:
        packed, bad = pack_entries(_cache(), out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    for entry, why in bad:
        say(f"left out {entry.key[:KEY_DIGITS]}: {why}")
    emit(f"packed {_entries(packed)}, {size_text(out.stat().st_size)}\n")


@cache.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
@with_traceback
def unpack(context: click.Context, file: Path) -> None:
    """Adds the entries of a packed FILE; exits with 1 if any was refused.

    Each entry is verified.  Those of another machine, or of another version of taut or LLVM, are
    refused.  Entries are machine code: unpack only what comes from somebody you trust.
    """
    from ...runtime.cache_tools import unpack_entries
    from ...runtime.host import host_target
    from ...runtime.keys import program_key

    options = _options()
    here = program_key("", options, host_target())
    try:
        found = list(unpack_entries(_cache(), file, here))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{file} was not made by `taut cache pack`: {error}") from error
    refused = [(key, why) for key, why in found if why is not None]
    for key, why in refused:
        emit(f"refused {key[:KEY_DIGITS]}: {why}\n")
    emit(f"unpacked {_entries(len(found) - len(refused))}, refused {len(refused)}\n")
    context.exit(USER if refused else OK)


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


def _cache() -> Cache:
    from ...runtime.cache import open_cache

    return open_cache(_options())


def _options() -> Options:
    from .traced import options_for

    return options_for(None)


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
