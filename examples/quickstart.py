"""A training step becomes one native call: fit a curve, then look at what was compiled."""

import math

import taut
from taut import nn, optim

taut.manual_seed(0)
model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = optim.Adam(model.parameters(), lr=0.01)
criterion = nn.MSELoss()


@taut.compile
def step(x, y):
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


x = taut.linspace(-math.pi, math.pi, 128).reshape(128, 1)
y = x.sin()
for i in range(1000):
    loss = step(x, y)
    if i % 200 == 0:
        print(f"step {i:4d}  loss {loss.item():.5f}")
print(f"step {i:4d}  loss {loss.item():.5f}")

print(step.stats())
print(step.ir("trace"))
