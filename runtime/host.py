"""The machine that we run on, as the compiler's `Target`."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..compiler.target import Target

SYSFS_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
USUAL_CACHES = (32 << 10, 1 << 20, 8 << 20)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl")


@lru_cache(maxsize=1)
def host_target() -> Target:
    """This machine, asked once a process.

    The processor's name may be a guess on virtual machines; its features are read from the
    processor itself and decide what is emitted.
    """
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple, cpu = llvm.get_process_triple(), llvm.get_host_cpu_name()
    present = _host_features(llvm)
    features = ",".join(f"{'+' if on else '-'}{name}" for name, on in sorted(present.items()))
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features)
    return Target(
        triple=triple,
        cpu=cpu,
        features=features,
        data_layout=str(machine.target_data),
        vector_bits=vector_bits(triple, present),
        cores=usable_cores(),
        cache_bytes=cache_sizes(SYSFS_CACHES),
    )


def _host_features(llvm: Any) -> dict[str, bool]:
    try:
        return dict(llvm.get_host_cpu_features())
    except RuntimeError:  # LLVM cannot ask on this architecture: the processor's name must do
        return {}


def vector_bits(triple: str, features: dict[str, bool]) -> int:
    """Width of the widest vector registers that are worth using."""
    if triple.startswith(("x86_64", "i686")):
        if all(features.get(name) for name in _AVX512):
            return 512
        return 256 if features.get("avx2") else 128
    return 128


def usable_cores() -> int:
    """Cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def cache_sizes(folder: Path) -> tuple[int, int, int]:
    """Bytes of the first, second and last data cache, as Linux tells; elsewhere usual ones."""
    found: dict[int, int] = {}
    for cache in sorted(folder.glob("index*")):
        try:
            kind, level, size = ((cache / f).read_text().strip() for f in ("type", "level", "size"))
            if kind in ("Data", "Unified"):
                found[int(level)] = _bytes(size)
        except (OSError, ValueError):
            continue
    if not {1, 2} <= found.keys():
        return USUAL_CACHES
    return found[1], found[2], found[max(found)]


def _bytes(text: str) -> int:
    """`1024K` as a number."""
    return int(text[:-1]) * _UNITS[text[-1]] if text[-1:] in _UNITS else int(text)
