"""MT19937 in LLVM: the generator's state copied, advanced and read as in `primitives.mt19937`.

    copy(state_in, state_out)       all words of a state; the two may be one
    fill(state, out, n)             the next n outputs of 32 bits, and the state moved on

Nothing here needs a symbol from outside: the copy is straight-line code, since a loop would become
a call of `memcpy`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llvmlite import ir

from ..primitives import mt19937
from .vector_math.formats import F32
from .vector_math.lanes import Lanes, Vec

I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
VOID, PTR = ir.VoidType(), ir.PointerType()
WIDTH = 16  # words that one vector operation handles

Emit = Callable[[ir.IRBuilder, ir.Function], None]


def i64(value: int) -> ir.Constant:
    """The i64 constant."""
    return ir.Constant(I64, value)


def define(
    module: ir.Module, name: str, params: list[ir.Type], emit: Emit, result: ir.Type = VOID
) -> ir.Function:
    """The internal function `name` of the module, whose body `emit` writes the first time.

    It is never inlined: the parts are used in several places, and each call does much work.
    """
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(result, params), name)
    function.attributes.add("nounwind")
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    emit(builder, function)
    if not builder.block.is_terminated:
        builder.ret_void()
    return function


@contextmanager
def loop(b: ir.IRBuilder, start: ir.Value, stop: ir.Value, step: int = 1) -> Iterator[ir.Value]:
    """The body runs for the indices start, start + step, ... below stop (i64)."""
    before = b.block
    head, body, done = (b.append_basic_block(f"loop.{part}") for part in ("head", "body", "done"))
    b.branch(head)
    b.position_at_end(head)
    index = b.phi(I64)
    index.add_incoming(start, before)
    b.cbranch(b.icmp_signed("<", index, stop), body, done)
    b.position_at_end(body)
    yield index
    index.add_incoming(b.add(index, i64(step)), b.block)
    b.branch(head)
    b.position_at_end(done)


def for_each(
    b: ir.IRBuilder, count: ir.Value, width: int, body: Callable[[ir.Value, int], None]
) -> None:
    """`body(index, lanes)` from 0 to count - 1: whole vectors, then scalars (lanes 0)."""
    whole = b.and_(count, i64(-width))
    with loop(b, i64(0), whole, width) as index:
        body(index, width)
    with loop(b, whole, count) as index:
        body(index, 0)


def address(b: ir.IRBuilder, base: ir.Value, element: ir.Type, index: ir.Value | int) -> ir.Value:
    """Where element `index` of an array lies."""
    return b.gep(base, [i64(index) if isinstance(index, int) else index], source_etype=element)


def load(
    b: ir.IRBuilder, base: ir.Value, element: ir.Type, index: ir.Value | int, lanes: int = 0
) -> ir.Value:
    """A scalar or, with lanes, a vector, aligned as a word is."""
    t = ir.VectorType(element, lanes) if lanes else element
    return b.load(address(b, base, element, index), typ=t, align=_alignment(element))


def store(
    b: ir.IRBuilder, value: ir.Value, base: ir.Value, element: ir.Type, index: ir.Value | int
) -> None:
    """Store a scalar or a vector, aligned as a word is."""
    b.store(value, address(b, base, element, index), align=_alignment(element))


def _alignment(element: ir.Type) -> int:
    narrow = {"i8": 1, "half": 2}
    return narrow.get(str(element), 4)  # states and scratch are aligned for words only


def minimum(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """The lesser of two i64."""
    return b.select(b.icmp_signed("<", x, y), x, y)


def copy(module: ir.Module) -> ir.Function:
    """void(state_in, state_out)"""

    def emit(b: ir.IRBuilder, function: ir.Function) -> None:
        source, target = function.args
        for index in range(0, mt19937.STATE_WORDS, WIDTH):
            lanes = min(WIDTH, mt19937.STATE_WORDS - index)
            store(b, load(b, source, I32, index, lanes), target, I32, index)

    return define(module, "taut_mt19937_copy", [PTR, PTR], emit)


def _twist(module: ir.Module) -> ir.Function:
    """void(state): the words become the next block's.

    In place, since a word depends on itself, the next one, and one 397 ahead or 227 behind.
    """
    size, middle = mt19937.BLOCK_WORDS, mt19937.MIDDLE

    def emit(b: ir.IRBuilder, function: ir.Function) -> None:
        words = function.args[0]

        def advance(index: ir.Value, lanes: int, following: ir.Value, offset: int) -> None:
            v = Lanes(b, F32, lanes)
            places = (index, following, b.add(index, i64(offset)))
            word, successor, other = (v.wrap(load(b, words, I32, i, lanes), "int") for i in places)
            store(b, (other ^ _mix(word, successor)).ir, words, I32, index)

        def span(first: int, last: int, offset: int) -> None:
            rest = (last - first) % WIDTH
            with loop(b, i64(first), i64(last - rest), WIDTH) as index:
                advance(index, WIDTH, b.add(index, i64(1)), offset)
            advance(i64(last - rest), rest, i64(last - rest + 1), offset)

        span(0, size - middle, middle)
        span(size - middle, size - 1, middle - size)
        advance(i64(size - 1), 0, i64(0), middle - size)

    return define(module, "taut_mt19937_twist", [PTR], emit)


def _mix(word: Vec, following: Vec) -> Vec:
    mixed = ((word & _signed(mt19937.UPPER_BIT)) | (following & mt19937.LOWER_BITS)) >> 1
    return mixed ^ (following & 1) * _signed(mt19937.MATRIX)


def _temper(y: Vec) -> Vec:
    for shift, mask in mt19937.TEMPER:
        shifted = y >> shift if shift > 0 else y << -shift
        y = y ^ (shifted if mask == mt19937.ALL_BITS else shifted & _signed(mask))
    return y


def _signed(word: int) -> int:
    """The int32 that has the bits of a word."""
    return word - (1 << 32) if word >> 31 else word


def fill(module: ir.Module) -> ir.Function:
    """void(state, out, n): tempered words; nothing changes if n is 0."""
    size, twist = i64(mt19937.BLOCK_WORDS), _twist(module)

    def emit(b: ir.IRBuilder, function: ir.Function) -> None:
        state, out, count = function.args
        block, done = b.append_basic_block("block"), b.append_basic_block("done")
        b.cbranch(b.icmp_signed(">", count, i64(0)), block, done)
        entry = b.block
        b.position_at_end(block)
        written = b.phi(I64)
        written.add_incoming(i64(0), entry)
        position = _ready(b, twist, state)
        some = minimum(b, b.sub(size, position), b.sub(count, written))
        source, target = address(b, state, I32, position), address(b, out, I32, written)

        def output(index: ir.Value, lanes: int) -> None:
            word = Lanes(b, F32, lanes).wrap(load(b, source, I32, index, lanes), "int")
            store(b, _temper(word).ir, target, I32, index)

        for_each(b, some, WIDTH, output)
        store(b, b.trunc(b.add(position, some), I32), state, I32, mt19937.POSITION)
        following = b.add(written, some)
        written.add_incoming(following, b.block)
        b.cbranch(b.icmp_signed("<", following, count), block, done)
        b.position_at_end(done)

    return define(module, "taut_mt19937_fill", [PTR, PTR, I64], emit)


def _ready(b: ir.IRBuilder, twist: ir.Function, state: ir.Value) -> ir.Value:
    """The position of the next word, after a twist if the block is used up or was never made."""
    position = b.zext(load(b, state, I32, mt19937.POSITION), I64)
    size = i64(mt19937.BLOCK_WORDS)
    before = b.block
    with b.if_then(b.icmp_unsigned("==", b.urem(position, size), i64(0))):
        b.call(twist, [state])
        twisted = b.block
    result = b.phi(I64)
    result.add_incoming(position, before)
    result.add_incoming(i64(0), twisted)
    return result
