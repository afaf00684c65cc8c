"""Every exception that the compiler raises, and the record of a refusal."""

from __future__ import annotations

from dataclasses import dataclass


class TautError(Exception):
    """Base of the errors that are taut's own rather than Python's or PyTorch's."""


class IRError(TautError, ValueError):
    """A graph breaks one of the laws that `verify` checks, or a type rule rejects its operands."""


class ParseError(IRError):
    """IR text that cannot be read; carries the place, both counted from 1."""

    def __init__(self, message: str, line: int, column: int, source: str = "<text>") -> None:
        super().__init__(f"{source}:{line}:{column}: {message}")
        self.message, self.line, self.column = message, line, column


class CompileError(TautError, RuntimeError):
    """A graph that is well formed but that a back end cannot compile."""


class CheckFailed(TautError, RuntimeError):  # noqa: N818  # it reads as what happened
    """A check of a program did not hold; nothing that the caller can see was written."""


@dataclass(frozen=True)
class WhyNot:
    """A refusal with its reason; false, so that `if not decision:` reads well."""

    reason: str

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return self.reason
