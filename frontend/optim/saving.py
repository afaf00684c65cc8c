"""An optimizer's state and groups as plain data, and back."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import chain
from typing import Any

from ..core import TensorBase
from ..tensor import Tensor
from .watched import StateByTensor, Watched

Group = dict[str, Any]


def packed(groups: Sequence[Group], state: dict[Any, Any]) -> dict[str, Any]:
    """Groups and state with a number in place of each tensor that is trained."""
    numbers: dict[int, int] = {}
    for tensor in chain.from_iterable(g["params"] for g in groups):
        numbers.setdefault(id(tensor), len(numbers))
    numbered = [{**g, "params": [numbers[id(p)] for p in g["params"]]} for g in groups]
    for group in numbered:
        group["params"] = group.pop("params")  # last, as in PyTorch
    by_number = {numbers[id(k)] if isinstance(k, Tensor) else k: v for k, v in state.items()}
    return {"state": by_number, "param_groups": numbered}


def taken_over(groups: Sequence[Group], saved: dict[str, Any]) -> StateByTensor:
    """Writes saved hyperparameters into groups, and returns the saved state by tensor.

    Raises:
        ValueError: the groups differ in number or size; nothing was written then.
    """
    given_groups = deepcopy(saved["param_groups"])
    if len(given_groups) != len(groups):
        raise ValueError("loaded state dict has a different number of parameter groups")
    pairs = list(zip(groups, given_groups, strict=True))
    if any(len(own["params"]) != len(given["params"]) for own, given in pairs):
        raise ValueError(
            "loaded state dict contains a parameter group that doesn't match the size of "
            "optimizer's group"
        )
    tensors: dict[Any, Tensor] = {}
    for own, given in pairs:
        tensors.update(zip(given["params"], own["params"], strict=True))
    state = StateByTensor()
    for key, value in saved["state"].items():
        state[tensors.get(key, key)] = _copied(value, tensors.get(key))
    for own, given in pairs:
        kept: Group = {k: own[k] for k in ("params", "param_names") if k in own}
        own.clear()
        own.update({**kept, **given, "params": kept["params"]})
    return state


def _copied(value: Any, tensor: Tensor | None, key: str | None = None) -> Any:
    """A copy of a tensor's saved state, in its dtype; step counts keep theirs."""
    if isinstance(value, TensorBase):
        copy: Any = deepcopy(value)
        convert = tensor is not None and key != "step" and tensor.is_floating_point()
        return copy.to(tensor) if convert else copy
    if isinstance(value, dict):
        return Watched({k: _copied(v, tensor, k) for k, v in value.items()})
    return deepcopy(value)
