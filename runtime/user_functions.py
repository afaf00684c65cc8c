"""Functions that users wrote, as primitives of the compiler.

Numba, which compiles them, is imported when one is used that the disk cache does not have.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from ..compiler.aval import Aval, symbol
from ..compiler.dtypes import DType, from_name
from ..compiler.ir import Graph
from ..compiler.primitive import CallFunction, Cotangents, ElementwiseFunction, Primitive
from ..compiler.primitives.create import graph_input
from ..compiler.primitives.user import array_function, elementwise_function
from .frozen import FrozenFunction
from .keys import Key, program_key

Array = npt.NDArray[Any]


class ScalarCode:
    """A compiled scalar function.

    Attributes:
        symbol: its name, which depends on its code.
        module: LLVM text that defines it.
        externs: what the module needs.
        dtype, result: of its operands and its result, as they are computed.
    """

    def __init__(
        self,
        symbol: str,
        module: str,
        externs: tuple[str, ...],
        dtype: DType,
        result: DType,
        make: Callable[[], tuple[Callable[..., Any], Callable[..., Any]]],
    ) -> None:
        self.symbol, self.module, self.externs = symbol, module, externs
        self.dtype, self.result, self._make = dtype, result, make

    @cached_property
    def _made(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        return self._make()

    @property
    def jitted(self) -> Callable[..., Any]:
        """The function for Numba to call."""
        return self._made[0]

    @property
    def plain(self) -> Callable[..., Any]:
        """The function for Python to call."""
        return self._made[1]


@dataclass(frozen=True, eq=False)
class ArrayCode:
    """A compiled function of arrays.

    Attributes:
        symbol: its name, which depends on its code and types.
        address: where it is.
        counts: how many addresses and how many sizes it takes.
        ranks: how many dimensions each operand and result has.
        jitted: for Python to call.
        keep: what must live as long as the function.
    """

    symbol: str
    address: int
    counts: tuple[int, int]
    ranks: tuple[int, ...]
    jitted: Callable[..., Any]
    keep: Any


_known: dict[str, ScalarCode] = {}
_known_arrays: dict[str, ArrayCode] = {}


def known_code(name: str) -> ScalarCode | None:
    """The user's function that generated code calls by this name, if it is one."""
    return _known.get(name)


def known_array_code(name: str) -> ArrayCode | None:
    """The user's function of arrays that generated code calls by this name, if it is one."""
    return _known_arrays.get(name)


def array_primitive(
    function: FrozenFunction,
    operands: Sequence[Aval],
    results: Sequence[Aval],
    several: bool,
    vjp: Callable[..., Cotangents],
) -> Primitive:
    """The primitive that calls a function of arrays; see `array_code`.

    Raises:
        CompileError: Numba cannot compile the function for these types.
    """
    from .array_code import array_code

    code = array_code(function, operands, results, several)
    code = _known_arrays.setdefault(code.symbol, code)

    def reference(*arrays: Array, dtypes: Sequence[DType], shapes: Sequence[Any]) -> Any:
        del dtypes
        given = [np.array(a, order="C") for a in arrays]  # its own: it may write there
        returned = code.jitted(*given)
        found = returned if several else (returned,)
        outputs = [np.asarray(r, a.dtype.numpy) for r, a in zip(found, results, strict=True)]
        return (*outputs, np.array([o.shape for o in outputs] == [*map(tuple, shapes)]))

    lowering = CallFunction(code.symbol, code.ranks)
    return array_function(function.name, tuple(operands), lowering, reference, vjp)


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
    code = _code(function, arity, dtype, floats, path)
    code = _known.setdefault(code.symbol, code)
    result = dtype if code.result is code.dtype else code.result
    reference = _Reference(code, arity, dtype)
    lowering = _lowering(function, code, arity, dtype)
    made = elementwise_function(function.name, arity, dtype, result, lowering, reference, vjp)
    reference.primitive = made
    return made


def _code(
    function: FrozenFunction, arity: int, dtype: DType, floats: DType, path: Sequence[int] | None
) -> ScalarCode:
    """The compiled function, from the disk cache if it is there: then Numba is not even imported.

    The key holds all that the function is, as `FrozenFunction` knows it.
    """
    from .cache import cache_of
    from .options import default_options

    def compiled() -> ScalarCode:
        from .scalar_code import scalar_code

        return scalar_code(function, arity, dtype, floats, path)

    disk = cache_of(default_options())
    if disk is None:
        return compiled()
    parts = (function.digest, arity, dtype.name, floats.name, path, version("numba"))
    key = _key(function.name, json.dumps(parts))
    kept = _read(disk.get(key.digest), compiled)
    if kept is None:
        kept = compiled()
        disk.put(key.digest, _payload(kept), key.about)
    return kept


def _key(name: str, text: str) -> Key:
    from .host import host_target
    from .options import default_options

    digest = hashlib.sha256(text.encode()).hexdigest()
    return program_key(digest, default_options(), host_target(), name=name)


def _payload(code: ScalarCode) -> bytes:
    fields = code.symbol, code.module, code.externs, code.dtype.name, code.result.name
    return json.dumps(fields).encode()


def _read(payload: bytes | None, compiled: Callable[[], ScalarCode]) -> ScalarCode | None:
    """What `_payload` wrote; None for anything else."""
    try:
        symbol, module, externs, dtype, result = json.loads(payload or b"null")
        dtypes = from_name(dtype), from_name(result)
    except (ValueError, TypeError, KeyError):
        return None

    def make() -> tuple[Any, Any]:
        fresh = compiled()
        return fresh.jitted, fresh.plain

    return ScalarCode(symbol, module, tuple(externs), *dtypes, make)


def _lowering(
    function: FrozenFunction, code: ScalarCode, arity: int, dtype: DType
) -> ElementwiseFunction:
    convert = "{{{}}}" if dtype is code.dtype else f"np.{code.dtype.long_name}({{{{{{}}}}}})"
    operands = ", ".join(convert.format(i) for i in range(arity))
    python = f"{{t}}({code.symbol}({operands}))"
    module = f"; {function.name}, {function.origin}\n{code.module}"
    return ElementwiseFunction(
        python, {}, code.symbol, module, code.externs, code.dtype, code.result
    )


class _Reference:
    """What the function means on arrays: a program of its own, of any size."""

    primitive: Primitive

    def __init__(self, code: ScalarCode, arity: int, dtype: DType) -> None:
        self._code, self._arity, self._dtype = code, arity, dtype

    def __call__(self, *operands: Any) -> Array:
        arrays = [np.asarray(o, self._dtype.numpy) for o in operands]
        if len({a.shape for a in arrays}) > 1:
            arrays = list(np.broadcast_arrays(*arrays))
        shape = arrays[0].shape
        flat = [a.reshape(-1) for a in arrays]
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
