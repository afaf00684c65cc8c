"""Helpers around training, by PyTorch's dotted names."""

from . import checkpoint as checkpoint
