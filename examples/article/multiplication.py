"""Multiplication and division, as the article prints them (4.2)."""

import taut as torch

a = torch.tensor([1, 2, 3])
b = torch.tensor([4, 5, 6])

c = a * b
d = a / b

print(c)  # tensor([ 4, 10, 18])
print(d)  # tensor([0.2500, 0.4000, 0.5000])
