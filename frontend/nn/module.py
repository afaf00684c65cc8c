"""`Module`: the base class of layers and models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..context import current
from .hooks import Hook, RemovableHandle
from .state import State
from .traversal import Traversal

__all__ = ["Module"]


def _forward_missing(self: Module, *_: Any) -> Any:
    """Computes the output; every subclass defines it."""
    raise NotImplementedError(
        f'Module [{type(self).__name__}] is missing the required "forward" function'
    )


class Module(Traversal, State):
    """Base class of everything that holds parameters and has a forward pass.

    A subclass calls `super().__init__()`, assigns parameters and child modules as attributes, and
    defines `forward`.

    Example:
        >>> class Affine(Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.scale = Parameter(taut.ones(3))
        ...
        ...     def forward(self, x):
        ...         return self.scale * x
    """

    forward: Callable[..., Any] = _forward_missing

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs `forward`, between the hooks."""
        trace = current().trace
        if trace is not None:
            self._note(trace)
        if self._forward_hooks or self._forward_pre_hooks:
            return self._call_with_hooks(args, kwargs)
        return self.forward(*args, **kwargs)

    # --- hooks --------------------------------------------------------------------------------

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Calls `hook(module, args)` before `forward`; what it returns replaces the arguments.

        Args:
            hook: returns None, the new positional arguments, or with `with_kwargs` a pair of both
                kinds.
            prepend: run before the hooks that are there already.
            with_kwargs: call `hook(module, args, kwargs)` instead.
        """
        return self._forward_pre_hooks.add(Hook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Calls `hook(module, args, output)` after `forward`; what it returns replaces the output.

        Args:
            hook: returns None or the new output.
            prepend: run before the hooks that are there already.
            with_kwargs: call `hook(module, args, kwargs, output)` instead.
            always_call: run it, with output None, even if `forward` raises.
        """
        return self._forward_hooks.add(Hook(hook, with_kwargs, always_call), prepend)

    def _call_with_hooks(self, args: Any, kwargs: Any) -> Any:
        called: set[int] = set()
        result = None
        try:
            for hook in tuple(self._forward_pre_hooks.values()):
                args, kwargs = self._call_pre_hook(hook, args, kwargs)
            result = self.forward(*args, **kwargs)
            for number, hook in tuple(self._forward_hooks.items()):
                called.add(number)
                replaced = self._call_hook(hook, args, kwargs, result)
                result = result if replaced is None else replaced
        except Exception:
            for number, hook in tuple(self._forward_hooks.items()):
                if hook.always_call and number not in called:
                    self._call_hook(hook, args, kwargs, result)
            raise
        return result

    def _call_pre_hook(self, hook: Hook, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if not hook.with_kwargs:
            given = hook.function(self, args)
            if given is None:
                return args, kwargs
            return given if isinstance(given, tuple) else (given,), kwargs
        given = hook.function(self, args, kwargs)
        if given is None:
            return args, kwargs
        if isinstance(given, tuple) and len(given) == 2:
            return given
        raise RuntimeError(
            "forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got "
            f"{given}."
        )

    def _call_hook(self, hook: Hook, args: Any, kwargs: Any, result: Any) -> Any:
        if hook.with_kwargs:
            return hook.function(self, args, kwargs, result)
        return hook.function(self, args, result)

    # --- printing -----------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """For subclasses: what `repr` shows between the parentheses, on one or several lines."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): {indented(repr(child))}" for name, child in self._modules.items()]
        if len(lines) == 1 and not children:
            return f"{self._get_name()}({lines[0]})"
        return bracketed(self._get_name(), [*lines, *children])


def indented(text: str) -> str:
    """All lines but the first moved in by two."""
    return text.replace("\n", "\n  ")


def bracketed(name: str, lines: list[str]) -> str:
    """`name(...)` with each item on a line of its own."""
    if not lines:
        return f"{name}()"
    return f"{name}(\n  " + "\n  ".join(lines) + "\n)"
