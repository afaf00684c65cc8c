"""Walking a tree of modules: its members by name, and changes made to all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ...compiler import dtypes
from ...compiler.dtypes import DType
from ..context import current
from ..core import structure_changed
from ..grad_mode import no_grad
from ..tensor import Tensor, wanted_dtype
from .parameter import Parameter
from .registration import Registry

if TYPE_CHECKING:
    from .module import Module

T = TypeVar("T")


class Traversal(Registry):
    """Everything that reaches through the whole tree."""

    # --- members ------------------------------------------------------------------------------

    def named_modules(
        self, memo: set[Any] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, each with its dotted name, parents first."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        trace = current().trace
        if trace is not None:
            self._note(trace)
        yield prefix, self  # type: ignore[misc]  # a Traversal is a Module
        for name, child in self._modules.items():
            if child is not None:
                yield from child.named_modules(memo, _joined(prefix, name), remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules(remove_duplicate=remove_duplicate))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below, each once, with their names."""
        seen: set[Module] = set()
        for name, child in self._modules.items():
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def children(self) -> Iterator[Module]:
        """The modules directly below, each once."""
        return (module for _, module in self.named_children())

    def _named_members(
        self,
        members: Callable[[Module], Iterable[tuple[str, T | None]]],
        prefix: str,
        recurse: bool,
        remove_duplicate: bool,
    ) -> Iterator[tuple[str, T]]:
        here: Any = [(prefix, self)]
        seen: set[T] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
        for path, module in modules if recurse else here:
            for name, member in members(module):
                if member is None or member in seen:
                    continue
                if remove_duplicate:
                    seen.add(member)
                yield _joined(path, name), member

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names; a shared one comes once."""
        return self._named_members(
            lambda module: module._parameters.items(), prefix, recurse, remove_duplicate
        )

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once: what an optimizer is given."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """All buffers with their dotted names; a shared one comes once."""
        return self._named_members(
            lambda module: module._buffers.items(), prefix, recurse, remove_duplicate
        )

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    # --- by dotted name -----------------------------------------------------------------------

    def get_submodule(self, target: str) -> Module:
        """The module with this dotted name; the empty one is this module.

        Raises:
            AttributeError: there is none, or it is no module.
        """
        found: Any = self
        for name in target.split(".") if target else ():
            found = _attribute(found, name)
            if not isinstance(found, Traversal):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return found  # type: ignore[no-any-return]  # checked along the way

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with this dotted name; AttributeError if there is none."""
        path, _, name = target.rpartition(".")
        found = _attribute(self.get_submodule(path), name)
        if not isinstance(found, Parameter):
            raise AttributeError(f"`{name}` is not an nn.Parameter")
        return found

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with this dotted name; AttributeError if there is none."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        found: Tensor = _attribute(module, name)
        if name not in module._buffers:
            raise AttributeError(f"`{name}` is not a buffer")
        return found

    # --- changes ------------------------------------------------------------------------------

    def apply(self, fn: Callable[[Module], None]) -> Self:
        """Calls `fn` on every module below, then on this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)  # type: ignore[arg-type]  # a Traversal is a Module
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Puts `fn` of its data into every parameter, gradient and buffer."""
        if recurse:
            for child in self.children():
                child._apply(fn)
        for parameter in self._parameters.values():
            if parameter is not None:
                _apply_to_parameter(parameter, fn)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        structure_changed()
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Converts floating parameters and buffers: `to(dtype)`, `to("cpu")`, `to(tensor)`.

        Raises:
            TypeError: the dtype is not floating.
        """
        dtype = wanted_dtype(args, kwargs)
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(
                "nn.Module.to only accepts floating point or complex dtypes, but got desired "
                f"dtype={dtype}"
            )
        return self if dtype is None else self._apply(lambda t: _to_float(t, dtype))

    def cpu(self) -> Self:
        return self

    def type(self, dst_type: DType) -> Self:
        """Converts all parameters and buffers."""
        return self._apply(lambda t: t.to(dst_type))

    def float(self) -> Self:
        """Converts floating parameters and buffers to float32."""
        return self.to(dtypes.f32)

    def double(self) -> Self:
        """Converts floating parameters and buffers to float64."""
        return self.to(dtypes.f64)

    def half(self) -> Self:
        """Converts floating parameters and buffers to float16."""
        return self.to(dtypes.f16)

    def train(self, mode: bool = True) -> Self:
        """Sets `training` here and everywhere below."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self) -> Self:
        """`train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Sets `requires_grad` of every parameter."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets every parameter's gradient, or fills it with zeros."""
        zero_grads(self.parameters(), set_to_none)


def zero_grads(tensors: Iterable[Tensor], set_to_none: bool) -> None:
    """Forgets the gradients of tensors, or fills them with zeros."""
    for tensor in tensors:
        if set_to_none:  # without a look at it, so that a trace does not depend on what was there
            tensor.grad = None
        elif (grad := tensor.grad) is not None:
            with no_grad():
                grad.detach_().zero_()


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _attribute(module: Any, name: str) -> Any:
    if not hasattr(module, name):
        raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
    return getattr(module, name)


def _to_float(tensor: Tensor, dtype: DType) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _apply_to_parameter(parameter: Parameter, fn: Callable[[Tensor], Tensor]) -> None:
    grad = parameter.grad
    with no_grad():
        parameter.data = fn(parameter.data)
        if grad is not None:
            grad.data = fn(grad.data)
