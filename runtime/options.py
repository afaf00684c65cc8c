"""Options: one frozen object, read from the environment once.

TAUT_BACKEND     llvm (default), numba
TAUT_KERNELS     compiled (default), python: runs the numba back end's source as it stands
TAUT_NUMERICS    strict
TAUT_FUSE        0 makes a kernel of each operation; results are the same to the bit
TAUT_OPT_LEVEL   0 to 3 (default 1): how hard LLVM tries
TAUT_CHECK       1 verifies the graph after each pass
TAUT_CACHE       0 keeps no compiled code on disk
TAUT_CACHE_DIR   where to keep it (default: the platform's folder for caches)
TAUT_CACHE_SIZE  bytes to keep at most, with K, M, G for powers of 1024 (default 512M)
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

BACKENDS = ("llvm", "numba")
KERNELS = ("compiled", "python")
NUMERICS = ("strict",)
LEVELS = ("0", "1", "2", "3")
SWITCH = {"0": False, "1": True}
CACHE_SIZE = 512 << 20
_SIZE = re.compile(r"(\d+)\s*([KMG]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30}


@dataclass(frozen=True)
class Options:
    """What a user may choose about compilation.

    Attributes:
        backend: "llvm" (machine code by LLVM) or "numba" (Python source compiled by Numba).
        kernels: "compiled", or "python" to run the numba back end's source uncompiled.
        numerics: "strict": IEEE arithmetic in a fixed order.
        opt_level: LLVM's optimisation level, 0 to 3.
        check: verify the graph after each pass.
        cache: keep compiled code on disk.
        cache_dir: the folder for it; None is the platform's.
        cache_size: bytes beyond which the least recently used code is removed.
        fuse: let operations share kernels; results are the same to the bit.
    """

    backend: str = "llvm"
    kernels: str = "compiled"
    numerics: str = "strict"
    opt_level: int = 1
    check: bool = False
    cache: bool = True
    cache_dir: Path | None = None
    cache_size: int = CACHE_SIZE
    fuse: bool = True

    def __post_init__(self) -> None:
        _require("backend", self.backend, BACKENDS)
        _require("kernels", self.kernels, KERNELS)
        _require("numerics", self.numerics, NUMERICS)
        _require("opt_level", str(self.opt_level), LEVELS)

    @property
    def emitter(self) -> str:
        """The back end that prints the program: plain Python kernels are the numba back end's."""
        return "numba" if self.kernels == "python" else self.backend

    @property
    def identity(self) -> dict[str, str]:
        """All that changes the code of a program, for its cache key."""
        return {
            "backend": self.emitter,
            "kernels": self.kernels,
            "numerics": self.numerics,
            "fusion": "on" if self.fuse else "off",
            "opt_level": str(self.opt_level),
        }

    def replace(self, **changes: Any) -> Options:
        """A copy with some fields changed."""
        return replace(self, **changes)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Options:
        """Reads the variables above.

        Raises:
            ValueError: a variable has none of its values; the message names both.
        """
        folder = environment.get("TAUT_CACHE_DIR")
        return cls(
            backend=_choice(environment, "TAUT_BACKEND", BACKENDS),
            kernels=_choice(environment, "TAUT_KERNELS", KERNELS),
            numerics=_choice(environment, "TAUT_NUMERICS", NUMERICS),
            opt_level=int(_choice(environment, "TAUT_OPT_LEVEL", LEVELS, "1")),
            check=SWITCH[_choice(environment, "TAUT_CHECK", tuple(SWITCH))],
            cache=SWITCH[_choice(environment, "TAUT_CACHE", tuple(SWITCH), "1")],
            cache_dir=Path(folder).expanduser() if folder else None,
            cache_size=_size(environment, "TAUT_CACHE_SIZE", CACHE_SIZE),
            fuse=SWITCH[_choice(environment, "TAUT_FUSE", tuple(SWITCH), "1")],
        )


def _choice(
    environment: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str | None = None
) -> str:
    value = environment.get(name, "").strip() or default or allowed[0]
    _require(name, value, allowed)
    return value


def _size(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name, "").strip()
    found = _SIZE.fullmatch(value)
    if value and found is None:
        raise ValueError(f"{name} is {value!r}; it must be a number of bytes, such as 512M or 2G")
    return int(found[1]) << _UNITS[found[2].upper()] if found else default


def _require(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be {' or '.join(map(repr, allowed))}")


@lru_cache(maxsize=1)
def default_options() -> Options:
    """The options that the environment asks for, read on first use."""
    return Options.from_environment(os.environ)
