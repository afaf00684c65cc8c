"""What users see: tensors, functions, modules and optimisers as in PyTorch, and `compile`."""
