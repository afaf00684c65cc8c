"""Cache keys: what two compilations must share to give the same machine code.

A key has four parts: the graph, the machine, the versions of taut and LLVM, and the options that
change code.  Its digest is what a program is kept under; its parts are kept beside the program, so
that a miss can be explained.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from ..compiler import VERSION
from ..compiler.target import Target
from .options import Options

FORMAT = 3
"""Raised whenever the payload of an entry changes its form."""

PARTS = ("graph", "machine", "versions", "options")
_LAYERS = ("compiler", "runtime")


@dataclass(frozen=True)
class Key:
    """What a program is kept under.

    Attributes:
        graph: hash of the canonical text, free of names and lines.
        machine: the fields of the `Target`, as JSON; all of them count.
        versions: of taut, its source, llvmlite and LLVM, as JSON.
        options: the choices that change code, as JSON.
        name: the function's, for people.
        text: the canonical text, for people.
    """

    graph: str
    machine: str
    versions: str
    options: str
    name: str = field(default="", compare=False)
    text: str = field(default="", compare=False, repr=False)

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits."""
        parts = [str(FORMAT), *(getattr(self, part) for part in PARTS)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @cached_property
    def about(self) -> bytes:
        """The key itself, as an entry keeps it."""
        return zlib.compress(json.dumps(asdict(self)).encode())

    @classmethod
    def from_about(cls, about: bytes) -> Key:
        """The key that an entry keeps.

        Raises:
            ValueError: the bytes are none.
        """
        try:
            key = cls(**json.loads(zlib.decompress(about)))
            if all(isinstance(text, str) for text in asdict(key).values()):
                for part in PARTS:
                    key.fields(part)
                return key
        except (zlib.error, TypeError, AttributeError, ValueError):
            pass
        raise ValueError("not a key")

    def fields(self, part: str) -> Mapping[str, str]:
        """A part as names and values."""
        text: str = getattr(self, part)
        if part == "graph":
            return {"hash": text}
        return {name: str(value) for name, value in json.loads(text).items()}


def program_key(
    graph_hash: str, options: Options, target: Target, *, name: str = "", text: str = ""
) -> Key:
    """The key of a program, known before any pass has run.

    Args:
        graph_hash: canonical hash of the graph as it was traced.
        options: only `options.identity` counts.
        target: all of it counts.
        name: the function's; it does not count.
        text: the canonical text; its hash counts.
    """
    machine = json.dumps(asdict(target))
    chosen = json.dumps(options.identity)
    return Key(graph_hash, machine, compiler_identity(), chosen, name, text)


@lru_cache(maxsize=1)
def compiler_identity() -> str:
    """The versions of taut and LLVM, as JSON.

    taut's own source counts by its contents: who works on taut meets no code of an older one, and
    who copies a cache to another machine meets that of the same one.
    """
    import llvmlite
    import llvmlite.binding as llvm

    version = ".".join(map(str, llvm.llvm_version_info))
    source = _source_state(Path(__file__).parents[1])
    return json.dumps(
        {"taut": VERSION, "source": source, "llvmlite": llvmlite.__version__, "LLVM": version}
    )


def _source_state(root: Path) -> str:
    """A hash of all code that a program's code depends on: it reads 1 MB in each new process."""
    digest = hashlib.sha256()
    for layer in _LAYERS:
        for folder, folders, files in os.walk(root / layer):
            folders.sort()
            for name in sorted(files):
                if name.endswith(".py"):
                    # pathlib takes twice as long
                    with open(f"{folder}/{name}", "rb", buffering=0) as file:  # noqa: PTH123
                        data = file.read()
                    digest.update(f"{name} {len(data)}\n".encode())
                    digest.update(data)
    return digest.hexdigest()
