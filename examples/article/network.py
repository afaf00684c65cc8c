"""A network of two linear layers, trained as the article prints it (4.3).

The program never sets the gradients back to zero, so they accumulate: `network_compiled.py` has the
usual loop.
"""

import taut as torch
import taut.nn as nn
import taut.optim as optim


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.fc1 = nn.Linear(1, 10)
        self.fc2 = nn.Linear(10, 1)

    def forward(self, x):
        x = self.fc1(x)
        x = self.fc2(x)
        return x


net = Net()
criterion = nn.MSELoss()
optimizer = optim.SGD(net.parameters(), lr=0.01)

x = torch.tensor([1.0])
y = torch.tensor([2.0])

for i in range(1000):
    y_pred = net(x)
    loss = criterion(y_pred, y)
    loss.backward()
    optimizer.step()

print(net.fc1.weight)
print(net.fc1.bias)
print(net.fc2.weight)
print(net.fc2.bias)
