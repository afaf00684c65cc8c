"""Branches for what few lanes need: the usual path stays straight, and pays for one test."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from .lanes import Lanes, Vec


def any_lane(f: Lanes, mask: Vec) -> ir.Value:
    """One truth value: whether the mask holds in some lane."""
    if not f.width:
        return mask.ir
    name, module = f"llvm.vector.reduce.or.v{f.width}i1", f.builder.module
    if name not in module.globals:
        ir.Function(module, ir.FunctionType(ir.IntType(1), [mask.ir.type]), name)
    return f.builder.call(module.globals[name], [mask.ir])


def rarely(
    f: Lanes, mask: Vec, mend: Callable[[], Sequence[Vec]], usual: Sequence[Vec]
) -> list[Vec]:
    """`usual`, or what `mend` emits where the mask holds in some lane.

    The mended values replace all lanes: `mend` has to keep those where the mask does not hold.
    """
    before = f.builder.block
    with f.builder.if_then(any_lane(f, mask), likely=False):
        mended = mend()
        inside = f.builder.block
    merged = []
    for old, new in zip(usual, mended, strict=True):
        phi = f.builder.phi(old.ir.type)
        phi.add_incoming(old.ir, before)
        phi.add_incoming(new.ir, inside)
        merged.append(f.wrap(phi, old.kind))
    return merged


def repeat(f: Lanes, needed: Callable[[Vec], Vec], step: Callable[[Vec], Vec], start: Vec) -> Vec:
    """`start`, with `step` applied in each lane for as long as `needed` holds there."""
    b, before = f.builder, f.builder.block
    loop, body, done = (b.append_basic_block(f"repeat.{part}") for part in ("loop", "body", "done"))
    b.branch(loop)
    b.position_at_end(loop)
    phi = b.phi(start.ir.type)
    value = f.wrap(phi, start.kind)
    mask = needed(value)
    b.cbranch(any_lane(f, mask), body, done).set_weights([1, 99])
    b.position_at_end(body)
    after = f.select(mask, step(value), value)
    phi.add_incoming(start.ir, before)
    phi.add_incoming(after.ir, b.block)
    b.branch(loop)
    b.position_at_end(done)
    return value
