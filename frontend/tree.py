"""Nested arguments and results: their leaves in order, and the structure that puts leaves back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Structure:
    """How leaves nest.  Two arguments of equal structure differ in their leaves only.

    Attributes:
        kind: the container's type; None for a leaf.
        keys: a dict's keys.
        children: the structures inside.
    """

    kind: type | None
    keys: tuple[Any, ...]
    children: tuple[Structure, ...]


LEAF = Structure(None, (), ())


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves of nested tuples, lists, dicts and named tuples, and their structure."""
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves)


def _flatten(tree: Any, leaves: list[Any]) -> Structure:
    kind = type(tree)
    if kind in (tuple, list) or (isinstance(tree, tuple) and hasattr(tree, "_fields")):
        return Structure(kind, (), tuple([_flatten(t, leaves) for t in tree]))
    if kind is dict:
        return Structure(dict, tuple(tree), tuple([_flatten(t, leaves) for t in tree.values()]))
    leaves.append(tree)
    return LEAF


def unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    """The tree of a structure with the given leaves."""
    kind = structure.kind
    if kind is None:
        return next(leaves)
    children = [unflatten(child, leaves) for child in structure.children]
    if kind is dict:
        return dict(zip(structure.keys, children, strict=True))
    if kind in (tuple, list):
        return kind(children)
    return kind(*children)


def paths(structure: Structure, prefix: str = "") -> list[str]:
    """A readable name for each leaf: `x`, `batch_0`, `batch_labels`."""
    if structure.kind is None:
        return [prefix]
    labels = structure.keys or range(len(structure.children))
    joined: Callable[[Any], str] = lambda label: f"{prefix}_{label}" if prefix else str(label)  # noqa: E731  # read once
    return [
        path
        for label, child in zip(labels, structure.children, strict=True)
        for path in paths(child, joined(label))
    ]
