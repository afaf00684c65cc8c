"""The disk cache of compiled programs: one file an entry, valid or ignored.

A file is

    8 bytes   magic `TAUTOBJ` and the format's version
    32 bytes  SHA-256 of all that follows
    64 bytes  the key, in hexadecimal
    4 bytes   the length of what the key is about
    so many   what the key is about: the key's parts, for people (see `keys`)
    rest      the payload

It is written beside its place and moved there in one step, so that readers and other writers meet
whole entries only. A file that is damaged, or was made under another key or version, is a miss, and
the next `put` replaces it.  No failure of the disk is an error of the program: without a cache it
compiles again.  Entries are machine code, so a folder where other users may write is left alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..compiler.errors import WhyNot
from .options import CACHE_SIZE, Options

MAGIC = b"TAUTOBJ\x02"
SUFFIX = ".tautobj"

_TOUCH_AFTER = 3600.0  # seconds: a use is noted this often, so that hits hardly ever write
_STALE_AFTER = 3600.0  # seconds after which an unfinished file is taken for a killed writer's
_DIGEST, _KEY = 32, 64
_LENGTH = struct.Struct("<I")
_BODY = len(MAGIC) + _DIGEST
_HEAD = _BODY + _KEY + _LENGTH.size
_KEY_FORM = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """A file of the cache: key, place, size in bytes, time of the last use in seconds."""

    key: str
    path: Path
    size: int
    used: float


@dataclass(frozen=True)
class Content:
    """What a whole entry holds: its key, what that is about, and the payload."""

    key: str
    about: bytes
    payload: bytes


@dataclass(frozen=True)
class Info:
    """The cache as a whole."""

    folder: Path
    entries: int
    size: int
    limit: int
    usable: bool


class Cache:
    """Payloads by key in one folder.

    Attributes:
        folder: made, private to the user, when first needed.
        limit: bytes that all entries together may take; beyond them the least recently used go.
    """

    def __init__(self, folder: Path, limit: int = CACHE_SIZE) -> None:
        self.folder, self.limit = folder, limit

    def get(self, key: str) -> bytes | None:
        """The payload kept under `key`, or None."""
        path = self._path(key)
        try:
            data = path.read_bytes() if _is_private(self.folder) else b""
        except OSError:
            return None
        content = read_content(data)
        if isinstance(content, WhyNot) or content.key != key:
            return None
        _note_use(path)
        return content.payload

    def put(self, key: str, payload: bytes, about: bytes = b"") -> bool:
        """Keeps `payload` under `key`, in place of what was there; whether that worked.

        Args:
            key: 64 hexadecimal digits.
            payload: anything.
            about: what the key stands for, for `taut cache`.
        """
        path, data = self._path(key), whole_entry(key, payload, about)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if len(data) > self.limit or not _is_private(self.folder):
                return False
            _write_whole(path, data)
        except OSError:
            return False
        self._trim(keep=path)
        return True

    def entries(self) -> list[Entry]:
        """What is kept, the last used first."""
        return sorted(self._scan(), key=lambda e: (-e.used, e.key))

    def remove(self, entry: Entry) -> bool:
        """Removes an entry; whether it was there and could be removed."""
        return _remove(entry.path)

    def info(self) -> Info:
        """Size and place."""
        entries = self.entries()
        size = sum(e.size for e in entries)
        return Info(self.folder, len(entries), size, self.limit, _is_usable(self.folder))

    def clear(self) -> int:
        """Removes every entry and unfinished file; the number of entries removed."""
        entries = self.entries()
        removed = sum(_remove(entry.path) for entry in entries)
        for path in self._unfinished():
            _remove(path)
        return removed

    def _path(self, key: str) -> Path:
        """Where an entry is."""
        if not _KEY_FORM.fullmatch(key):
            raise ValueError(f"a key is 64 hexadecimal digits, not {key!r}")
        return self.folder / f"{key}{SUFFIX}"

    def _scan(self) -> Iterator[Entry]:
        with suppress(OSError), os.scandir(self.folder) as files:
            for file in files:
                key = file.name.removesuffix(SUFFIX)
                if _KEY_FORM.fullmatch(key) and file.name.endswith(SUFFIX):
                    with suppress(OSError):  # removed by another process meanwhile
                        stat = file.stat()
                        yield Entry(key, Path(file.path), stat.st_size, stat.st_mtime)

    def _unfinished(self) -> Iterator[Path]:
        with suppress(OSError):
            yield from self.folder.glob(f"*{SUFFIX}.*.tmp")

    def _trim(self, keep: Path) -> None:
        entries = self.entries()
        size = sum(e.size for e in entries)
        for entry in reversed(entries):
            if size <= self.limit:
                break
            if entry.path != keep and _remove(entry.path):
                size -= entry.size
        for path in self._unfinished():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _STALE_AFTER:
                    _remove(path)


def default_folder() -> Path:
    """The platform's folder for caches."""
    from platformdirs import user_cache_path

    return user_cache_path("taut", appauthor=False)


def cache_of(options: Options) -> Cache | None:
    """The disk cache that the options ask for."""
    return open_cache(options) if options.cache else None


def open_cache(options: Options) -> Cache:
    """The options' folder, whether or not programs are kept there now."""
    return Cache(options.cache_dir or default_folder(), options.cache_size)


def whole_entry(key: str, payload: bytes, about: bytes) -> bytes:
    """The bytes of an entry's file."""
    body = b"".join((key.encode(), _LENGTH.pack(len(about)), about, payload))
    return MAGIC + hashlib.sha256(body).digest() + body


def read_content(data: bytes) -> Content | WhyNot:
    """What the bytes of an entry's file hold, or why they are not what was written."""
    if data[: len(MAGIC) - 1] != MAGIC[:-1]:
        return WhyNot("it is no entry of taut's" if data else "it is empty")
    if data[len(MAGIC) - 1 : len(MAGIC)] != MAGIC[-1:]:
        return WhyNot("it has another version's format")
    if len(data) < _HEAD:
        return WhyNot("it is cut short")
    if not _same_checksum(data):
        return WhyNot("its checksum does not match: it is damaged or cut short")
    (length,) = _LENGTH.unpack_from(data, _BODY + _KEY)
    key = data[_BODY : _BODY + _KEY].decode("ascii", "replace")
    return Content(key, data[_HEAD : _HEAD + length], data[_HEAD + length :])


def _same_checksum(data: bytes) -> bool:
    return hashlib.sha256(memoryview(data)[_BODY:]).digest() == data[len(MAGIC) : _BODY]


def _write_whole(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(".tmp", f"{path.name}.", path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except BaseException:
        _remove(Path(name))
        raise


def _note_use(path: Path) -> None:
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > _TOUCH_AFTER:
            os.utime(path)


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _is_private(folder: Path) -> bool:
    """Whether only this user (or root) decides what lies in the folder."""
    if not hasattr(os, "getuid"):  # Windows keeps a user's folders apart
        return True
    stat = folder.stat()
    return stat.st_uid in (0, os.getuid()) and not stat.st_mode & 0o022


def _is_usable(folder: Path) -> bool:
    """Whether entries can be kept in the folder, made where it is missing."""
    existing = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return writable and (existing != folder or _is_private(folder))
