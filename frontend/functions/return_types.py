"""Results with names: tuples that print as PyTorch's do."""

from __future__ import annotations

from collections import namedtuple
from typing import Any


def _return_type(name: str, fields: str) -> Any:
    """A named tuple that prints as `torch.return_types.<name>(...)`, a field a line."""

    def text(self: Any) -> str:
        lines = (f"{field}={value!r}" for field, value in zip(fields.split(), self, strict=True))
        return f"torch.return_types.{name}(\n" + ",\n".join(lines) + ")"

    base: Any = namedtuple(name, fields)  # type: ignore[misc]  # noqa: PYI024  # names that are data
    return type(name, (base,), {"__slots__": (), "__repr__": text, "__doc__": text.__doc__})


Max = _return_type("max", "values indices")
Min = _return_type("min", "values indices")
Aminmax = _return_type("aminmax", "min max")
Sort = _return_type("sort", "values indices")
TopK = _return_type("topk", "values indices")
