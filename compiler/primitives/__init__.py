"""The primitives, one place for each.  Importing this package registers them all."""

from __future__ import annotations

from . import create, elementwise, index, linalg, movement, random, reduce

__all__ = ["create", "elementwise", "index", "linalg", "movement", "random", "reduce"]
