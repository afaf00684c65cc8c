"""`autograd.Function`: operations whose forward and backward passes are Python.

On the tape such an operation is one primitive, and its VJP rule another, both a
`PythonPrimitive`: the user's code runs on arrays in eager mode, and is recorded where tensors are
traced or taped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any
from weakref import ReferenceType, ref

from ..compiler import dtypes
from ..compiler.aval import Aval, Dim
from ..compiler.ir import Node, Value
from ..compiler.primitive import Cotangents
from ..compiler.primitives.batching import is_batched
from .context import current
from .core import TensorBase, from_array, shape_of
from .create import zeros
from .func import vjp, vmap
from .grad_mode import no_grad
from .inplace import adopt
from .nested import NestedTrace
from .plans import overwritten
from .python_primitive import Context, PythonPrimitive
from .tape import Entry, record_entry
from .tape_reading import payload_of

__all__ = ["Function", "FunctionCtx", "once_differentiable"]

TOKEN = Aval(dtypes.boolean)
"""The type of the result that stands for the context."""


class FunctionCtx(Context):
    """What `forward` hands to `backward`; attributes of any name may be set.

    Attributes:
        needs_input_grad: for each argument of `forward`, whether it wants a gradient.
    """

    needs_input_grad: tuple[bool, ...] = ()

    def __init__(self) -> None:
        self._saved: list[_Saved] = []
        self._constant: list[Any] = []
        self._dirty: list[Any] = []
        self._materialize = True
        self._entry: ReferenceType[Entry] | None = None
        self._results: list[Aval | None] = []
        self._args: list[bool] = []

    def save_for_backward(self, *tensors: Any) -> None:
        """Keeps arguments and results for `saved_tensors`; None stays None."""
        self._saved = [_Saved(tensor) for tensor in tensors]

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What `save_for_backward` was given.

        Raises:
            RuntimeError: one of the tensors was written in place since.
        """
        entry = None if self._entry is None else self._entry()
        return tuple([saved.unpacked(entry) for saved in self._saved])

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Says that these results have no gradient."""
        self._constant = list(tensors)

    def mark_dirty(self, *tensors: Any) -> None:
        """Says that `forward` wrote these arguments in place; it has to return them."""
        self._dirty = list(tensors)

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros for results that nothing depends on, or else None."""
        self._materialize = value


class _Saved:
    """A saved tensor, the state it was in, and which result of the operation it is, if any."""

    def __init__(self, tensor: Any) -> None:
        self.tensor, self.number = tensor, -1
        self.state: Any = None
        self.version = 0

    def settle(self, results: Sequence[Any]) -> None:
        """Lets go of a result, whose history would lead back here."""
        if self.tensor is None:
            return
        for number, result in enumerate(results):
            if result is self.tensor:
                self.tensor, self.number = result.detach(), number
                break
        self.state, self.version = _state(self.tensor), self.tensor.storage.writes()

    def unpacked(self, entry: Entry | None) -> Any:
        """The tensor, with its history."""
        tensor = self.tensor
        if tensor is None:
            return None
        if _state(tensor) != self.state:
            raise overwritten(tensor.aval, tensor.storage, self.version)
        if self.number < 0 or entry is None or not tensor.dtype.is_floating_point:
            return tensor
        result = tensor.detach()
        result.entry, result.index, result._requires_grad = entry, self.number, True
        return result


def _state(tensor: Any) -> Any:
    """What a write in place changes: the count of writes, in a trace the value."""
    trace = current().trace
    while isinstance(trace, NestedTrace) and tensor.storage not in trace.values:
        trace = trace.outer.trace
    return tensor.storage.writes() if trace is None else trace.base_value(tensor)


class Function:
    """An operation with a gradient of its own: subclass it, and call `apply`.

    `forward(ctx, *args)` computes the results; nothing in it is taped.  Or `forward(*args)` does,
    and `setup_context(ctx, inputs, output)` saves what `backward` needs.  `backward(ctx, *grads)`
    takes a cotangent for each result and returns one for each argument, None where there is none.
    """

    _primitive: PythonPrimitive

    def __init_subclass__(cls) -> None:
        cls._primitive = _primitive_of(cls)

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Computes the results."""
        raise NotImplementedError(
            "You must implement the forward function for custom autograd.Function."
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        """Saves what `backward` needs, if `forward` takes no context."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Computes a cotangent for each argument."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom "
            "autograd.Function to use it with backward mode AD."
        )

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """The results for some arguments, tensors or not."""
        ctx, taped = FunctionCtx(), current().grad
        ctx.needs_input_grad = tuple([taped and _wants_gradient(a) for a in args])
        with no_grad():
            output = _forward(cls, ctx, args)
        single = not isinstance(output, tuple)
        results = [output] if single else list(output)
        for saved in ctx._saved:
            saved.settle(results)
        if any(ctx.needs_input_grad):
            results = _taped(cls, ctx, args, results)
        return results[0] if single else tuple(results)


def _wants_gradient(arg: Any) -> bool:
    return isinstance(arg, TensorBase) and bool(arg.requires_grad)  # type: ignore[attr-defined]  # every tensor is a Tensor


def _forward(cls: type[Function], ctx: FunctionCtx, args: tuple[Any, ...]) -> Any:
    if cls.setup_context is Function.setup_context:
        return cls.forward(ctx, *args)
    output = cls.forward(*args)
    cls.setup_context(ctx, args, output)
    return output


def _taped(
    cls: type[Function], ctx: FunctionCtx, args: Sequence[Any], results: list[Any]
) -> list[Any]:
    """The results with their history: one entry, whose last result is the context."""
    operands: list[Any] = [a for a in args if isinstance(a, TensorBase)]
    _require_seen(cls, operands)
    made = [_own(r, operands) if isinstance(r, TensorBase) else r for r in results]
    tensors: list[Any] = [r for r in made if isinstance(r, TensorBase)]
    ctx._args = [isinstance(a, TensorBase) and a.dtype.is_floating_point for a in args]
    ctx._results = [r.aval if isinstance(r, TensorBase) else None for r in made]
    types = tuple([Aval(r.dtype, shape_of(r)) for r in tensors])
    inputs = tuple([payload_of(o) for o in operands])
    outputs = (*[payload_of(r) for r in tensors], ctx)
    entry = record_entry(cls._primitive, {"types": types}, operands, inputs, tensors, outputs)
    entry.label = f"{cls.__name__}Backward"
    ctx._entry = ref(entry)
    for number, result in enumerate(results):
        if any(result is c for c in ctx._constant):
            made[number].detach_()
        elif any(result is d for d in ctx._dirty):
            adopt(result, made[number])
            made[number] = result
    return made


def _own(result: Any, operands: Sequence[Any]) -> Any:
    """A result as a tensor of its own, where `forward` returned an argument or a view."""
    shared = result.base is not None or result.entry is not None
    return result.detach() if shared or any(result is o for o in operands) else result


def _require_seen(cls: type[Function], operands: Sequence[Any]) -> None:
    """Refuses what `vmap` cannot do: apply the recorded forward, yet not differentiate it."""
    trace = current().trace
    if isinstance(trace, NestedTrace) and any(trace.varies(o) for o in operands):
        raise RuntimeError(
            f"vmap cannot map over {cls.__name__}, an autograd.Function, where a gradient is "
            "wanted of the result: differentiate within vmap, as vmap(grad(f)) does"
        )


# --- primitives -----------------------------------------------------------------------------------


def _primitive_of(cls: type[Function]) -> PythonPrimitive:
    """The operation as a primitive: it is never run, only differentiated."""
    backward = _backward_of(cls)

    def vjp(cts: Any, out: tuple[Value, ...], *operands: Value, types: Any) -> Cotangents:
        given = [ct for ct in cts[:-1] if ct is not None]
        present = tuple([ct is not None for ct in cts[:-1]])
        floats = [o for o in operands if o.aval.dtype.is_floating_point]
        avals = tuple([Aval(o.aval.dtype, o.aval.shape) for o in floats])
        grads = iter(backward.bind(out[-1], *given, types=avals, present=present))
        return [next(grads) if o.aval.dtype.is_floating_point else None for o in operands]

    def type_rule(*avals: Aval, types: tuple[Aval, ...]) -> tuple[Aval, ...]:
        return (*types, TOKEN)

    return PythonPrimitive(cls.__name__, type_rule, _never, vjp, None, "an autograd.Function")


def _never(*_: Any, **__: Any) -> Any:
    raise NotImplementedError


Expand = Callable[[Sequence[Any], dict[str, Any]], Sequence[Any]]


def _backward_of(cls: type[Function]) -> PythonPrimitive:
    """The user's backward pass: of the context, and the cotangents that are present."""

    def expand(operands: Sequence[Any], params: dict[str, Any]) -> list[Any]:
        ctx, *given = operands
        return _cotangents(cls, ctx, given, params["present"], params["types"])

    def rule(ct: Any, out: Any, *operands: Value, **params: Any) -> Cotangents:
        cts = ct if isinstance(ct, tuple) else (ct,)
        moving = tuple([c is not None for c in cts])
        types = tuple([Aval(o.aval.dtype, o.aval.shape) for o in operands[1:]])
        ways = [c for c in cts if c is not None]
        inner = tuple(sorted(params.items()))
        return [None, *transposed.bind(operands[0], *ways, types=types, moving=moving, inner=inner)]

    name = f"{cls.__name__}Backward"
    transposed = _python(f"{name}Transpose", _transposed(expand))
    return _python(name, expand, rule)


def _python(name: str, expand: Expand, vjp: Any = None) -> PythonPrimitive:
    """A primitive that is a Python function of a context and tensors; `types` are its results'."""

    def reference(*operands: Any, **params: Any) -> Any:
        with no_grad():
            found = expand([operands[0], *map(from_array, operands[1:])], params)
        # Views, so that a gradient that is the user's own tensor is copied before it is written.
        arrays = tuple([g.array.view() for g in found])
        return arrays if len(arrays) != 1 else arrays[0]

    def type_rule(*_: Aval, types: tuple[Aval, ...], **__: Any) -> tuple[Aval, ...]:
        return types

    def batched(size: Dim, node: Node, operands: Sequence[Value]) -> Sequence[Value]:
        flags = tuple(map(is_batched, operands, node.operands))
        types = tuple([Aval(t.dtype, (size, *t.shape)) for t in node.params["types"]])
        inner = tuple(sorted(node.params.items()))
        mapped = _python(f"{name}Batch", _mapped(expand))
        return mapped.bind(*operands, types=types, flags=flags, inner=inner)

    doc = "a pass of an autograd.Function"
    return PythonPrimitive(name, type_rule, reference, vjp, None, doc, batch=batched, expand=expand)


def _mapped(expand: Expand) -> Expand:
    """The function over a batch, by `vmap`."""

    def run(operands: Sequence[Any], params: dict[str, Any]) -> Sequence[Any]:
        ctx, *given = operands
        dims = tuple([0 if flag else None for flag in params["flags"][1:]])
        inner = dict(params["inner"])
        found = vmap(lambda *tensors: tuple(expand([ctx, *tensors], inner)), in_dims=dims)(*given)
        return tuple(found)

    return run


def _transposed(expand: Expand) -> Expand:
    """The transpose of a function that is linear in its tensors, at 0: for forward mode."""

    def run(operands: Sequence[Any], params: dict[str, Any]) -> Sequence[Any]:
        ctx, *ways = operands
        inner, given = dict(params["inner"]), iter(ways)
        point = [zeros(t.shape, dtype=t.dtype) for t in params["types"]]
        outputs, pull = vjp(lambda *tensors: tuple(expand([ctx, *tensors], inner)), *point)
        pairs = zip(outputs, params["moving"], strict=True)
        return tuple(pull(tuple([next(given) if moving else o for o, moving in pairs])))

    return run


def _cotangents(
    cls: type[Function], ctx: Any, given: list[Any], present: Sequence[bool], types: Sequence[Aval]
) -> list[Any]:
    """What the user's backward pass returns for the floating tensors among the arguments."""
    remaining, known = iter(given), iter(present)
    grads: list[Any] = []
    for aval in ctx._results:
        if aval is not None and next(known):
            grads.append(next(remaining))
        else:
            zero = aval is not None and ctx._materialize
            grads.append(zeros(aval.shape, dtype=aval.dtype) if zero else None)
    returned = cls.backward(ctx, *grads)
    found = list(returned) if isinstance(returned, tuple) else [returned]
    count = len(ctx._args)
    if len(found) < count or any(g is not None for g in found[count:]):
        raise RuntimeError(
            f"function {cls.__name__}Backward returned an incorrect number of gradients "
            f"(expected {count}, got {len(found)})"
        )
    pairs = zip([i for i, floating in enumerate(ctx._args) if floating], types, strict=True)
    return [_fitting(cls, number, found[number], aval) for number, aval in pairs]


def _fitting(cls: type[Function], number: int, grad: Any, aval: Aval) -> Any:
    if grad is None:
        return zeros(aval.shape, dtype=aval.dtype)
    if shape_of(grad) != aval.shape:
        raise RuntimeError(
            f"Function {cls.__name__}Backward returned an invalid gradient at index {number} - got "
            f"{list(grad.shape)} but expected shape compatible with {list(aval.shape)}"
        )
    return grad.to(aval.dtype)


def once_differentiable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a `backward` that cannot itself be differentiated: trying to raises an error."""

    @wraps(function)
    def wrapped(ctx: Any, *grads: Any) -> Any:
        with no_grad():
            returned = function(ctx, *grads)
        if not current().grad:
            return returned
        found = returned if isinstance(returned, tuple) else (returned,)
        given = [g for g in grads if g is not None]
        tensors = [g for g in found if g is not None]
        marked = iter(_Once.apply(len(tensors), *tensors, *given, *ctx.saved_tensors))
        return tuple([None if g is None else next(marked) for g in found])

    return wrapped


class _Once(Function):
    """The first of its arguments, which depend on the others in a way that nobody can follow."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Any) -> Any:
        return tensors[:count]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            "trying to differentiate twice a function that was marked with @once_differentiable"
        )
