"""`grad_fn`: the operation behind a tensor, as people see it."""

from __future__ import annotations

from .tape import Entry

_OWN_NAMES = ("CopySlices", "CopyBackwards")


class GradFn:
    """The operation behind a tensor, as `grad_fn` shows it."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def name(self) -> str:
        """PyTorch's name of the backward function, such as `AddBackward0`."""
        label = self.label
        return f"torch::autograd::{label}" if label in _OWN_NAMES else label

    @property
    def label(self) -> str:
        """The name as a printed tensor has it."""
        label = self._entry.label or self._entry.primitive.label.title().replace("_", "")
        return label if "Backward" in label or label in _OWN_NAMES else f"{label}Backward0"

    def __repr__(self) -> str:
        return f"<{self.label} object>"
