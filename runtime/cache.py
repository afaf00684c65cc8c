"""The disk cache of compiled programs: one file an entry, valid or ignored.

A file is

    8 bytes   magic `TAUTOBJ` and the format's version
    32 bytes  SHA-256 of all that follows
    64 bytes  the key, in hexadecimal
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
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"TAUTOBJ\x01"
SUFFIX = ".tautobj"
SIZE_LIMIT = 512 << 20
"""Bytes beyond which the least recently used entries are removed."""

_TOUCH_AFTER = 3600.0  # seconds: a use is noted this often, so that hits hardly ever write
_STALE_AFTER = 3600.0  # seconds after which an unfinished file is taken for a killed writer's
_DIGEST, _KEY = 32, 64
_KEY_FORM = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """A file of the cache: key, place, size in bytes, time of the last use in seconds."""

    key: str
    path: Path
    size: int
    used: float


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
        limit: bytes that all entries together may take.
    """

    def __init__(self, folder: Path, limit: int = SIZE_LIMIT) -> None:
        self.folder, self.limit = folder, limit

    def get(self, key: str) -> bytes | None:
        """The payload kept under `key`, or None."""
        path = self._path(key)
        try:
            data = path.read_bytes() if _is_private(self.folder) else b""
        except OSError:
            return None
        payload = _unwrap(data, key)
        if payload is not None:
            _note_use(path)
        return payload

    def put(self, key: str, payload: bytes) -> bool:
        """Keeps `payload` under `key`, in place of what was there; whether that worked."""
        path = self._path(key)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_private(self.folder):
                return False
            _write_whole(path, _wrap(payload, key))
        except OSError:
            return False
        self._trim(keep=path)
        return True

    def entries(self) -> list[Entry]:
        """What is kept, the last used first."""
        return sorted(self._scan(), key=lambda e: (-e.used, e.key))

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


def _wrap(payload: bytes, key: str) -> bytes:
    body = key.encode() + payload
    return MAGIC + hashlib.sha256(body).digest() + body


def _unwrap(data: bytes, key: str) -> bytes | None:
    """The payload of a file's bytes, or None if they are not what `_wrap` makes for this key."""
    start = len(MAGIC) + _DIGEST
    body = memoryview(data)[start:]
    if data[: len(MAGIC)] != MAGIC or bytes(body[:_KEY]) != key.encode():
        return None
    if hashlib.sha256(body).digest() != data[len(MAGIC) : start]:
        return None
    return bytes(body[_KEY:])


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
    return stat.st_uid in (0, os.getuid()) and not stat.st_mode & 0o002


def _is_usable(folder: Path) -> bool:
    """Whether entries can be kept in the folder, made where it is missing."""
    existing = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return writable and (existing != folder or _is_private(folder))
