"""Adam, and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..tensor import Tensor
from .optimizer import Optimizer
from .values import (
    advance,
    fit,
    keep_larger,
    move_towards,
    new_count,
    new_state,
    number,
    plus,
    require,
    root,
    value_of,
    written,
)

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam: steps in units of the gradient's running standard deviation.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015); `amsgrad` after Reddi et
    al., "On the Convergence of Adam and Beyond" (2018); decoupled weight decay after Loshchilov and
    Hutter (2019).

    Args:
        params: what to train (see `Optimizer`).
        lr: learning rate.
        betas: shares kept of the running means of the gradient and of its square.
        eps: added to the root, against division by zero.
        weight_decay: adds this multiple of the tensor to its gradient; if decoupled, shrinks the
            tensor by `lr * weight_decay` instead.
        amsgrad: divide by the largest mean of squares so far.
        maximize: ascend instead.
        foreach, capturable, differentiable, fused: accepted for PyTorch's sake; compiling the step
            does what they are for.
        decoupled_weight_decay: see `weight_decay`.

    Raises:
        ValueError: a hyperparameter is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        require(lr >= 0.0, "learning rate", lr)
        require(eps >= 0.0, "epsilon value", eps)
        for index, beta in enumerate(betas):
            require(0.0 <= beta < 1.0, f"beta parameter at index {index}", beta)
        require(weight_decay >= 0.0, "weight_decay value", weight_decay)
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def _update(self, group: dict[str, Any]) -> None:
        rate, eps = number(group, "lr"), number(group, "eps")
        beta1, beta2 = number(group, "betas", 0), number(group, "betas", 1)
        decay = number(group, "weight_decay") if group["weight_decay"] else None
        for tensor, grad in self._with_grads(group):
            x, g = value_of(tensor), value_of(grad)
            state = self._state_of(tensor, group)
            mean, square = state["exp_avg"], state["exp_avg_sq"]
            m, v = value_of(mean), value_of(square)
            if group["maximize"]:
                g = -g
            if decay is not None and group["decoupled_weight_decay"]:
                x *= fit(1 - rate * decay, x)
            elif decay is not None:
                g = plus(g, decay, x)
            move_towards(m, g, 1 - beta1)
            v *= fit(beta2, v)
            v += fit(1 - beta2, v) * g * g
            if group["amsgrad"]:
                v = keep_larger(state["max_exp_avg_sq"], v)
            count = advance(state["step"])
            spread = root(v) / fit((1 - beta2**count) ** 0.5, v) + fit(eps, v)
            x += fit(-(rate / (1 - beta1**count)), x) * m / spread
            written(tensor, mean, square)

    def _state_of(self, tensor: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        """The tensor's state, made on first use."""
        state = self.state[tensor]
        if not state:
            state["step"] = new_count()
            state["exp_avg"], state["exp_avg_sq"] = new_state(tensor), new_state(tensor)
            if group["amsgrad"]:
                state["max_exp_avg_sq"] = new_state(tensor)
        return state


class AdamW(Adam):
    """Adam with decoupled weight decay.

    Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019).  Arguments and errors are
    `Adam`'s; `weight_decay` is 0.01 unless given.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
