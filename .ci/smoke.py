"""Train a small network with the installed wheel; .ci/run copies this file out of the checkout."""

from __future__ import annotations

from pathlib import Path

import taut
import taut.nn.functional as F
from taut import nn, optim

taut.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = optim.SGD(net.parameters(), lr=0.1)


@taut.compile
def step(x: taut.Tensor, y: taut.Tensor) -> taut.Tensor:
    """One step of gradient descent on the squared error."""
    optimizer.zero_grad()
    loss = F.mse_loss(net(x), y)
    loss.backward()
    optimizer.step()
    return loss


if __name__ == "__main__":
    x, y = taut.randn(64, 8), taut.randn(64, 1)
    losses = [step(x, y).item() for _ in range(200)]
    print(f"{Path(taut.__file__).parent}: loss {losses[0]:.4f} -> {losses[-1]:.4f}")
    assert losses[-1] < 0.5 * losses[0]
