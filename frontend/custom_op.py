"""`custom_op`: a function of arrays, compiled by Numba, as one call in a program.

    @taut.custom_op
    @numba.njit
    def running_max(x):
        y = x.copy()
        for i in range(1, y.size):
            y[i] = max(y[i], y[i - 1])
        return y

    @running_max.register_fake
    def _(x):
        return taut.empty_like(x)

In eager mode it is called on the tensors' arrays.  A compiled function calls it natively, between
its kernels, and learns from the fake what shapes to expect.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from ..compiler.aval import Aval
from ..compiler.errors import CompileError
from ..compiler.ir import Loc, Value
from ..compiler.primitive import Cotangents, Primitive
from ..runtime.frozen import Unfrozen, freeze
from ..runtime.user_functions import array_primitive
from .context import Mode, current, using
from .core import TensorBase, shape_of
from .frames import place
from .functions.checks import check_all
from .guards import Guard, compiled_guards, name_guards
from .recorded_gradient import recorded
from .tape import apply_all
from .trace import Trace
from .watch.events import unwatched


class _Context(SimpleNamespace):
    """What `setup_context` leaves for the gradient; attributes of any name may be set."""

    saved_tensors: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keeps operands and results for `saved_tensors`."""
        self.saved_tensors = tensors


class CustomOp:
    """A function of arrays that programs call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        plain: Any = getattr(function, "py_func", function)
        if not inspect.isfunction(plain):
            raise TypeError(f"custom_op takes a function, not {function!r}{place()}")
        self._plain = plain
        self._fake: Callable[..., Any] | None = None
        self._setup: Callable[..., Any] | None = None
        self._backward: Callable[..., Any] | None = None
        self._state: _State | None = None
        functools.update_wrapper(self, plain, updated=())

    def __repr__(self) -> str:
        return f"<custom op {self.name}>"

    @property
    def name(self) -> str:
        """The function's name."""
        return str(self._plain.__name__)

    @property
    def origin(self) -> str:
        """Name, file and line, for messages."""
        loc = self._loc()
        return f"{self.name} ({loc.file}:{loc.line})"

    def _loc(self) -> Loc:
        code = self._plain.__code__
        return Loc(code.co_filename.rpartition("/")[2], code.co_firstlineno, 1)

    def register_fake(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Says what the results are like: a decorator.

        Args:
            function: of the same tensors, whose values it must not ask for; returns tensors of the
                results' shapes and dtypes, such as `taut.empty_like(x)`.
        """
        self._fake, self._state = function, None
        return function

    def register_autograd(
        self, backward: Callable[..., Any], *, setup_context: Callable[..., Any] | None = None
    ) -> None:
        """Says what the gradient is.

        Args:
            backward: `(ctx, *grads)` -> the gradient of the operand, or a tuple with that of each;
                None for one that has none.  It is written in operations on tensors.
            setup_context: `(ctx, inputs, output)`, which keeps in the context what it needs.
        """
        self._backward, self._setup, self._state = backward, setup_context, None

    def __call__(self, *tensors: Any) -> Any:
        """The results, fresh tensors.

        Raises:
            CompileError: Numba cannot compile the function for these tensors.
            RuntimeError: the results are not what the fake says, or there is none in a trace.
        """
        for position, tensor in enumerate(tensors):
            if not isinstance(tensor, TensorBase):
                raise TypeError(
                    f"{self.name}(): argument {position + 1} must be Tensor, not "
                    f"{type(tensor).__name__}{place()}"
                )
        results, several = self._results(tensors)
        state = self._state
        if state is None or not state.holds():
            with unwatched():
                state = self._state = _State(self)
        trace = current().trace
        if trace is not None:
            trace.outside.reads.update(dict.fromkeys(state.reads))
        primitive = self._primitive(state, tensors, results, several)
        params = {
            "dtypes": tuple(a.dtype for a in results),
            "shapes": tuple(a.shape for a in results),
        }
        *outputs, success = apply_all(primitive, tensors, params)
        if trace is not None:
            trace.locate(outputs[0], self._loc())
        check_all(success, RuntimeError(self._failure))
        return tuple(outputs) if several else outputs[0]

    @property
    def _failure(self) -> str:
        return f"{self.origin} raised an exception, or its results have not its fake's shapes"

    def _primitive(
        self, state: _State, tensors: Sequence[Any], results: Sequence[Aval], several: bool
    ) -> Primitive:
        operands = tuple(Aval(t.dtype, (1,) * t.ndim) for t in tensors)
        of_results = tuple(Aval(a.dtype, (1,) * a.ndim) for a in results)
        try:
            return state.primitive(operands, of_results, several)
        except CompileError as error:
            raise CompileError(f"{error}{place()}") from None

    def _results(self, tensors: Sequence[Any]) -> tuple[tuple[Aval, ...], bool]:
        """The types of the results, by the fake, and whether they are a tuple."""
        if self._fake is None:
            raise RuntimeError(
                f"{self.origin} has no fake; put @{self.name}.register_fake above a function of "
                "the same tensors that returns one like the result, such as taut.empty_like(x)"
                f"{place()}"
            )
        trace = Trace(f"{self.name}_fake")
        with using(Mode(trace, False)):
            fakes = [
                trace.wrap(trace.add_input(Aval(t.dtype, shape_of(t)), _NOWHERE)) for t in tensors
            ]
            returned = self._fake(*fakes)
        several = isinstance(returned, tuple)
        found = returned if several else (returned,)
        if not found or not all(isinstance(r, TensorBase) for r in found):
            raise RuntimeError(f"the fake of {self.origin} must return tensors{place()}")
        return tuple(Aval(r.dtype, shape_of(r)) for r in found), several

    def _pulled_back(self, cts: Any, outs: Any, *operands: Value, **_: Any) -> Cotangents:
        """The VJP rule."""
        backward, setup = self._backward, self._setup
        if backward is None:
            raise RuntimeError(
                f"{self.origin} has no gradient; give it one with {self.name}.register_autograd("
                f"backward){place()}"
            )

        def gradient(*tensors: Any) -> Any:
            count = len(operands)
            inputs, outputs, grads = (
                tensors[:count],
                tensors[count : count + len(outs) - 1],
                tensors[count + len(outs) - 1 :],
            )
            context = _Context()
            if setup is not None:
                setup(context, inputs, outputs[0] if len(outputs) == 1 else outputs)
            return backward(context, *grads)

        from ..compiler.primitives.create import full_like

        given = [
            full_like(o, 0) if ct is None else ct for ct, o in zip(cts[:-1], outs[:-1], strict=True)
        ]
        return recorded(self.origin, gradient, (*operands, *outs[:-1], *given), operands)


_NOWHERE: Any = None
"""What the inputs of a fake's trace are bound to: nobody runs it."""


class _State:
    """A function as it was at one moment, and the primitives made of it."""

    def __init__(self, op: CustomOp) -> None:
        try:
            self._frozen = freeze(op._function)
        except Unfrozen as error:
            raise TypeError(f"{error}{place()}") from None
        self.reads = [*map(Guard.of, self._frozen.reads)]
        for function in (op._fake, op._setup, op._backward):
            self.reads += name_guards(function) if function is not None else []
        self.holds = compiled_guards(self.reads)
        self._op = op
        self._primitives: dict[Any, Primitive] = {}

    def primitive(
        self, operands: tuple[Aval, ...], results: tuple[Aval, ...], several: bool
    ) -> Primitive:
        """The primitive for operands and results of these dtypes and numbers of dimensions."""
        key = operands, results, several
        if key not in self._primitives:
            with unwatched():
                made = array_primitive(
                    self._frozen, operands, results, several, self._op._pulled_back
                )
            self._primitives[key] = made
        return self._primitives[key]


def custom_op(function: Callable[..., Any]) -> CustomOp:
    """Makes a function of arrays a call in programs: a decorator, above `numba.njit` or without.

    It takes contiguous arrays, one for each tensor, and returns a fresh array, or a tuple of them.
    `register_fake` says of which shapes and dtypes, `register_autograd` what its gradient is.  What
    it reads besides, its globals and closure, must be numbers, tuples of numbers, modules and
    functions; a change of one is noticed at the next call.

    Raises:
        TypeError: it is no function.
    """
    return CustomOp(function)
