"""Gradients of tensors: `backward()` and `grad()`.

What is taped becomes a graph, a pass derives its gradients, and that runs: see `plans`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..compiler.aval import Dim, size_of
from ..compiler.quiet import quiet
from .context import current
from .core import TensorBase, from_array, shape_of
from .errors import history_outside
from .grad_mode import grad_mode
from .plans import pull_back

if TYPE_CHECKING:
    from .tensor import Tensor


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Adds the gradient of some tensors to the `.grad` of every leaf that they depend on.

    Args:
        tensors: what to differentiate: scalars, unless `grad_tensors` gives their cotangents.
        grad_tensors: cotangents of the tensors, of their shapes.
        retain_graph: keep what `backward` needs, for a second time.
        create_graph: make the gradients differentiable themselves.
        inputs: leaves, if only these are to get their gradient.

    Raises:
        RuntimeError: a tensor has no history, or an input is no leaf that wants a gradient.
    """
    heads, seeds = _heads(tensors, grad_tensors)
    wanted = None if inputs is None else _listed(inputs)
    if wanted is not None and not wanted:
        raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    for tensor in wanted or ():
        if not tensor._requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    trace = current().trace
    if trace is not None:
        trace.roots.extend(map(trace.read, heads))
    keep = create_graph if retain_graph is None else retain_graph
    found = pull_back(heads, seeds, wanted, create_graph=create_graph, retain_graph=keep)
    for leaf, grad in found.items():
        if trace is not None:
            _require_leaf(leaf)
        accumulate(leaf, grad, create_graph)


def _require_leaf(tensor: Tensor) -> None:
    if tensor.entry is not None and tensor.entry.level is None:
        raise history_outside()


def _listed(tensors: Any) -> list[Any]:
    return [tensors] if isinstance(tensors, TensorBase) else list(tensors)


def _heads(tensors: Any, given: Any, size: Dim | None = None) -> tuple[list[Any], list[Any]]:
    """What to differentiate, and a cotangent for each."""
    heads = _listed(tensors)
    cotangents = [None] * len(heads) if given is None else _listed(given)
    if len(cotangents) != len(heads):
        raise RuntimeError(f"got {len(heads)} tensors and {len(cotangents)} gradients")
    for number, head in enumerate(heads):
        _require_history(head, number)
    return heads, [_seed(h, g, size) for h, g in zip(heads, cotangents, strict=True)]


def accumulate(leaf: Tensor, grad: Tensor, create_graph: bool = False) -> None:
    """Adds to a leaf's `.grad`: in place if there is one already."""
    traced = current().trace is not None
    known = leaf.grad if traced else leaf._grad
    if known is None:
        leaf.grad = grad if create_graph else _owned(grad)
    elif create_graph:
        leaf.grad = known + grad
    elif traced:
        with grad_mode(False):
            known.add_(grad)
    else:
        add: Any = np.add
        quiet.run(add, known.array, grad.array, known.array)
        known.storage.version += 1


def _require_history(tensor: Tensor, number: int) -> None:
    if not tensor.requires_grad:
        raise RuntimeError(
            f"element {number} of tensors does not require grad and does not have a grad_fn"
        )


def _seed(tensor: Tensor, gradient: Tensor | None, size: Dim | None) -> Tensor:
    from .create import ones_like

    if gradient is None:
        if size_of(shape_of(tensor)) != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
        return ones_like(tensor)
    if not isinstance(gradient, TensorBase):
        raise TypeError(
            f"gradients can be either Tensors or None, but got {type(gradient).__name__}"
        )
    shape = tuple(gradient.shape) if size is None else tuple(gradient.shape[1:])
    if shape != tuple(tensor.shape):
        raise RuntimeError(
            f"Mismatch in shape: grad_output[0] has a shape of {gradient.shape} and output[0] has "
            f"a shape of {tensor.shape}."
        )
    return gradient if gradient.dtype is tensor.dtype else gradient.to(tensor.dtype)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of `outputs` with respect to `inputs`; no `.grad` is touched.

    Args:
        outputs: scalars, unless `grad_outputs` gives their cotangents.
        inputs: leaves or intermediate results.
        grad_outputs: cotangents of the outputs, of their shapes.
        retain_graph: keep what `backward` needs, for a second time.
        create_graph: make the gradients differentiable themselves.
        allow_unused: give None for an input that no output depends on, instead of raising.
        is_grads_batched: each of `grad_outputs` has a first dimension more, and so has each result:
            many products with the Jacobian at once.
        materialize_grads: give zeros for an input that no output depends on.

    Raises:
        RuntimeError: an output has no history, or an input is unused.
        ValueError: `materialize_grads` with `allow_unused=False`.
    """
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True"
        )
    _require_tensors("outputs", outputs)
    _require_tensors("inputs", inputs)
    size = _batch_size(grad_outputs) if is_grads_batched else None
    heads, seeds = _heads(outputs, grad_outputs, size)
    targets = _listed(inputs)
    if not all(t.requires_grad for t in targets):
        raise RuntimeError("One of the differentiated Tensors does not require grad")
    keep = create_graph if retain_graph is None else retain_graph
    found = pull_back(
        heads, seeds, targets, create_graph=create_graph, retain_graph=keep, size=size
    )
    owned = {t: g if create_graph else _owned(g) for t, g in found.items()}
    if materialize_grads:
        return tuple([owned[t] if t in owned else _zeros(t, size) for t in targets])
    if not allow_unused and any(t not in owned for t in targets):
        raise RuntimeError(
            "One of the differentiated Tensors appears to not have been used in the graph. Set "
            "allow_unused=True if this is the desired behavior."
        )
    return tuple([owned.get(t) for t in targets])


def _require_tensors(what: str, given: Any) -> None:
    for tensor in [given] if isinstance(given, (TensorBase, str)) else given:
        if not isinstance(tensor, TensorBase):
            raise RuntimeError(f"all {what} have to be Tensors, but got {type(tensor).__name__}")


def _batch_size(grad_outputs: Any) -> Dim:
    given = [] if grad_outputs is None else _listed(grad_outputs)
    if not given or any(g is None or not g.ndim for g in given):
        raise RuntimeError("is_grads_batched takes grad_outputs with a first dimension more")
    size: Dim = shape_of(given[0])[0]
    return size


def _zeros(tensor: Tensor, size: Dim | None) -> Tensor:
    from .create import zeros

    shape = shape_of(tensor) if size is None else (size, *shape_of(tensor))
    return zeros(shape, dtype=tensor.dtype)


def _owned(grad: Tensor) -> Tensor:
    """A gradient whose memory is its own and in order; one that views other memory is copied."""
    array = grad.array
    if array is None or (array.base is None and array.flags.c_contiguous):
        return grad
    return from_array(np.array(array, order="C"))
