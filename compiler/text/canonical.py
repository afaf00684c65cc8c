"""What a graph computes, as text and as a hash: the key under which compiled programs are kept."""

from __future__ import annotations

import hashlib

from ..ir import Graph
from .printer import print_bare


def canonical_text(graph: Graph) -> str:
    """The IR text without function names, value names and source lines.

    Two graphs have the same canonical text exactly if they are the same program: renaming a
    variable, moving a line or another process changes nothing.  A check's message is part of the
    program, and so are the names of sizes.
    """
    return print_bare(graph)


def graph_hash(graph: Graph) -> str:
    """SHA-256 of the canonical text, as 64 hexadecimal digits."""
    return text_hash(canonical_text(graph))


def text_hash(text: str) -> str:
    """SHA-256 of a canonical text, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
