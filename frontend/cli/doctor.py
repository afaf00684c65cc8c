"""`taut doctor`: what taut stands on here, and whether it works."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

import click

from ...compiler import VERSION
from ...compiler.text.lexer import suggestion
from .cache import size_text, usable_text
from .group import OK, USER, UserError, with_traceback
from .output import emit_fields

if TYPE_CHECKING:
    from ...runtime.options import Options

BACKENDS = ("llvm", "numba")
WORKS = "works"
PACKAGES = ("numpy", "numba", "llvmlite", "scipy")
TELLING = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "sve")
"""Features of processors that make a difference here; a machine has a hundred."""
VARIABLES = (
    "TAUT_BACKEND",
    "TAUT_CACHE",
    "TAUT_CACHE_DIR",
    "TAUT_CACHE_SIZE",
    "TAUT_CHECK",
    "TAUT_KERNELS",
    "TAUT_NUMERICS",
    "TAUT_FUSE",
    "TAUT_OPT_LEVEL",
    "TAUT_TRACEBACK",
)
SELF_TEST = """\
taut-ir 1
func @self_test<B>(%x: f32[B,4], %w: f32[4,3]) -> (f32[B]) {
  %z: f32[B,3] = matmul %x, %w
  %t: f32[B,3] = tanh %z
  %s: f32[B] = reduce_sum %t {dims = [1]}
  return %s
}
"""


@click.command()
@click.pass_context
@with_traceback
def doctor(context: click.Context) -> None:
    """Shows versions, machine, cache and settings, and runs a program on both back ends."""
    from ...runtime.options import default_options

    try:
        options = default_options()
    except ValueError as error:
        raise UserError(str(error)) from error
    results = {backend: self_test(backend, options) for backend in BACKENDS}
    fields = {**_software(), **_machine(), **_cache(options), **_settings()}
    fields |= {f"{backend} back end": result for backend, result in results.items()}
    emit_fields(fields)
    context.exit(OK if set(results.values()) == {WORKS} else USER)


def self_test(backend: str, options: Options) -> str:
    """`WORKS` if a small program gives on `backend` what it means, else what is wrong."""
    import numpy as np

    from ...compiler.evaluate import evaluate
    from ...compiler.text import parse_graph
    from ...runtime.compile import compile_graph

    graph = parse_graph(SELF_TEST)
    x, w = np.linspace(-1, 1, 20, dtype=np.float32), np.linspace(2, -2, 12, dtype=np.float32)
    arrays = [x.reshape(5, 4), w.reshape(4, 3)]
    try:
        chosen = options.replace(backend=backend, kernels="compiled", cache=False)
        (result,), (expected,) = compile_graph(graph, chosen)(arrays), evaluate(graph, arrays)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is what the user wants to know)
        return f"fails: {type(error).__name__}: {error}"
    # A few roundings of numbers below 3: sums of 4 products, tanh, and a sum of 3.
    return WORKS if np.allclose(result, expected, rtol=0, atol=1e-5) else "fails: wrong result"


def _software() -> dict[str, str]:
    versions = {name: _version(name) for name in PACKAGES}
    return {"taut": VERSION, "python": platform.python_version(), **versions}


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _machine() -> dict[str, str]:
    from ...runtime.host import host_target

    target = host_target()
    present = {f[1:] for f in target.features.split(",") if f.startswith("+")}
    return {
        "system": target.triple,
        "processor": target.cpu,
        "features": " ".join(name for name in TELLING if name in present) or "none that matter",
        "vectors": f"{target.vector_bits} bits",
        "cores": str(target.cores),
        "data caches": ", ".join(map(size_text, target.cache_bytes)),
    }


def _cache(options: Options) -> dict[str, str]:
    from ...runtime.cache import open_cache

    about = open_cache(options).info()
    return {"cache folder": str(about.folder), "cache usable": usable_text(options, about.usable)}


def _settings() -> dict[str, str]:
    given = {name: value for name, value in sorted(os.environ.items()) if name.startswith("TAUT_")}
    return {name: value + _doubt(name) for name, value in given.items()}


def _doubt(name: str) -> str:
    if name in VARIABLES:
        return ""
    return f"  (taut reads no such variable{suggestion(name, VARIABLES)})"
