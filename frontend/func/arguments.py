"""What a function is differentiated with respect to: the leaves of some of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..context import current
from ..core import TensorBase
from ..grad_mode import enable_grad
from ..plans import varies_apart_from
from ..tree import flatten, unflatten

Argnums = int | Sequence[int]


class Variables:
    """Some arguments of a call with their leaves replaced by variables of their own.

    A variable is a leaf of the tape, or a result of its own if the tensor already wants a gradient,
    so that its gradient can be told from that of the tensor it came from.

    Attributes:
        leaves: the variables.
    """

    def __init__(self, name: str, args: Sequence[Any], argnums: Argnums) -> None:
        self._single = isinstance(argnums, int)
        given = [argnums] if isinstance(argnums, int) else list(argnums)
        self._positions = [_position(name, number, len(args)) for number in given]
        self._args = list(args)
        self._structures: list[Any] = []
        self.leaves: list[Any] = []
        for position in self._positions:
            leaves, structure = flatten(args[position])
            found = [_variable(name, position, leaf) for leaf in leaves]
            self._structures.append(structure)
            self.leaves += found
            self._args[position] = unflatten(structure, iter(found))

    def call(self, function: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
        """The function's result, taped."""
        with enable_grad():
            return function(*self._args, **kwargs)

    def rebuilt(self, values: Sequence[Any]) -> Any:
        """One value for each variable, nested as the arguments are; one argument is no tuple."""
        remaining = iter(values)
        trees = [unflatten(structure, remaining) for structure in self._structures]
        return trees[0] if self._single else tuple(trees)

    def leave(self, tree: Any) -> Any:
        """A result as the caller is to see it: without history that leads to the variables only.

        From here on the variables count as constants to all who do not ask about them.
        """
        leaves, structure = flatten(tree)
        left = [self._left(leaf) for leaf in leaves]
        for variable in self.leaves:
            variable.closed = True
        return unflatten(structure, iter(left))

    def _left(self, leaf: Any) -> Any:
        if not isinstance(leaf, TensorBase) or not leaf._requires_grad:
            return leaf
        tensor: Any = leaf
        return tensor if varies_apart_from(tensor, self.leaves) else tensor.detach()


def _position(name: str, number: int, count: int) -> int:
    if not -count <= number < count:
        raise RuntimeError(
            f"{name}(): got argnum={number}, but only {count} positional inputs were given"
        )
    return number % count


def _variable(name: str, position: int, leaf: Any) -> Any:
    if not isinstance(leaf, TensorBase) or not leaf.dtype.is_floating_point:
        got = leaf.dtype if isinstance(leaf, TensorBase) else type(leaf).__name__
        raise TypeError(
            f"{name}() differentiates with respect to floating tensors; argument {position} is "
            f"{got}"
        )
    tensor: Any = leaf
    mode = current()
    if tensor._requires_grad and mode.grad:
        return tensor.view_as(tensor)
    own = tensor.detach() if mode.trace is None else mode.trace.wrap(mode.trace.read(tensor))
    return own.requires_grad_()


def tensors_of(name: str, tree: Any) -> tuple[list[Any], Any]:
    """The leaves of a result, which are tensors, and its structure."""
    leaves, structure = flatten(tree)
    for leaf in leaves:
        if not isinstance(leaf, TensorBase):
            raise RuntimeError(f"{name}() takes a function that returns tensors, got {type(leaf)}")
    return leaves, structure


def parted(name: str, result: Any, has_aux: bool) -> tuple[Any, Any]:
    """A function's result and what it returned beside it (None without `has_aux`)."""
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise RuntimeError(f"{name}() with has_aux=True takes a function that returns a pair")
    return result[0], result[1]
