"""Random numbers equal to PyTorch's CPU generator, as pure functions on a state array.

The generator is MT19937 (M. Matsumoto, T. Nishimura, "Mersenne twister", ACM TOMACS 8, 1998). A
state is a uint32 array of `STATE_WORDS` words. Every function takes one and returns (values, next
state); the argument is never written. Values and states equal those of PyTorch 2.13 on x86-64 with
AVX2, bit for bit.

`bernoulli` is PyTorch's portable definition. Its builds with MKL draw other numbers for a scalar
probability when they run on an Intel processor; taut gives the same ones on every machine.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .. import dtypes
from ..dtypes import DType
from . import box_muller

State = npt.NDArray[np.uint32]
Words = npt.NDArray[np.uint32]
Shape = tuple[int, ...]
T = TypeVar("T", bound=np.generic)

BLOCK_WORDS = 624
"""Words of one block of the generator; a twist makes the next block."""
MIDDLE = 397
UPPER_BIT = 0x80000000
LOWER_BITS = 0x7FFFFFFF
MATRIX = 0x9908B0DF
ALL_BITS = 0xFFFFFFFF
TEMPER = ((11, ALL_BITS), (-7, 0x9D2C5680), (-15, 0xEFC60000), (18, ALL_BITS))
"""Steps y ^= (y >> shift) & mask; a negative shift goes left."""

POSITION = BLOCK_WORDS
"""Index of the number of words used in this block: 1 to 624; 0 before the first block is made."""
SPARE_VALID = POSITION + 1
"""Index of the flag that says that a spare normal number is kept."""
SPARE = POSITION + 2
"""Index of that number: a float64 in the machine's order, in two words; zero if there is none."""
SEED = POSITION + 4
"""Index of the seed: two words, the lower one first."""
STATE_WORDS = POSITION + 6

SMALL_NORMAL = box_muller.BLOCK
"""Fewer normal numbers than this are made one pair at a time, in float64."""
WIDE_SPAN = 1 << 28
"""Integers from a span of at least this size are made from two words each."""

_TORCH_LAYOUT = np.dtype(
    [
        ("seed", "<u8"),
        ("left", "<i4"),
        ("seeded", "<i4"),
        ("next", "<u8"),
        ("words", "<u8", (BLOCK_WORDS,)),
        ("normal_x", "<f8"),
        ("normal_y", "<f8"),
        ("normal_rho", "<f8"),
        ("normal_is_valid", "<i4"),
        ("padding", "<i4"),
        ("float_normal", "<f4"),
        ("float_normal_is_valid", "<i4"),
    ]
)


def seed_state(seed: int) -> State:
    """The state that `manual_seed(seed)` sets.

    Raises:
        ValueError: the seed is not in [-2**63, 2**64).
    """
    if not -(1 << 63) <= seed < 1 << 64:
        raise ValueError(f"manual_seed: expected a seed in [-2**63, 2**64), got {seed}")
    state = np.zeros(STATE_WORDS, np.uint32)
    state[SEED] = word = seed & ALL_BITS
    state[SEED + 1] = (seed >> 32) & ALL_BITS
    words = [word]
    for index in range(1, BLOCK_WORDS):
        word = (1812433253 * (word ^ (word >> 30)) + index) & ALL_BITS
        words.append(word)
    state[:BLOCK_WORDS] = words
    return state


def initial_seed(state: State) -> int:
    """The seed that the state was made from, in [0, 2**64)."""
    return int(state[SEED]) | int(state[SEED + 1]) << 32


def draw(state: State, count: int) -> tuple[Words, State]:
    """The generator's next `count` outputs of 32 bits."""
    after = state.copy()
    if count == 0:
        return np.empty(0, np.uint32), after
    start = int(state[POSITION]) or BLOCK_WORDS
    stop = start + count
    blocks = (stop - 1) // BLOCK_WORDS
    stream = _extend(state[:BLOCK_WORDS], blocks) if blocks else state
    if blocks:
        after[:BLOCK_WORDS] = stream[-BLOCK_WORDS:]
    after[POSITION] = stop - blocks * BLOCK_WORDS
    return _temper(stream[start:stop]), after


def _extend(block: Words, blocks: int) -> Words:
    """A block followed by the next `blocks` ones.

    x[k + 624] = x[k + 397] ^ mix(x[k], x[k + 1]): the `mix` of 623 words depends on known ones
    alone; the exclusive or reaches back 227 words, so it is done in three parts.
    """
    lag = BLOCK_WORDS - MIDDLE
    count = BLOCK_WORDS * blocks
    stream = np.empty(BLOCK_WORDS + count, np.uint32)
    stream[:BLOCK_WORDS] = block
    for start in range(0, count, BLOCK_WORDS - 1):
        stop = min(start + BLOCK_WORDS - 1, count)
        mixed = _mix(stream[start:stop], stream[start + 1 : stop + 1])
        for first in range(start, stop, lag):
            last = min(first + lag, stop)
            np.bitwise_xor(
                stream[first + MIDDLE : last + MIDDLE],
                mixed[first - start : last - start],
                out=stream[first + BLOCK_WORDS : last + BLOCK_WORDS],
            )
    return stream


def _mix(word: Words, following: Words) -> Words:
    mixed = word & np.uint32(UPPER_BIT)
    mixed |= following & LOWER_BITS
    mixed >>= 1
    mixed ^= (following & 1) * np.uint32(MATRIX)
    return mixed


def _temper(words: Words) -> Words:
    result, shifted = words.copy(), np.empty_like(words)
    for shift, mask in TEMPER:
        move = np.right_shift if shift > 0 else np.left_shift
        move(result, abs(shift), out=shifted)
        if mask != ALL_BITS:
            shifted &= mask
        result ^= shifted
    return result


def _draw64(state: State, count: int) -> tuple[npt.NDArray[np.uint64], State]:
    """Outputs of 64 bits: the first word is the upper half."""
    words, state = draw(state, 2 * count)
    result = words[0::2].astype(np.uint64)
    result <<= 32
    result |= words[1::2]
    return result, state


def _uniform_f32(state: State, count: int) -> tuple[npt.NDArray[np.float32], State]:
    words, state = draw(state, count)
    words &= (1 << 24) - 1
    values = words.astype(np.float32)
    values *= 2.0**-24
    return values, state


def _uniform_f64(state: State, count: int) -> tuple[npt.NDArray[np.float64], State]:
    words, state = _draw64(state, count)
    words &= (1 << 53) - 1
    values = words.astype(np.float64)
    values *= 2.0**-53
    return values, state


def uniform(state: State, shape: Shape, dtype: DType) -> tuple[npt.NDArray[np.generic], State]:
    """Numbers in [0, 1), `torch.rand`: multiples of 2**-24, in float64 of 2**-53."""
    return uniform_between(state, 0.0, 1.0, shape, dtype)


def uniform_between(
    state: State, low: float, high: float, shape: Shape, dtype: DType
) -> tuple[npt.NDArray[np.generic], State]:
    """Numbers in [low, high), `Tensor.uniform_`: fma(u, high - low, low) in float32 or float64.

    A result that rounding brought up to `high` becomes `low`.
    """
    count = math.prod(shape)
    values: npt.NDArray[np.generic]
    if dtype is dtypes.f64:
        doubles, state = _uniform_f64(state, count)
        values = doubles if (low, high) == (0, 1) else box_muller.fma_f64(doubles, high - low, low)
    else:
        floats, state = _uniform_f32(state, count)
        base = float(np.float32(low))
        span = float(np.float32(high) - np.float32(low))
        values = floats if (low, high) == (0, 1) else box_muller.fma_f32(floats, span, base)
        values = values.astype(dtype.numpy, copy=False)
    if (low, high) != (0, 1) or dtype is dtypes.f16:
        values[values == dtype.numpy.type(high)] = low
    return values.reshape(shape), state


def normal(state: State, shape: Shape, dtype: DType) -> tuple[npt.NDArray[np.generic], State]:
    """Standard normal numbers, `torch.randn`."""
    return normal_scaled(state, 0.0, 1.0, shape, dtype)


def normal_scaled(
    state: State, mean: float, std: float, shape: Shape, dtype: DType
) -> tuple[npt.NDArray[np.generic], State]:
    """Normal numbers, `Tensor.normal_` on a contiguous tensor: fma(z, std, mean).

    Each 16 uniforms give 16 normals. A count that 16 does not divide draws uniforms for all of it,
    and then 16 more, whose normals are the last 16. Fewer than 16 are made pair by pair in float64.
    """
    count = math.prod(shape)
    if count < SMALL_NORMAL:
        values, state = _normal_pairs(state, mean, std, count)
        return values.astype(dtype.numpy).reshape(shape), state
    rest = count % box_muller.BLOCK
    dropped = 0 if dtype is dtypes.f16 else rest  # float32 and float64 draw these for nothing
    drawn = count - rest + (dropped + box_muller.BLOCK if rest else 0)
    normals, state = _normal_blocks(state, mean, std, count - rest, drawn, dtype)
    if rest:
        first = count - box_muller.BLOCK
        normals = np.concatenate((normals[:first], normals[-box_muller.BLOCK :]))
    return normals.astype(dtype.numpy, copy=False).reshape(shape), state


def _normal_blocks(
    state: State, mean: float, std: float, whole: int, drawn: int, dtype: DType
) -> tuple[npt.NDArray[np.generic], State]:
    """Normals from the first `whole` of `drawn` uniforms, then, if that leaves any, the last 16."""
    if dtype is dtypes.f64:
        doubles, state = _uniform_f64(state, drawn)
        return box_muller.transform_f64(_first_and_last(doubles, whole), mean, std), state
    floats, state = _uniform_f32(state, drawn)
    return box_muller.transform_f32(_first_and_last(floats, whole), mean, std), state


def _first_and_last(x: npt.NDArray[T], whole: int) -> npt.NDArray[T]:
    return x if len(x) == whole else np.concatenate((x[:whole], x[-box_muller.BLOCK :]))


def _normal_pairs(
    state: State, mean: float, std: float, count: int
) -> tuple[npt.NDArray[np.float64], State]:
    """Normals in float64: the spare one of the last call first, and a new spare one left over."""
    values: list[float] = []
    if state[SPARE_VALID]:
        values += state[SPARE : SPARE + 2].view(np.float64).tolist()
    pairs = (count - len(values) + 1) // 2
    uniforms, state = _uniform_f64(state, 2 * pairs)
    for first, second in uniforms.reshape(-1, 2).tolist():
        radius = math.sqrt(-2.0 * math.log1p(-second))
        angle = box_muller.TWO_PI * first
        values += (radius * math.cos(angle), radius * math.sin(angle))
    spare = values[count:]
    state[SPARE_VALID] = len(spare)
    state[SPARE : SPARE + 2] = np.array(spare or [0.0]).view(np.uint32)
    return box_muller.fma_f64(np.array(values[:count]), std, mean), state


def integers(
    state: State, low: int, high: int, shape: Shape, dtype: DType
) -> tuple[npt.NDArray[np.generic], State]:
    """Integers in [low, high), `torch.randint`: an output modulo the span (so slightly biased).

    Raises:
        RuntimeError: the interval is empty.
    """
    if low >= high:
        raise RuntimeError(
            f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}"
        )
    span, count = high - low, math.prod(shape)
    if span >= WIDE_SPAN:
        values, state = _draw64(state, count)
    else:
        words, state = draw(state, count)
        values = words.astype(np.uint64)
    values %= np.uint64(span)
    values += np.uint64(low & 0xFFFFFFFFFFFFFFFF)  # wraps, as the machine's addition does
    return values.view(np.int64).astype(dtype.numpy, copy=False).reshape(shape), state


def permutation(state: State, n: int) -> tuple[npt.NDArray[np.int64], State]:
    """The numbers 0 to n - 1 shuffled, `torch.randperm` (for n below 2**32 / 20)."""
    words, state = draw(state, max(n - 1, 0))
    places = np.arange(len(words))
    targets = (places + words % (n - places)).tolist()
    values = list(range(n))
    for place, target in enumerate(targets):
        values[place], values[target] = values[target], values[place]
    return np.array(values, np.int64), state


def bernoulli(
    state: State, p: float | npt.NDArray[np.floating], shape: Shape
) -> tuple[npt.NDArray[np.bool_], State]:
    """True with probability `p`, `Tensor.bernoulli_(p)`, which dropout draws too: uniform < p.

    A scalar or a float64 array is compared with float64 uniforms; an array of a narrower type, as
    in `torch.bernoulli(p)`, with float32 ones. An array is broadcast to `shape`.
    """
    count = math.prod(shape)
    if isinstance(p, np.ndarray) and p.dtype != np.float64:
        floats, state = _uniform_f32(state, count)
        return floats.reshape(shape) < p, state
    doubles, state = _uniform_f64(state, count)
    return doubles.reshape(shape) < p, state


def to_torch_state(state: State) -> npt.NDArray[np.uint8]:
    """The 5056 bytes of `torch.get_rng_state()`."""
    record = np.zeros((), _TORCH_LAYOUT)
    position = int(state[POSITION])
    record["seed"] = initial_seed(state)
    record["left"] = BLOCK_WORDS + 1 - (position or BLOCK_WORDS)
    record["seeded"] = 1
    record["next"] = position
    record["words"] = state[:BLOCK_WORDS]
    record["normal_is_valid"] = state[SPARE_VALID]
    record["normal_y"] = state[SPARE : SPARE + 2].view(np.float64)[0]
    return np.frombuffer(record.tobytes(), np.uint8).copy()


def from_torch_state(data: npt.NDArray[np.uint8]) -> State:
    """The state in the bytes of `torch.get_rng_state()`.

    The spare float32 normal that they may hold is dropped: no CPU function makes or reads it.

    Raises:
        RuntimeError: the bytes are not such a state.
    """
    if data.dtype != np.uint8 or data.size != _TORCH_LAYOUT.itemsize:
        raise RuntimeError(
            f"RNG state: expected {_TORCH_LAYOUT.itemsize} bytes, got {data.size} of {data.dtype}"
        )
    record = np.frombuffer(data.tobytes(), _TORCH_LAYOUT)[0]
    position = int(record["next"])
    left = BLOCK_WORDS + 1 - (position or BLOCK_WORDS)
    if not record["seeded"] or left < 1 or record["left"] != left:
        raise RuntimeError("RNG state: not a valid state of MT19937")
    seed, spare = int(record["seed"]), record["normal_y"] * bool(record["normal_is_valid"])
    state = np.empty(STATE_WORDS, np.uint32)
    state[:BLOCK_WORDS] = record["words"]
    state[POSITION] = position
    state[SPARE_VALID] = record["normal_is_valid"] != 0
    state[SPARE : SPARE + 2] = np.array([spare], np.float64).view(np.uint32)
    state[SEED], state[SEED + 1] = seed & ALL_BITS, seed >> 32
    return state
