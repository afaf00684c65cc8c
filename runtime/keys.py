"""Cache keys: what two compilations must share to give the same machine code."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from ..compiler import VERSION
from ..compiler.target import Target
from .options import Options

FORMAT = 1
"""Raised whenever the payload of an entry changes its form."""

_LAYERS = ("compiler", "runtime")


def program_key(graph_hash: str, options: Options, target: Target) -> str:
    """The key of a program: 64 hexadecimal digits.

    It is known before any pass has run: the graph as it was traced, the choices that change its
    code, the machine, and the compiler itself.

    Args:
        graph_hash: canonical hash of the graph, free of names and lines.
        options: only `options.identity` counts.
        target: all of it counts.
    """
    parts = [str(FORMAT), compiler_identity(), repr(target), options.identity, graph_hash]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@lru_cache(maxsize=1)
def compiler_identity() -> str:
    """taut's version and source, and LLVM's version.

    The source counts by its files' sizes and times, so that who works on taut meets no code of an
    older one.
    """
    import llvmlite
    import llvmlite.binding as llvm

    versions = f"taut {VERSION} llvmlite {llvmlite.__version__} LLVM {llvm.llvm_version_info}"
    return f"{versions} {_source_state(Path(__file__).parents[1])}"


def _source_state(root: Path) -> str:
    digest = hashlib.sha256()
    for layer in _LAYERS:
        for path in sorted((root / layer).rglob("*.py")):
            stat = path.stat()
            digest.update(f"{path.relative_to(root)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
