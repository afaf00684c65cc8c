"""A module's state as a flat dictionary, and loading it back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..grad_mode import no_grad
from ..tensor import Tensor
from .hooks import Hook, RemovableHandle
from .loading import IncompatibleKeys, Loading
from .parameter import Parameter
from .registration import Registry

_EXTRA = "_extra_state"


class StateMap(OrderedDict[str, Any]):
    """Tensors by dotted name, with each module's version in `_metadata`."""

    _metadata: OrderedDict[str, dict[str, Any]]

    def __repr__(self) -> str:
        return f"OrderedDict({list(self.items())})"


class State(Registry):
    """Saving and loading, and the points where a subclass may take part."""

    _version = 1

    # --- saving -------------------------------------------------------------------------------

    def state_dict(
        self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> Any:
        """Parameters and persistent buffers by dotted name, sharing the module's memory.

        Args:
            destination: a mapping to add to, instead of a new one.
            prefix: put before every name.
            keep_vars: give the tensors themselves, not detached from their gradients.
        """
        if destination is None:
            destination = StateMap()
            destination._metadata = OrderedDict()
        local = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = local
        for hook in self._state_dict_pre_hooks.values():
            hook.function(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, child in self._modules.items():
            if child is not None:
                child.state_dict(
                    destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars
                )
        for hook in self._state_dict_hooks.values():
            if hook.function(self, destination, prefix, local) is not None:
                raise RuntimeError("state_dict post-hook must return None")
        return destination

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        for name, tensor in self._own_state().items():
            destination[prefix + name] = tensor if keep_vars else tensor.detach()
        if type(self).get_extra_state is not State.get_extra_state:
            destination[prefix + _EXTRA] = self.get_extra_state()

    def _own_state(self) -> dict[str, Tensor]:
        """This module's parameters and persistent buffers."""
        hidden = self._non_persistent_buffers_set
        buffers = {name: b for name, b in self._buffers.items() if name not in hidden}
        return {n: t for n, t in {**self._parameters, **buffers}.items() if t is not None}

    def get_extra_state(self) -> Any:
        """For subclasses: what else to save (override `set_extra_state` with it)."""
        raise NotImplementedError("a module that saves extra state defines get_extra_state()")

    def set_extra_state(self, state: Any) -> None:
        """For subclasses: takes back what `get_extra_state` gave."""
        raise NotImplementedError("a module that saves extra state defines set_extra_state()")

    # --- loading ------------------------------------------------------------------------------

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copies the tensors of a state dictionary into parameters and buffers of the same names.

        Nothing is written unless all of it fits.

        Args:
            state_dict: what `state_dict()` gave.
            strict: whether every name must be in both.
            assign: take over the given tensors instead of copying their values.

        Raises:
            TypeError: it is no mapping.
            RuntimeError: names or shapes do not match.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        loading = Loading(state_dict, assign)
        loading.load(self, OrderedDict(state_dict))
        messages = list(loading.messages(strict))
        if messages:
            listed = "\n\t".join(messages)
            raise RuntimeError(
                f"Error(s) in loading state_dict for {type(self).__name__}:\n\t{listed}"
            )
        loading.write()
        return IncompatibleKeys(loading.missing, loading.unexpected)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Checks this module's own tensors and schedules their writes; may be overridden."""
        own = self._own_state()
        assign = local_metadata.get("assign_to_params_buffers", False)
        for name, tensor in own.items():
            key = prefix + name
            if key in state_dict:
                self._load_one(
                    name, key, tensor, state_dict[key], assign, local_metadata, error_msgs
                )
            elif strict:
                missing_keys.append(key)
        takes_extra = type(self).set_extra_state is not State.set_extra_state
        extra = prefix + _EXTRA
        if takes_extra and extra in state_dict:
            local_metadata["writes"].append(lambda: self.set_extra_state(state_dict[extra]))
        elif takes_extra and strict:
            missing_keys.append(extra)
        if strict:
            known = {*own, *([_EXTRA] if takes_extra else [])}
            unexpected_keys.extend(self._unexpected(state_dict, prefix, known))

    def _load_one(
        self,
        name: str,
        key: str,
        tensor: Tensor,
        given: Any,
        assign: bool,
        local_metadata: dict[str, Any],
        error_msgs: list[str],
    ) -> None:
        if not isinstance(given, Tensor):
            error_msgs.append(
                f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like '
                f"object from checkpoint but received {type(given)}"
            )
        elif given.shape != tensor.shape:
            error_msgs.append(
                f"size mismatch for {key}: copying a param with shape {given.shape} from "
                f"checkpoint, the shape in current model is {tensor.shape}."
            )
        elif assign:
            local_metadata["writes"].append(lambda: setattr(self, name, _like(tensor, given)))
        else:
            local_metadata["writes"].append(lambda: _copy(tensor, given))

    def _unexpected(
        self, state_dict: Mapping[str, Any], prefix: str, own: set[str]
    ) -> Iterator[str]:
        for key in state_dict:
            if key.startswith(prefix):
                head, *rest = key[len(prefix) :].split(".", 1)
                if head not in (self._modules if rest else own):
                    yield key

    # --- hooks --------------------------------------------------------------------------------

    def register_state_dict_pre_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls `hook(module, prefix, keep_vars)` before this module's state is collected."""
        return self._state_dict_pre_hooks.add(Hook(hook))

    def register_state_dict_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls `hook(module, state_dict, prefix, local_metadata)` after this module was saved."""
        return self._state_dict_hooks.add(Hook(hook))

    def register_load_state_dict_pre_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls `hook` before this module is loaded.

        Its arguments are module, state_dict, prefix, local_metadata, strict, and the lists of
        missing keys, unexpected keys and errors.
        """
        return self._load_state_dict_pre_hooks.add(Hook(hook))

    def register_load_state_dict_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls `hook(module, incompatible_keys)` after this module; it may change the lists."""
        return self._load_state_dict_post_hooks.add(Hook(hook))


def _copy(tensor: Tensor, given: Tensor) -> None:
    with no_grad():
        tensor.copy_(given)


def _like(tensor: Tensor, given: Tensor) -> Tensor:
    """`given`, as a parameter if `tensor` is one."""
    if not isinstance(tensor, Parameter):
        return given
    if isinstance(given, Parameter):
        return given.requires_grad_(tensor.requires_grad)
    return Parameter(given, tensor.requires_grad)
