"""What the article names without code (5): preprocessing, a model trained and evaluated."""

import taut as torch
import taut.nn as nn
import taut.optim as optim

torch.manual_seed(0)
features = torch.rand(200, 3) * torch.tensor([1.0, 10.0, 100.0]) + torch.tensor([5.0, 0.0, -50.0])
target = features @ torch.tensor([[0.5], [-0.2], [0.01]]) + 1.0

low, high = features.amin(0), features.amax(0)
normalised = (features - low) / (high - low)  # into [0, 1]
standardised = (features - features.mean(0)) / features.std(0)  # mean 0, standard deviation 1
print(normalised.amin(0), normalised.amax(0))
print(standardised.std(0))

train_x, test_x = standardised[:150], standardised[150:]
train_y, test_y = target[:150], target[150:]

model = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))
criterion = nn.MSELoss()
optimizer = optim.Adam(model.parameters(), lr=0.01)


def step(x, y):
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


step = torch.compile(step)
for _ in range(500):
    step(train_x, train_y)

with torch.no_grad():
    print(f"test loss {criterion(model(test_x), test_y).item():.4f}")
