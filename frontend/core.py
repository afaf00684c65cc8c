"""The core of a tensor: its memory, its place in that memory, and its gradient's history.

A `Storage` owns memory and counts the writes to it; a tensor is a view of one.  While tracing, a
tensor may have no memory at all: then its storage's current value is a value of the graph being
recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..compiler import dtypes
from ..compiler.aval import Aval, Dim
from ..compiler.dtypes import DType
from ..compiler.ir import Value
from ..compiler.primitive import Primitive
from .context import epoch
from .symint import asked

if TYPE_CHECKING:
    from .tensor import Tensor

Array: TypeAlias = npt.NDArray[Any]
Payload: TypeAlias = "Array | Value"
ViewStep: TypeAlias = "tuple[Primitive, dict[str, Any]]"


class Size(tuple[Any, ...]):
    """A shape, printed as PyTorch prints it: `torch.Size([2, 3])`."""

    __slots__ = ()

    def numel(self) -> int:
        """Number of elements."""
        total = 1
        for size in self:
            total *= size
        return total

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"


class CallCounter:
    """Counts the calls of a compiled program."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


def address_of(array: Array) -> int:
    """Address of an array's first element."""
    address: int = array.__array_interface__["data"][0]
    return address


class Storage:
    """Memory that tensors view.

    Attributes:
        array: the memory, as the array of the tensor that it was made for; None while it exists in
            a trace only.
        aval: type of the whole.
        version: number of writes in place by eager operations.
        programs: call counters of the compiled programs that write to it, which count as writes
            too.
        parent: the memory that this one is part of, where a result shares its operand's.
    """

    traced_aval: Aval | None = None
    version: int = 0
    programs: tuple[CallCounter, ...] = ()
    parent: Storage | None = None
    _address: int = 0

    def __init__(self, array: Array | None, traced_aval: Aval | None = None) -> None:
        self.array = array
        if traced_aval is not None:
            self.traced_aval = traced_aval

    def writes(self) -> int:
        """Number of writes in place so far."""
        total = self.version + sum([p.count for p in self.programs])
        return total if self.parent is None else total + self.parent.writes()

    @property
    def address(self) -> int:
        """Address of the memory; it does not change while the storage lives."""
        if not self._address:
            assert self.array is not None
            self._address = address_of(self.array)
        return self._address

    @property
    def aval(self) -> Aval:
        """Type of the whole."""
        if self.array is None:
            assert self.traced_aval is not None
            return self.traced_aval
        return Aval(dtypes.from_numpy(self.array.dtype), self.array.shape)


class TensorBase:
    """What every tensor has; operations and methods are added by `Tensor`.

    Attributes:
        storage: the memory that this tensor views.
        array: the view itself, or None while it exists in a trace only.
        traced_aval: its type in that case.
        steps: the movement primitives that lead from the whole storage to this view.
        base: the tensor that this one is a view of, if any.
        history: the state of the base's history that `entry` continues (see `autograd.entry_of`).
        entry: the tape entry that computed it, or None for a leaf.
        index: which result of the entry it is.
        closed: whether it was a variable of a function in `taut.func` that has returned: it wants
            no gradient of those who do not ask for it.
    """

    storage: Storage
    array: Array | None
    traced_aval: Aval | None = None
    steps: tuple[ViewStep, ...] = ()
    base: Tensor | None = None
    history: int = 0
    entry: Any = None
    index: int = 0
    owner: Any = None
    closed: bool = False
    _requires_grad: bool = False
    _grad: Any = None

    @property
    def aval(self) -> Aval:
        """Its type."""
        if self.array is None:
            assert self.traced_aval is not None
            return self.traced_aval
        return Aval(dtypes.from_numpy(self.array.dtype), self.array.shape)

    @property
    def dtype(self) -> DType:
        """Type of its elements."""
        if self.array is None:
            assert self.traced_aval is not None
            return self.traced_aval.dtype
        return dtypes.from_numpy(self.array.dtype)

    @property
    def shape(self) -> Size:
        """Its sizes."""
        shape = shape_of(self)
        return Size(shape) if self.array is not None else Size(map(asked, shape))

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(shape_of(self))


def shape_of(tensor: TensorBase) -> tuple[Dim, ...]:
    """The shape as a plain tuple; named sizes are compared by their form (see `asked`)."""
    if tensor.array is not None:
        return tensor.array.shape
    assert tensor.traced_aval is not None
    return tensor.traced_aval.shape


class _TensorType:
    """Where `Tensor`, which is built on this module, announces itself."""

    type: type[Tensor]


tensor_type = _TensorType()
_new = object.__new__


def make_tensor(
    storage: Storage,
    array: Array | None,
    traced_aval: Aval | None = None,
    steps: tuple[ViewStep, ...] = (),
    base: Tensor | None = None,
) -> Tensor:
    """A tensor over a storage, without history."""
    tensor = _new(tensor_type.type)
    tensor.storage, tensor.array = storage, array
    if traced_aval is not None:
        tensor.traced_aval = traced_aval
    if steps:
        tensor.steps, tensor.base = steps, base
    return tensor


def from_array(array: Any) -> Tensor:
    """A tensor on an array's own memory (zero-copy), of the array's dtype."""
    if type(array) is not np.ndarray:
        array = np.asarray(array)
    tensor, storage = _new(tensor_type.type), _new(Storage)
    storage.array = tensor.array = array
    tensor.storage = storage
    return tensor


def structure_changed() -> None:
    """Tells compiled functions that the tensors they found may have been exchanged."""
    epoch.bump()
