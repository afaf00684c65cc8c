"""Reading a kernel: the loop IR of a fused function, and the Python source that means the same.

With the Numba back end that source is what runs.  Set `TAUT_KERNELS=python` to run it uncompiled, under a debugger if you
like: it is ordinary Python with the user's lines as comments.
"""

from __future__ import annotations

import math

import taut
from taut import Tensor


@taut.compile(backend="numba")
def gelu(x: Tensor) -> Tensor:
    """The tanh form of GELU, written out: eight operations."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return 0.5 * x * (1 + inner.tanh())


def main() -> None:
    """Compiles, runs and shows it."""
    x = taut.linspace(-3, 3, 7)
    print(gelu(x))
    kernels = gelu.kernels()
    print(f"{len(kernels)} kernel")
    print(gelu.ir("fused"))
    print(gelu.ir("kernel"))


if __name__ == "__main__":
    main()
