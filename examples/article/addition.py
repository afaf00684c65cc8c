"""Addition and subtraction, as the article prints them (4.1)."""

import taut as torch

a = torch.tensor([1, 2, 3])
b = torch.tensor([4, 5, 6])

c = a + b
d = a - b

print(c)  # tensor([5, 7, 9])
print(d)  # tensor([-3, -3, -3])
