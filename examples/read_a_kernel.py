"""Reading a kernel: a function as one loop nest, and the Python source that means the same.

With the Numba back end this source is what runs.  With `TAUT_KERNELS=python` it runs uncompiled: it
is ordinary Python, through which a debugger steps.
"""

from __future__ import annotations

import math

import taut
from taut import Tensor
from taut.compiler.schedule.printing import print_kernel


@taut.compile(backend="numba")
def gelu(x: Tensor) -> Tensor:
    """The tanh form of GELU, written out: eight operations."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    outer: Tensor = 0.5 * x * (1 + inner.tanh())
    return outer


def main() -> None:
    """Compiles it, runs it and shows what became of it."""
    print(gelu(taut.linspace(-3, 3, 7)))
    print(f"\nWhich operations run together:\n\n{gelu.ir('fused')}")
    print("As loops:\n")
    for kernel in gelu.kernels():
        print(print_kernel(kernel))
    print(f"As Python:\n\n{gelu.ir('kernel')}")


if __name__ == "__main__":
    main()
