"""One call of `Module.load_state_dict`: everything is checked first, then written."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ..core import structure_changed


class _Keys(NamedTuple):
    missing_keys: list[str]
    unexpected_keys: list[str]


class IncompatibleKeys(_Keys):
    """What `load_state_dict` did not find, and what it had no use for."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"_IncompatibleKeys(missing_keys={self.missing_keys}, "
            f"unexpected_keys={self.unexpected_keys})"
        )


class Loading:
    """One call of `load_state_dict`: what was found wrong, and writes that wait for all checks."""

    def __init__(self, state: Mapping[str, Any], assign: bool) -> None:
        self.metadata: Mapping[str, Any] = getattr(state, "_metadata", {})
        self.assign = assign
        self.missing: list[str] = []
        self.unexpected: list[str] = []
        self.errors: list[str] = []
        self.writes: list[Callable[[], None]] = []

    def load(self, module: Any, state: OrderedDict[str, Any], prefix: str = "") -> None:
        """Checks a module and those below it against the part of the state that is theirs."""
        local = {**self.metadata.get(prefix[:-1], {}), "writes": self.writes}
        if self.assign:
            local["assign_to_params_buffers"] = True
        for hook in module._load_state_dict_pre_hooks.values():
            hook.function(
                module, state, prefix, local, True, self.missing, self.unexpected, self.errors
            )
        module._load_from_state_dict(
            state, prefix, local, True, self.missing, self.unexpected, self.errors
        )
        for name, child in module._modules.items():
            if child is not None:
                below = f"{prefix}{name}."
                part = OrderedDict((k, v) for k, v in state.items() if k.startswith(below))
                self.load(child, part, below)
        self._run_post_hooks(module)

    def _run_post_hooks(self, module: Any) -> None:
        """Hooks see the loaded values, so writes do not wait longer where there are any."""
        hooks = module._load_state_dict_post_hooks.values()
        if hooks:
            self.write()
        for hook in hooks:
            if hook.function(module, IncompatibleKeys(self.missing, self.unexpected)) is not None:
                raise AssertionError(
                    "Hooks registered with ``register_load_state_dict_post_hook`` are not expected "
                    "to return new values, if incompatible_keys need to be modified, it should be "
                    "done inplace."
                )

    def write(self) -> None:
        for write in self.writes:
            write()
        self.writes.clear()
        structure_changed()

    def messages(self, strict: bool) -> Iterator[str]:
        """Everything that was wrong, in PyTorch's words."""
        if strict and self.missing:
            yield f"Missing key(s) in state_dict: {_quoted(self.missing)}. "
        if strict and self.unexpected:
            yield f"Unexpected key(s) in state_dict: {_quoted(self.unexpected)}. "
        yield from self.errors


def _quoted(keys: list[str]) -> str:
    return ", ".join(f'"{key}"' for key in keys)
