"""`elementwise`: a scalar Python function, compiled by Numba, that runs on tensors.

    @taut.elementwise
    def leaky(x, slope):
        return x if x > 0 else slope * x

    @leaky.grad
    def _(x, slope):
        return (1.0, 0.0) if x > 0 else (slope, x)

Called on tensors, it is one primitive, which fuses like any other.  The function is taken as it is
at the moment of the call, with the values of its globals: see `runtime.frozen`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..compiler.dtypes import DType
from ..compiler.errors import CompileError
from ..compiler.ir import Loc, Value
from ..compiler.primitive import Cotangents, Primitive
from ..runtime.frozen import Unfrozen, freeze
from ..runtime.user_functions import elementwise_primitive
from .context import current
from .core import TensorBase
from .defaults import default_float
from .frames import place
from .functions.operands import operand
from .functions.promotion import together
from .guards import Guard, compiled_guards, name_guards
from .recorded_gradient import recorded
from .tape import apply
from .watch.events import unwatched

if TYPE_CHECKING:
    from .tensor import Tensor

Path = tuple[int, ...]


class ScalarFunction:
    """A scalar Python function that runs on each element of tensors.

    Attributes:
        scalar_function: the function; on numbers, it is called as it is.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        plain: Any = getattr(function, "py_func", function)
        self._signature = _signature(plain)
        self._parameters = tuple(self._signature.parameters)
        self.scalar_function: Callable[..., Any] = plain
        self._grad: ScalarFunction | None = None
        self._vjp: Callable[..., Any] | None = None
        self._state: _State | None = None
        functools.update_wrapper(self, plain)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function of each element, its operands brought together as built-ins do it.

        Raises:
            CompileError: Numba cannot compile the function for these dtypes.
            TypeError: the arguments do not fit the function's parameters.
        """
        given = self._bound(args, kwargs)
        if not any(isinstance(x, TensorBase) for x in given):
            return self.scalar_function(*given)
        result = self._applied(together(*given), None)
        trace = current().trace
        if trace is not None:
            code = self.scalar_function.__code__
            name = code.co_filename.rpartition("/")[2]
            trace.locate(result, Loc(name, code.co_firstlineno, 1))
        return result

    def __repr__(self) -> str:
        return f"<elementwise function {self.name}>"

    @property
    def name(self) -> str:
        """The function's name."""
        return str(self.scalar_function.__name__)

    @property
    def origin(self) -> str:
        """Name, file and line, for messages."""
        code = self.scalar_function.__code__
        return f"{self.name} ({code.co_filename.rpartition('/')[2]}:{code.co_firstlineno})"

    # --- gradients --------------------------------------------------------------------------------

    def grad(self, function: Callable[..., Any]) -> ScalarFunction:
        """Makes a scalar function the derivative: a decorator.

        Args:
            function: of the same operands; returns the derivative by the operand, or a tuple with
                that by each of several operands.  It is compiled like the function itself, and may
                have a derivative in turn: of a tuple, a tuple of tuples.

        Returns:
            The derivative as an elementwise function.
        """
        derivative = function if isinstance(function, ScalarFunction) else ScalarFunction(function)
        if len(derivative._parameters) != len(self._parameters):
            raise TypeError(
                f"the derivative of {self.origin} must take the same operands, "
                f"{', '.join(self._parameters)}{place()}"
            )
        self._grad, self._vjp, self._state = derivative, None, None
        return derivative

    def vjp(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Makes a function on tensors the gradient: a decorator.

        Args:
            function: `(ct, out, *operands)` -> the cotangent of the operand, or a tuple with that
                of each; None for one that has none.  It is written in operations on tensors, and
                so has derivatives of any order.
        """
        self._vjp, self._grad, self._state = function, None, None
        return function

    # --- applying ---------------------------------------------------------------------------------

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """The operands in order, those left out by their defaults."""
        if kwargs or len(args) != len(self._parameters):
            try:
                bound = self._signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{self.name}() {error}{place()}") from None
            bound.apply_defaults()
            args = bound.args
        pairs = enumerate(zip(self._parameters, args, strict=True))
        return [operand(self.name, name, position, x) for position, (name, x) in pairs]

    def _applied(self, operands: Sequence[Any], path: Path | None) -> Tensor:
        """The primitive on operands of one dtype, at least one of them a tensor."""
        state = self._state
        if state is None or not state.holds():
            with unwatched():
                state = self._state = _State(self)
        trace = current().trace
        if trace is not None:
            trace.outside.reads.update(dict.fromkeys(state.reads))
        dtype = next(x.dtype for x in operands if isinstance(x, TensorBase))
        try:
            with unwatched():
                primitive = state.primitive(dtype, default_float(), path)
        except CompileError as error:
            raise CompileError(f"{error}{place()}") from None
        return apply(primitive, *operands)

    def _reads(self, seen: set[int]) -> list[Guard]:
        """All that the function and its gradients are made of."""
        if id(self) in seen:
            return []
        seen.add(id(self))
        reads = [*map(Guard.of, freeze(self.scalar_function).reads)]
        if self._vjp is not None:
            reads += name_guards(self._vjp)
        return reads + (self._grad._reads(seen) if self._grad is not None else [])

    def _pulled_back(
        self, ct: Value, out: Value, operands: Sequence[Value], path: Path | None
    ) -> Cotangents:
        """The VJP rule."""

        def gradient(ct: Tensor, out: Tensor, *xs: Tensor) -> Any:
            return self._cotangents(ct, out, xs, path)

        return recorded(self.origin, gradient, (ct, out, *operands), operands)

    def _cotangents(
        self, ct: Tensor, out: Tensor, operands: Sequence[Tensor], path: Path | None
    ) -> Any:
        if self._vjp is not None and not path:
            return self._vjp(ct, out, *operands)
        if self._grad is None:
            raise RuntimeError(
                f"{self.origin} has no derivative; give it one with @{self.name}.grad above a "
                f"scalar function of ({', '.join(self._parameters)}){place()}"
            )
        several = len(operands) > 1
        paths = [(*(path or ()), i) if several else (path or ()) for i in range(len(operands))]
        return [ct * self._grad._applied(operands, p) for p in paths]


class _State:
    """A function as it was at one moment, and the primitives made of it.

    Attributes:
        reads: what it depends on.
        holds: whether all that is still the same.
    """

    def __init__(self, function: ScalarFunction) -> None:
        try:
            self._frozen = freeze(function.scalar_function)
            self.reads = function._reads(set())
        except Unfrozen as error:
            raise TypeError(f"{error}{place()}") from None
        self.holds = compiled_guards(self.reads)
        self._function = function
        self._primitives: dict[tuple[DType, DType, Path | None], Primitive] = {}

    def primitive(self, dtype: DType, floats: DType, path: Path | None) -> Primitive:
        """The primitive for operands of a dtype, or for a part of the result."""
        known = self._primitives.get((dtype, floats, path))
        if known is None:
            known = self._made(dtype, floats, path)
            self._primitives[dtype, floats, path] = known
        return known

    def _made(self, dtype: DType, floats: DType, path: Path | None) -> Primitive:
        function = self._function

        def vjp(ct: Value, out: Value, *operands: Value) -> Cotangents:
            if not (dtype.is_floating_point and out.aval.dtype.is_floating_point):
                return ()
            return function._pulled_back(ct, out, operands, path)

        arity = len(function._parameters)
        return elementwise_primitive(self._frozen, arity, dtype, floats, vjp, path)


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a scalar function.

    Raises:
        TypeError: it has not a fixed number of parameters.
    """
    if not inspect.isfunction(function):
        raise TypeError(f"elementwise takes a Python function, not {function!r}{place()}")
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.signature(function)
    parameters = signature.parameters.values()
    if not parameters or any(p.kind not in kinds for p in parameters):
        raise TypeError(
            f"{function.__name__} must have a fixed number of operands, at least one{place()}"
        )
    return signature


def elementwise(function: Callable[..., Any]) -> ScalarFunction:
    """Makes a scalar Python function run on each element of tensors: a decorator.

    Numba compiles it, and it fuses into kernels like a built-in operation.  Its operands broadcast
    and are promoted to one dtype, in which a Python number in it is, too.  The result has that
    dtype, unless it is of another kind: a bool, or an integer made of floats.

    Args:
        function: of one or more numbers; returns a number or a bool.  What it reads besides, its
            globals and closure, must be numbers, tuples of numbers, modules and functions; a change
            of one is noticed at the next call.

    Raises:
        TypeError: it is no function with a fixed number of operands.
    """
    return ScalarFunction(function)
