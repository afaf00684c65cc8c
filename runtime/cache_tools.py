"""Looking after the cache: checking its entries, explaining a miss, carrying entries elsewhere."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..compiler.errors import WhyNot
from .cache import SUFFIX, Cache, Content, Entry, read_content
from .keys import PARTS, Key

_SOME_DAY = (1980, 1, 1, 0, 0, 0)  # a pack's bytes depend on its entries alone


# --- checking -------------------------------------------------------------------------------------


def read_entry(entry: Entry) -> Content | WhyNot:
    """What an entry's file holds, or what is wrong with it."""
    try:
        return checked(entry.path.read_bytes(), entry.key)
    except OSError as error:
        return WhyNot(f"it cannot be read: {error.strerror or error}")


def checked(data: bytes, name: str) -> Content | WhyNot:
    """The content of an entry called `name`, or what is wrong: bytes, name or key."""
    content = read_content(data)
    if isinstance(content, WhyNot):
        return content
    if content.key != name:
        return WhyNot(f"it was made under another key, {content.key[:16]}")
    key = key_in(content)
    if key is not None and key.digest != content.key:
        return WhyNot("what it says of its key does not give its key")
    return content


def key_in(content: Content) -> Key | None:
    """What an entry says of its key."""
    try:
        return Key.from_about(content.about)
    except ValueError:
        return None


def name_of(entry: Entry) -> str:
    """The function that an entry was made of, as far as it says."""
    content = read_entry(entry)
    key = None if isinstance(content, WhyNot) else key_in(content)
    return key.name if key else ""


def foreign(key: Key, here: Key) -> str | None:
    """Why a program is of no use to who makes keys like `here`: its machine, or its versions."""
    for part in ("machine", "versions"):
        changes = part_changes(part, key, here)
        if changes:
            kind = "machine" if part == "machine" else "version of taut or LLVM"
            return f"it was made for another {kind}: {'; '.join(changes)}"
    return None


# --- explaining a miss ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Explanation:
    """Whether there is a program for a key, and why not.

    Attributes:
        entry: the key's own entry, or the one that comes closest.
        key: what that was kept under.
        is_hit: whether it is the key's own, and good.
        damage: what is wrong with the key's own.
    """

    entry: Entry
    key: Key
    is_hit: bool = False
    damage: WhyNot | None = None


def explain(cache: Cache, key: Key) -> Explanation | None:
    """The entry of a key, or the one that comes closest; None if there is none at all.

    The closest shares most parts of the key, then the graph, then the function's name; among equals
    it was used last.
    """
    best: tuple[tuple[object, ...], Entry, Key] | None = None
    for entry in cache.entries():
        content = read_entry(entry)
        if entry.key == key.digest:
            bad = content if isinstance(content, WhyNot) else None
            return Explanation(entry, key, is_hit=bad is None, damage=bad)
        there = None if isinstance(content, WhyNot) else key_in(content)
        if there is not None and there.text:
            same = [getattr(there, part) == getattr(key, part) for part in PARTS]
            rank = (sum(same), same, there.name == key.name, entry.used)
            if best is None or rank > best[0]:
                best = rank, entry, there
    return None if best is None else Explanation(best[1], best[2])


def part_changes(part: str, there: Key, here: Key) -> list[str]:
    """How a part of two keys differs, a line for each field: `cores: 8 there, 2 here`."""
    if getattr(there, part) == getattr(here, part):
        return []
    before, after = there.fields(part), here.fields(part)
    return [
        f"{name}: {_change(name, before.get(name, 'none'), after.get(name, 'none'))}"
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]


def _change(name: str, there: str, here: str) -> str:
    if name == "features":
        return _feature_change({*there.split(",")}, {*here.split(",")})
    if name in ("hash", "source"):
        there, here = there[:16], here[:16]
    return f"{there} there, {here} here"


def _feature_change(there: set[str], here: set[str]) -> str:
    only = [(sorted(f[1:] for f in side if f.startswith("+")), where) for side, where in
            ((there - here, "there"), (here - there, "here"))]  # fmt: skip
    found = [f"{' '.join(names)} {where} only" for names, where in only if names]
    return ", ".join(found) or "the same ones present, others known"


# --- carrying entries -----------------------------------------------------------------------------


def pack_entries(cache: Cache, path: Path) -> tuple[int, list[tuple[Entry, WhyNot]]]:
    """Writes all good entries to one file; their number, and the bad ones that stayed behind.

    The file is a ZIP archive, whose bytes depend on the entries alone.

    Raises:
        OSError: the file cannot be written.
    """
    bad: list[tuple[Entry, WhyNot]] = []
    packed = 0
    with zipfile.ZipFile(path, "w") as archive:
        for entry in sorted(cache.entries(), key=lambda e: e.key):
            content = read_entry(entry)
            if isinstance(content, WhyNot):
                bad.append((entry, content))
                continue
            about = zipfile.ZipInfo(f"{entry.key}{SUFFIX}", _SOME_DAY)
            archive.writestr(about, entry.path.read_bytes(), zipfile.ZIP_DEFLATED)
            packed += 1
    return packed, bad


def unpack_entries(cache: Cache, path: Path, here: Key) -> Iterator[tuple[str, WhyNot | None]]:
    """Keeps the entries of a packed file in the cache; each one's key, and why it was refused.

    Args:
        cache: where to keep them.
        path: what `pack_entries` wrote.
        here: any key of this machine; entries of other machines and versions are refused.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no packed file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                yield member.filename.removesuffix(SUFFIX), _unpack(cache, archive, member, here)
    except (zipfile.BadZipFile, NotImplementedError) as error:  # of a later version
        raise ValueError(str(error)) from None


def _unpack(
    cache: Cache, archive: zipfile.ZipFile, member: zipfile.ZipInfo, here: Key
) -> WhyNot | None:
    content = _member(archive, member, cache.limit)
    if isinstance(content, WhyNot):
        return content
    key = key_in(content)
    reason = "it does not say what it was made for" if key is None else foreign(key, here)
    if reason is None and not cache.put(content.key, content.payload, content.about):
        reason = "the cache's folder cannot be written to"
    return None if reason is None else WhyNot(reason)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> Content | WhyNot:
    if member.file_size > limit:
        return WhyNot(f"it is larger than the whole cache may be: {member.file_size} bytes")
    try:
        data = archive.read(member)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError) as error:
        return WhyNot(f"it is damaged: {error}")
    return checked(data, member.filename.removesuffix(SUFFIX))
