"""Functions that users wrote, as primitives of the compiler.

Numba, which compiles them, is imported when the first is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..compiler.aval import Aval, symbol
from ..compiler.dtypes import DType
from ..compiler.ir import Graph
from ..compiler.primitive import Cotangents, ElementwiseFunction, Primitive
from ..compiler.primitives.create import graph_input
from ..compiler.primitives.user import elementwise_function
from .frozen import FrozenFunction

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class ScalarCode:
    """A compiled scalar function.

    Attributes:
        symbol: its name, which depends on its code.
        module: LLVM text that defines it.
        externs: what the module needs.
        dtype, result: of its operands and its result, as they are computed.
        jitted: for Numba to call.
        plain: for Python to call.
    """

    symbol: str
    module: str
    externs: tuple[str, ...]
    dtype: DType
    result: DType
    jitted: Callable[..., Any]
    plain: Callable[..., Any]


_known: dict[str, ScalarCode] = {}


def known_code(name: str) -> ScalarCode | None:
    """The user's function that generated code calls by this name, if it is one."""
    return _known.get(name)


def elementwise_primitive(
    function: FrozenFunction,
    arity: int,
    dtype: DType,
    floats: DType,
    vjp: Callable[..., Cotangents],
    path: Sequence[int] | None = None,
) -> Primitive:
    """The primitive that applies a scalar function to each element; see `scalar_code`.

    Raises:
        CompileError: Numba cannot compile the function, or it is not one of numbers.
    """
    from .scalar_code import scalar_code

    code = scalar_code(function, arity, dtype, floats, path)
    code = _known.setdefault(code.symbol, code)
    result = dtype if code.result is code.dtype else code.result
    reference = _Reference(code, arity, dtype)
    made = elementwise_function(
        function.name, arity, dtype, result, _lowering(code, arity, dtype), reference, vjp
    )
    reference.primitive = made
    return made


def _lowering(code: ScalarCode, arity: int, dtype: DType) -> ElementwiseFunction:
    convert = "{{{}}}" if dtype is code.dtype else f"np.{code.dtype.long_name}({{{{{{}}}}}})"
    operands = ", ".join(convert.format(i) for i in range(arity))
    python = f"{{t}}({code.symbol}({operands}))"
    return ElementwiseFunction(
        python, {}, code.symbol, code.module, code.externs, code.dtype, code.result
    )


class _Reference:
    """What the function means on arrays: a program of its own, of any size."""

    primitive: Primitive

    def __init__(self, code: ScalarCode, arity: int, dtype: DType) -> None:
        self._code, self._arity, self._dtype = code, arity, dtype

    def __call__(self, *operands: Any) -> Array:
        arrays = [np.asarray(o, self._dtype.numpy) for o in operands]
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        flat = [np.broadcast_to(a, shape).reshape(-1) for a in arrays]
        (result,) = self._program(flat)
        return result.reshape(shape)

    @cached_property
    def _program(self) -> Callable[[Sequence[Array]], list[Array]]:
        from .compile import compile_graph
        from .options import default_options

        avals = [Aval(self._dtype, (symbol("N"),))] * self._arity
        inputs = tuple(graph_input(i, aval) for i, aval in enumerate(avals))
        graph = Graph(self.primitive.label, inputs, (self.primitive(*inputs),))
        options = default_options().replace(backend="llvm", kernels="compiled")
        return compile_graph(graph, options)
