"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..context import current
from ..core import from_array
from ..functions.logic import where
from ..tensor import Tensor
from .optimizer import Optimizer
from .values import (
    advance_by,
    fit,
    new_count,
    new_state,
    number,
    plus,
    require,
    value_of,
    written,
)

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wished.

    Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013), in
    PyTorch's form: the learning rate multiplies the velocity, `v <- momentum * v + (1 - dampening)
    * g; p <- p - lr * v`.

    Args:
        params: what to train (see `Optimizer`).
        lr: learning rate.
        momentum: share of the velocity that is kept.
        dampening: share of the gradient that does not enter the velocity, after the first step.
        weight_decay: adds this multiple of the tensor to its gradient.
        nesterov: step with the gradient moved ahead by the velocity.
        maximize: ascend instead.
        foreach, differentiable, fused: accepted for PyTorch's sake; compiling the step does what
            they are for.

    Raises:
        ValueError: a hyperparameter is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        require(lr >= 0.0, "learning rate", lr)
        require(momentum >= 0.0, "momentum value", momentum)
        require(weight_decay >= 0.0, "weight_decay value", weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def _update(self, group: dict[str, Any]) -> None:
        rate = -number(group, "lr")
        momentum = number(group, "momentum") if group["momentum"] else None
        decay = number(group, "weight_decay") if group["weight_decay"] else None
        for tensor, grad in self._with_grads(group):
            x, g = value_of(tensor), value_of(grad)
            if group["maximize"]:
                g = -g
            if decay is not None:
                g = plus(g, decay, x)
            if momentum is not None:
                velocity = self._velocity(tensor, g, momentum, group)
                g = plus(g, momentum, velocity) if group["nesterov"] else velocity
            advance_by(x, rate, g)
            written(tensor)

    def _velocity(self, tensor: Tensor, g: Any, momentum: Any, group: dict[str, Any]) -> Any:
        """The tensor's velocity after this step; the first one is the gradient itself."""
        state = self.state[tensor]
        buffer = state.get("momentum_buffer")
        if buffer is None:
            if current().trace is None:
                buffer = state["momentum_buffer"] = from_array(g.copy())
                return value_of(buffer)
            # What a trace records has to hold for later steps too, so it starts from a velocity of
            # zero, and the count says when dampening begins.
            buffer = state["momentum_buffer"] = new_state(tensor)
            if group["dampening"]:
                self._fresh[tensor] = new_count(1.0)
        velocity = value_of(buffer)
        velocity *= fit(momentum, velocity)
        if group["dampening"]:
            advance_by(velocity, self._share(tensor, group), g)
        else:
            velocity += g
        written(buffer)
        return velocity

    def _share(self, tensor: Tensor, group: dict[str, Any]) -> Any:
        """How much of the gradient enters the velocity: all of it on the first step."""
        damped = 1 - number(group, "dampening")
        fresh = self._fresh.get(tensor)
        if fresh is None:
            return damped
        count = value_of(fresh)
        share = (
            where(count > 0, 1.0, damped)
            if current().trace is not None
            else (1.0 if count > 0 else damped)
        )
        count *= 0
        written(fresh)
        return share
