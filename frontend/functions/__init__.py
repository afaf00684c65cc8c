"""What users call, composed of primitives: each function once, also where it is a method."""
