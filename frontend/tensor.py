"""`Tensor`: what users hold.

Operations are functions; this class gives them PyTorch's methods and operators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..compiler import dtypes
from ..compiler.dtypes import DType
from . import autograd
from .announce import announce
from .arguments import as_dtype
from .context import current
from .core import (
    Array,
    TensorBase,
    from_array,
    make_tensor,
    shape_of,
    structure_changed,
    tensor_type,
)
from .defaults import default_float
from .device import CPU, Device
from .errors import UntraceableError
from .frames import place
from .functions.conversion import row_major
from .grad_fn import GradFn
from .methods import Methods
from .printing import format_scalar, format_tensor
from .tape import renew_view


def wanted_dtype(args: tuple[Any, ...], kwargs: dict[str, Any]) -> DType | None:
    """What the arguments of a `to` ask for, if it is a dtype.

    Raises:
        TypeError: one is nothing that `to` takes.
        RuntimeError: one names a device that is not the CPU.
    """
    dtype = as_dtype("to", kwargs.get("dtype"))
    for arg in (*args, kwargs.get("device")):
        if isinstance(arg, TensorBase):
            dtype = arg.dtype
        elif isinstance(arg, (DType, type)):
            dtype = as_dtype("to", arg)
        elif arg is not None and not isinstance(arg, bool):
            Device(arg)
    return dtype


class Tensor(Methods):
    """An n-dimensional array of one dtype, with its gradient.

    Tensors are made by functions (`taut.tensor`, `taut.zeros`, ...).  Views share memory with their
    base.
    """

    # --- what it is -------------------------------------------------------------------------------

    @property
    def device(self) -> Device:
        """Where its memory is: always the CPU."""
        return CPU

    @property
    def is_leaf(self) -> bool:
        """Whether no taped operation computed it."""
        return not self.requires_grad or self.entry is None

    @property
    def grad_fn(self) -> GradFn | None:
        """The operation that computed it, for people."""
        return GradFn(self.entry) if self.requires_grad and self.entry is not None else None

    @property
    def data(self) -> Tensor:
        """The same memory without history."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, TensorBase):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        if (
            value.dtype is not self.dtype
            and self._requires_grad
            and not value.dtype.is_floating_point
        ):
            raise RuntimeError(
                "data set to a tensor that requires gradients must be floating point"
            )
        if value.storage is not self.storage or value.steps != self.steps:
            announce("a tensor's .data")
        self.storage, self.array, self.traced_aval = value.storage, value.array, value.traced_aval
        self.steps, self.base = value.steps, value.base

    @property
    def T(self) -> Tensor:  # noqa: N802  # PyTorch's name
        """Dimensions in reverse order, as a view."""
        return self.permute(*reversed(range(self.ndim)))

    @property
    def mT(self) -> Tensor:  # noqa: N802  # PyTorch's name
        """The last two dimensions swapped, as a view."""
        return self.transpose(-2, -1)

    def dim(self) -> int:
        """Number of dimensions."""
        return self.ndim

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        """Number of elements."""
        return self.shape.numel()

    nelement = numel

    def element_size(self) -> int:
        """Bytes an element."""
        return self.dtype.itemsize

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.numel() * self.dtype.itemsize

    def stride(self, dim: int | None = None) -> Any:
        """Elements between neighbours along each dimension."""
        strides = tuple(s // self.itemsize for s in self._memory("stride()").strides)
        return strides if dim is None else strides[dim]

    def is_contiguous(self) -> bool:
        """Whether elements lie in row-major order without gaps."""
        return self.array is None or bool(self.array.flags.c_contiguous)

    def contiguous(self) -> Tensor:
        """Itself if contiguous, else a copy that is."""
        return self if self.is_contiguous() else row_major(self)

    def data_ptr(self) -> int:
        """Address of the first element."""
        array = self._memory("data_ptr()")
        return int(array.__array_interface__["data"][0])

    def is_floating_point(self) -> bool:
        """Whether its elements are floats."""
        return self.dtype.is_floating_point

    # --- gradients --------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether operations on it are taped."""
        if self.base is not None and self.base.history != self.history:
            renew_view(self)
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise RuntimeError("requires_grad must be a bool")
        if value and not self.dtype.is_floating_point:
            raise RuntimeError("only Tensors of floating point dtype can require gradients")
        if not value and self.entry is not None:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a "
                "computed variable in a subgraph that doesn't require differentiation use "
                "var_no_grad = var.detach()."
            )
        self._changing()
        self._requires_grad = bool(value)
        structure_changed()

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Asks for a gradient, or no more; returns itself."""
        if not isinstance(requires_grad, bool):
            raise TypeError(
                "requires_grad_(): argument 'requires_grad' (position 1) must be bool, not "
                f"{type(requires_grad).__name__}"
            )
        self.requires_grad = requires_grad
        return self

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward()` accumulated, or None."""
        trace = current().trace
        if trace is not None:
            return trace.grad_of(self)
        known: Tensor | None = self._grad
        if known is not None and known.owner is not None:
            known.owner.release(known)
        return known

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            self._require_fitting_grad(value)
        trace = current().trace
        if trace is not None:
            trace.grads[self] = value
        elif value is not self._grad:
            self._grad = value
            structure_changed()

    @grad.deleter
    def grad(self) -> None:
        self.grad = None

    def _require_fitting_grad(self, value: Tensor) -> None:
        if not isinstance(value, TensorBase):
            raise TypeError(
                f"assigned grad expected to be a Tensor or None but got grad of type {type(value)}"
            )
        if shape_of(value) != shape_of(self):
            raise RuntimeError(
                f"assigned grad has data of a different size: {list(value.shape)} for a tensor of "
                f"size {list(self.shape)}"
            )
        if value.dtype is not self.dtype:
            raise RuntimeError(
                f"assigned grad has data of a different type: {value.dtype} for a tensor of type "
                f"{self.dtype}"
            )

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        """Adds the gradient of this tensor to the `.grad` of every leaf that it depends on."""
        autograd.backward(self, gradient, retain_graph, create_graph, inputs)

    @property
    def _version(self) -> int:
        """Number of writes in place to its memory."""
        return self.storage.writes()

    def detach(self) -> Tensor:
        """The same memory without history."""
        made = make_tensor(self.storage, self.array, self.traced_aval, self.steps)
        trace = current().trace
        if trace is not None:
            trace.detached(self, made)
        return made

    def detach_(self) -> Tensor:
        """Forgets its history and needs no gradient any more; returns itself."""
        self._changing()
        self.entry, self._requires_grad = None, False
        return self

    def _changing(self) -> None:
        """Tells a trace that history or the flag changes."""
        trace = current().trace
        if trace is not None:
            trace.outside.changing(self)

    # --- values out -------------------------------------------------------------------------------

    def _memory(self, what: str) -> Array:
        if self.array is None or current().trace is not None:
            raise UntraceableError(
                f"{what} needs the values of a tensor, which are not known while tracing{place()}; "
                "return the tensor from the compiled function and read it outside"
            )
        return self.array

    def item(self) -> Any:
        """The only element, as a Python number."""
        array = self._memory("item()")
        if array.size != 1:
            raise RuntimeError(f"a Tensor with {array.size} elements cannot be converted to Scalar")
        return array.item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self._memory("tolist()").tolist()

    def numpy(self, *, force: bool = False) -> Array:
        """The memory as a NumPy array, shared.

        Raises:
            RuntimeError: the tensor needs a gradient and `force` is not set.
        """
        if self._requires_grad and not force:
            raise RuntimeError(
                "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() "
                "instead."
            )
        return self._memory("numpy()")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array = self.numpy()
        if dtype is not None and array.dtype != np.dtype(dtype):
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.numpy().__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # DLPack's code for the CPU

    def __bool__(self) -> bool:
        array = self._memory("bool()")
        if array.size != 1:
            raise RuntimeError(
                "Boolean value of Tensor with "
                f"{'no values' if not array.size else 'more than one value'} is ambiguous"
            )
        return bool(array.item())

    def __float__(self) -> float:
        return float(self._scalar())

    def __int__(self) -> int:
        return int(self._scalar())

    def _scalar(self) -> Any:
        """The only element, as Python's conversions ask for it."""
        if self.numel() != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        return self.item()

    def __index__(self) -> int:
        if self.dtype.is_floating_point:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        size: int = self.shape[0].__index__()
        return size

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __reversed__(self) -> Tensor:
        return self.flip(0) if self.ndim else self

    def __complex__(self) -> complex:
        return complex(self._scalar())

    def __contains__(self, element: Any) -> bool:
        return bool((self == element).any())

    __hash__ = object.__hash__

    # --- conversion -------------------------------------------------------------------------------

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """Itself, or a copy in another dtype: `to(dtype)`, `to("cpu")`, `to(other)`."""
        dtype = wanted_dtype(args, kwargs)
        if dtype is None or dtype is self.dtype:
            return self.clone() if kwargs.get("copy") else self
        return self.cast(dtype)

    def cpu(self) -> Tensor:
        """Itself: all memory is the CPU's."""
        return self

    def float(self) -> Tensor:
        """Itself, or a copy in float32."""
        return self.to(dtypes.f32)

    def double(self) -> Tensor:
        """Itself, or a copy in float64."""
        return self.to(dtypes.f64)

    def half(self) -> Tensor:
        """Itself, or a copy in float16."""
        return self.to(dtypes.f16)

    def long(self) -> Tensor:
        """Itself, or a copy in int64."""
        return self.to(dtypes.i64)

    def int(self) -> Tensor:
        """Itself, or a copy in int32."""
        return self.to(dtypes.i32)

    def bool(self) -> Tensor:
        """Itself, or a copy in bool."""
        return self.to(dtypes.boolean)

    def type_as(self, other: Tensor) -> Tensor:
        """Itself, or a copy in the dtype of `other`."""
        if not isinstance(other, TensorBase):
            raise TypeError(
                "type_as(): argument 'other' (position 1) must be Tensor, not "
                f"{type(other).__name__}"
            )
        return self.to(other.dtype)

    # --- printing and copying ---------------------------------------------------------------------

    def __repr__(self) -> str:
        if self.array is None:
            return f"<traced tensor {self.aval}>"
        return format_tensor(
            self.array,
            dtype=self.dtype,
            requires_grad=self.requires_grad,
            grad_fn=None if self.entry is None else GradFn(self.entry).label,
            is_parameter=self._is_parameter,
            default_float=default_float(),
        )

    _is_parameter = False

    def __format__(self, spec: str) -> str:
        return format_scalar(self, self._memory("format()"), spec, is_parameter=self._is_parameter)

    def __deepcopy__(self, memo: dict[Any, Any]) -> Tensor:
        if self.entry is not None:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy "
                "protocol"
            )
        copied = from_array(self._memory("deepcopy").copy())
        copied.__class__ = type(self)
        copied._requires_grad = self._requires_grad
        memo[id(self)] = copied
        if self._grad is not None:
            copied._grad = self._grad.__deepcopy__(memo)
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        array = np.ascontiguousarray(self._memory("pickle"))
        return _rebuild, (type(self), array, self._requires_grad)


tensor_type.type = Tensor


def _rebuild(cls: type[Tensor], array: Array, requires_grad: bool) -> Tensor:
    made = from_array(array)
    made.__class__ = cls
    made._requires_grad = requires_grad
    return made
