"""Writing through a view, without memory: a new value of the whole from that of a part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..compiler.primitive import Primitive
from ..compiler.primitives import movement

Apply = Callable[..., Any]


def write_through(
    whole: Any,
    steps: Sequence[tuple[Primitive, dict[str, Any]]],
    part: Any,
    apply: Apply | None = None,
) -> Any:
    """The value of `whole` after its view by `steps` was set to `part`.

    Args:
        whole: a graph value or a tensor.
        steps: the movement primitives that lead from the whole to the view.
        part: a graph value or a tensor of the view's shape.
        apply: `apply(primitive, *operands, **params)`; by default primitives are applied to graph
            values.

    Raises:
        RuntimeError: a step repeats elements (`expand`), so that one of them cannot be written
            alone.
    """
    apply = apply or (lambda primitive, *operands, **params: primitive(*operands, **params))
    if not steps:
        return part
    (primitive, params), rest = steps[0], steps[1:]
    if rest:
        part = write_through(apply(primitive, whole, **params), rest, part, apply)
    return _undo(apply, primitive, params, whole, part)


def _undo(apply: Apply, primitive: Primitive, params: dict[str, Any], whole: Any, part: Any) -> Any:
    if primitive is movement.reshape:
        return apply(movement.reshape, part, shape=tuple(whole.aval.shape))
    if primitive is movement.transpose:
        return apply(movement.transpose, part, perm=movement.inverse_permutation(params["perm"]))
    if primitive is movement.slice_:
        return apply(movement.set_slice, whole, part, start=params["start"], step=params["step"])
    if primitive is movement.broadcast and whole.aval.size == part.aval.size:
        return apply(movement.reshape, part, shape=tuple(whole.aval.shape))
    raise RuntimeError(
        "unsupported operation: more than one element of the written-to tensor refers to a single "
        "memory location. Please clone() the tensor before performing the operation."
    )
