"""The base class of optimizers: parameter groups, state, and saving both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import wraps
from typing import Any

import numpy as np

from ..context import current
from ..core import structure_changed
from ..frames import is_own
from ..grad_mode import enable_grad, no_grad
from ..nn.hooks import Hook, Hooks, RemovableHandle
from ..nn.registration import typename
from ..nn.traversal import zero_grads
from ..tensor import Tensor
from ..watch.events import unwatched
from .groups import Group, described, require_new, unpacked
from .saving import packed, taken_over
from .watched import Seen, StateByTensor, Watched, WatchedList

__all__ = ["Optimizer"]


class Optimizer:
    """Base class: holds what is trained and how.

    A subclass passes its hyperparameters' defaults on and defines `_update(group)`, or `step` as a
    whole.

    Args:
        params: tensors, pairs of names and tensors (`net.named_parameters()`), or dictionaries with
            `"params"` and the hyperparameters that differ from the defaults.
        defaults: hyperparameters of groups that do not say otherwise.

    Attributes:
        param_groups: dictionaries of hyperparameters and `"params"`.
        state: what the update rule remembers of each tensor.

    Raises:
        TypeError: `params` is a tensor, or holds something that is none.
        ValueError: it is empty, or a tensor in it is no leaf or comes twice.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, "
                f"but got {typename(params)}"
            )
        self._make_hooks()
        self.defaults = defaults
        self.state = StateByTensor()
        self.param_groups: list[dict[str, Any]] = WatchedList()
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.__dict__["step"])  # type: ignore[method-assign]  # the same, between its hooks

    def __setattr__(self, name: str, value: Any) -> None:
        structure_changed()
        object.__setattr__(self, name, value)

    def _make_hooks(self) -> None:
        self._step_pre_hooks = Hooks()
        self._step_post_hooks = Hooks()
        self._fresh: dict[Any, Any] = Watched()
        self._opt_called = False
        self._seen = Seen(self._groups_now), Seen(self._state_now, self._remembered)

    # --- what is trained ----------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds tensors to train, with hyperparameters of their own.

        Args:
            param_group: `"params"`, and the hyperparameters that differ from the defaults.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        group = Group(param_group)
        group.update(unpacked(group["params"]))
        group["params"] = WatchedList(group["params"])
        for name, default in self.defaults.items():
            group.setdefault(name, default)
        require_new(group, self.param_groups)
        self.param_groups.append(group)

    def _with_grads(self, group: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor]]:
        """The tensors of a group that have a gradient, each with it."""
        for tensor in group["params"]:
            grad = tensor.grad
            if grad is not None:
                yield tensor, grad

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets all gradients, or fills them with zeros."""
        self._note(self._seen[0])
        for group in self.param_groups:
            zero_grads(group["params"], set_to_none)

    # --- stepping -----------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every tensor that has a gradient.

        Args:
            closure: recomputes the loss and its gradients first; its result is returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad(), np.errstate(all="ignore"):
            own = is_own(type(self)._update.__code__)
            with unwatched() if own else nullcontext():
                for group in self.param_groups:
                    self._update(group)
            self._note(*self._seen)
        return loss

    def _update(self, group: dict[str, Any]) -> None:
        """The update rule, for one group."""
        raise NotImplementedError

    # --- what a trace reads of it -------------------------------------------------------------

    def _note(self, *seen: Seen) -> None:
        """Lets a trace remember what it read, so that an exchange of it is noticed."""
        trace = current().trace
        if trace is not None:
            for part in seen:
                trace.note_module(part)

    def _read_by_value(self) -> None:
        """A `step` of the user's own reads numbers as they are, so that a trace holds them fast."""
        for group in self.param_groups:
            group.by_value = True  # type: ignore[attr-defined]  # they are Groups

    def _groups_now(self) -> dict[str, Any]:
        """What the groups train, and which operations that takes."""
        return {str(number): described(group) for number, group in enumerate(self.param_groups)}

    def _state_now(self) -> dict[str, Any]:
        """What is remembered of each tensor, by its position in the state."""
        return {str(n): values for n, values in enumerate(self.state.values())}

    def _remembered(self) -> dict[Any, dict[str, Any]]:
        """What is remembered of each tensor, by name."""
        fresh = {tensor: {"fresh": value} for tensor, value in self._fresh.items()}
        return {t: {**values, **fresh.get(t, {})} for t, values in self.state.items()}

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Calls `hook(optimizer, args, kwargs)` before each step; it may return another pair."""
        return self._step_pre_hooks.add(Hook(hook))

    def register_step_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls `hook(optimizer, args, kwargs)` after each step."""
        return self._step_post_hooks.add(Hook(hook))

    # --- saving -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """`{"state": ..., "param_groups": ...}`, with numbers in place of the tensors to train."""
        return packed(self.param_groups, self.state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict()` gave: copies, in the dtypes of what is trained.

        Raises:
            ValueError: the groups differ in number or size.
        """
        state = taken_over(self.param_groups, state_dict)
        self.__setstate__({"state": state})

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_step_pre_hooks" not in self.__dict__:
            self._make_hooks()
        self._fresh.clear()
        self.__dict__.update(state)
        structure_changed()

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            lines.extend(["", f"Parameter Group {number}"][number == 0 :])
            lines.extend(f"    {key}: {group[key]}" for key in sorted(group) if key != "params")
        return "\n".join([*lines, ")"])


def _with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """A subclass's `step` between the hooks, and remembered by a trace."""

    @wraps(step)
    def method(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if not self._opt_called:
            self._opt_called = True
        for hook in tuple(self._step_pre_hooks.values()):
            args, kwargs = _arguments(step, hook.function(self, args, kwargs), args, kwargs)
        own = current().trace is not None and type(self).step is not Optimizer.step
        if own:
            self._read_by_value()
        result = step(self, *args, **kwargs)
        if own:
            self._note(*self._seen)
        for hook in tuple(self._step_post_hooks.values()):
            hook.function(self, args, kwargs)
        return result

    return method


def _arguments(step: object, given: Any, args: Any, kwargs: Any) -> Any:
    """What a hook made of the arguments."""
    if given is None:
        return args, kwargs
    if isinstance(given, tuple) and len(given) == 2:
        return given
    raise RuntimeError(
        f"{step} must return None or a tuple of (new_args, new_kwargs), but got {given}."
    )


Optimizer.step = _with_hooks(Optimizer.step)  # type: ignore[method-assign]  # as in subclasses
