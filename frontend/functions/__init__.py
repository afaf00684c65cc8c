"""What users call, composed of primitives: each function once, and as a method where PyTorch has one."""
