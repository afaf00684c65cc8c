"""Whether operations are taped: PyTorch's switches."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from .context import Mode, current, set_mode

P = ParamSpec("P")
R = TypeVar("R")


class grad_mode:  # noqa: N801  # PyTorch's context managers have lower-case names
    """Turns the tape on or off for a block or, as a decorator, for a function."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._previous: list[Mode] = []

    def __enter__(self) -> None:
        mode = current()
        self._previous.append(mode)
        set_mode(Mode(mode.trace, self._enabled))

    def __exit__(self, *_: object) -> None:
        set_mode(self._previous.pop())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, run in this mode."""

        @wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            with grad_mode(self._enabled):
                return function(*args, **kwargs)

        return wrapped


class no_grad(grad_mode):  # noqa: N801  # as above
    """Operations inside are not taped."""

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        super().__init__(False)
        self._function = function

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        """`@no_grad` without parentheses decorates at once, as PyTorch allows."""
        return super().__new__(cls) if function is None else no_grad()(function)


class enable_grad(grad_mode):  # noqa: N801  # as above
    """Operations inside are taped, also within `no_grad`."""

    def __init__(self) -> None:
        super().__init__(True)


inference_mode = no_grad


class set_grad_enabled(grad_mode):  # noqa: N801  # as above
    """Sets whether operations are taped: for a block, or for good when called as a function."""

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, bool):
            raise TypeError(
                "set_grad_enabled(): argument 'enabled' (position 1) must be bool, not "
                f"{type(mode).__name__}"
            )
        super().__init__(mode)
        self._previous.append(current())
        set_mode(Mode(current().trace, mode))

    def __enter__(self) -> None:
        set_mode(Mode(current().trace, self._enabled))


def is_grad_enabled() -> bool:
    """Whether operations are taped now."""
    return current().grad
