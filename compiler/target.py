"""What the compiler knows of a machine: plain data, made by the runtime and handed down."""

from __future__ import annotations

from dataclasses import dataclass

LANES = 16
"""Elements of the narrowest vector operation that kernels use, on every machine."""

REDUCTION_LANES = 64
"""Partial results of a reduction along the last axis: element i goes to number i % 64.

The order of a reduction follows from it, so it is a constant of the language and not of the CPU: a
machine with narrower registers splits a vector into several.
"""


CHUNK = 64
"""A loop in lanes may be split at multiples of this."""


@dataclass(frozen=True)
class Target:
    """A machine to compile for.

    Attributes:
        triple: LLVM's target triple.
        cpu: LLVM's name of the processor.
        features: LLVM's feature string (`+avx2,+fma,...`), which decides what may be emitted.
        data_layout: LLVM's data layout string.
        vector_bits: width of the widest vector register that is worth using.
        cores: cores that a program may use.
        cache_bytes: sizes of the first, second and last level data caches.
    """

    triple: str
    cpu: str
    features: str
    data_layout: str
    vector_bits: int = 256
    cores: int = 1
    cache_bytes: tuple[int, int, int] = (32 << 10, 1 << 20, 8 << 20)
