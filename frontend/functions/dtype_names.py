"""What PyTorch calls dtypes in its messages."""

from __future__ import annotations

LEGACY_NAMES = {
    "bool": "Bool",
    "uint8": "Byte",
    "uint32": "UInt32",
    "int8": "Char",
    "int16": "Short",
    "int32": "Int",
    "int64": "Long",
    "float16": "Half",
    "float32": "Float",
    "float64": "Double",
}
"""Of tensor types."""

C_NAMES = {
    "bool": "bool",
    "uint8": "unsigned char",
    "uint32": "unsigned int",
    "int8": "signed char",
    "int16": "short int",
    "int32": "int",
    "int64": "long int",
    "float16": "c10::Half",
    "float32": "float",
    "float64": "double",
}
"""Of C++ types."""
