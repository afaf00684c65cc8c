"""How elementwise losses become one: the names that PyTorch accepts."""

from __future__ import annotations

REDUCTIONS = ("none", "mean", "sum")


def require_reduction(reduction: str) -> None:
    """Raises ValueError unless the name is one of `REDUCTIONS`."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not a valid value for reduction")
