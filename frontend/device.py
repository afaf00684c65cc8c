"""Devices: there is one, the CPU."""

from __future__ import annotations


class Device:
    """Where a tensor lives: the CPU."""

    type = "cpu"
    index = None

    def __init__(self, name: object = "cpu") -> None:
        if str(name).split(":")[0] != "cpu":
            raise RuntimeError(f"taut computes on the CPU only, got device {name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device)

    def __hash__(self) -> int:
        return hash("cpu")

    def __str__(self) -> str:
        return "cpu"

    def __repr__(self) -> str:
        return "device(type='cpu')"


CPU = Device()
