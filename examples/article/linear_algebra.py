"""What the article names without code (3.2): matrix product, inverse, and "division" as a solve."""

import taut as torch

A = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
B = torch.tensor([[1.0, 0.0], [4.0, 2.0]])

print(A @ B)  # the matrix product
print(torch.linalg.inv(A))  # the inverse
print(torch.linalg.solve(A, B))  # A divided into B: the X with A @ X = B
