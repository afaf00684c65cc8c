"""What a cache entry holds: object code, and as JSON all that linking and calling it needs."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from ..compiler.aval import parse_aval, parse_dim
from ..compiler.codegen.spec import ProgramSpec

_LENGTH = struct.Struct("<I")


def pack(spec: ProgramSpec, images: Sequence[bytes]) -> bytes:
    """The payload; the program's text is left out, since only people read it."""
    fields = {**_header(spec), "images": list(map(len, images))}
    header = json.dumps(fields, separators=(",", ":")).encode()
    return b"".join([_LENGTH.pack(len(header)), header, *images])


def unpack(payload: bytes) -> tuple[ProgramSpec, list[bytes]]:
    """The program (its `source` is empty) and its object code.

    Raises:
        ValueError: the payload does not have this form.
    """
    try:
        (length,) = _LENGTH.unpack_from(payload)
        start = _LENGTH.size
        header = json.loads(payload[start : start + length])
        ends = list(accumulate(header["images"], initial=start + length))
        return _spec(header), [payload[a:b] for a, b in pairwise(ends)]
    except (struct.error, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a program: {error}") from None


def _header(spec: ProgramSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "backend": spec.backend,
        "entry": spec.entry,
        "externs": spec.externs,
        "inputs": [str(aval) for aval in spec.inputs],
        "outputs": [str(aval) for aval in spec.outputs],
        "donations": spec.donations,
        "slots": [str(slot) for slot in spec.slots],
        "symbols": spec.symbols,
        "checks": spec.checks,
    }


def _spec(header: dict[str, Any]) -> ProgramSpec:
    return ProgramSpec(
        name=header["name"],
        backend=header["backend"],
        source="",
        entry=header["entry"],
        externs=tuple(header["externs"]),
        inputs=tuple(map(parse_aval, header["inputs"])),
        outputs=tuple(map(parse_aval, header["outputs"])),
        donations=tuple(header["donations"]),
        slots=tuple(map(parse_dim, header["slots"])),
        symbols=tuple(header["symbols"]),
        checks=tuple(header["checks"]),
    )
