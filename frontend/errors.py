"""Errors that the front end raises beside PyTorch's, and the errors of checks inside programs."""

from __future__ import annotations

import builtins

from ..compiler.errors import CheckFailed


class UntraceableError(RuntimeError):
    """The traced function needs a value that is known only when the program runs."""


class LinAlgError(RuntimeError):
    """A matrix is singular or otherwise unfit (PyTorch's `torch.linalg.LinAlgError`)."""


def check_error(message: str) -> Exception:
    """The exception of a failed check, whose message names it first (`IndexError: index 7 ...`)."""
    name, separator, text = message.partition(": ")
    kind = LinAlgError if name == "LinAlgError" else getattr(builtins, name, None)
    if separator and isinstance(kind, type) and issubclass(kind, Exception):
        return kind(text)
    return CheckFailed(message)


def history_outside() -> RuntimeError:
    """The error of a `backward()` that would have to leave the compiled function."""
    return RuntimeError(
        "backward() inside a compiled function cannot follow the history of a tensor that was "
        "computed outside of it; compute it inside, detach() it, or call backward() outside"
    )
