"""Parameter groups: what is trained, and with which hyperparameters."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from ..announce import announce
from ..context import current
from ..core import TensorBase
from ..nn.registration import typename
from ..tensor import Tensor
from .watched import Watched


class Group(Watched[str, Any]):
    """A parameter group.

    A number that becomes another one is no announcement: compiled steps read `lr` and its like at
    each call, so a schedule costs nothing.  Becoming zero or ceasing to be is one, since the update
    rules branch on it.

    Attributes:
        by_value: whether a trace has read numbers as they were (see `described`).
    """

    by_value = False

    def __setitem__(self, key: str, value: Any) -> None:
        known = self.get(key)
        number_stays = type(known) is type(value) is float and bool(known) == bool(value)
        if self.by_value or not number_stays or current().trace is not None:
            announce(f"param_groups[...][{key!r}]")
        dict.__setitem__(self, key, value)


def described(group: dict[str, Any]) -> dict[str, Any]:
    """What a trace that read a group has to find again: its tensors, and what steered the rule."""
    tensors = {f"params.{number}": p for number, p in enumerate(group["params"])}
    by_value = getattr(group, "by_value", True)
    numbers = {k: _steering(v, by_value) for k, v in group.items() if k not in _NOT_READ}
    return {"group": id(group), **tensors, **numbers}


_NOT_READ = ("params", "param_names", "initial_lr")


def _steering(value: Any, by_value: bool) -> Any:
    """What of a hyperparameter decides which operations there are: all of it, or if it is zero."""
    if isinstance(value, tuple):
        return repr(value) if by_value else f"{len(value)} numbers"
    if type(value) in (int, float) and not by_value:
        return "zero" if value == 0 else "a number"
    return value


def unpacked(params: Any) -> dict[str, Any]:
    """The tensors to train, as a list, and their names if they come with any."""
    if isinstance(params, set):
        raise TypeError(
            "optimizer parameters need to be organized in ordered collections, but the ordering of "
            "tensors in sets will change between runs. Please use a list instead."
        )
    given = [params] if isinstance(params, Tensor) else list(params)
    names = [p[0] for p in given if isinstance(p, tuple)]
    tensors = [p[1] if isinstance(p, tuple) else p for p in given]
    for tensor in tensors:
        if not isinstance(tensor, TensorBase):
            raise TypeError(
                f"optimizer can only optimize Tensors, but one of the params is {typename(tensor)}"
            )
        if tensor.entry is not None:
            raise ValueError("can't optimize a non-leaf Tensor")
    if names and len(names) != len(tensors):
        raise ValueError(
            "all optimizer params should be with/without names. Some param names are missing"
        )
    return {"params": tensors, "param_names": names} if names else {"params": tensors}


def require_new(group: dict[str, Any], known_groups: Sequence[dict[str, Any]]) -> None:
    """Checks a group against those that are there.

    Raises:
        ValueError: it shares a tensor with one of them, or only one of both has names.
    """
    own = {id(p) for p in group["params"]}
    if len(own) != len(group["params"]):
        warnings.warn(
            "optimizer contains a parameter group with duplicate parameters; in future, this "
            "will cause an error; see github.com/pytorch/pytorch/issues/40967 for more "
            "information",
            stacklevel=4,
        )
    for known in known_groups:
        if ("param_names" in group) != ("param_names" in known):
            with_ = "with names" if "param_names" in group else "without names"
            raise ValueError(
                "all optimizer param groups should be with/without names. "
                f"cannot add param group {with_} to the optimizer"
            )
        if any(id(p) in own for p in known["params"]):
            raise ValueError("some parameters appear in more than one parameter group")
