"""Random generators: their state is a tensor, which compiled programs read and advance too."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..compiler.primitive import Primitive
from ..compiler.primitives import mt19937
from .core import from_array, tensor_type
from .create import require_cpu
from .inplace import assign
from .tape import apply_all

if TYPE_CHECKING:
    from .device import Device
    from .tensor import Tensor

_DEFAULT_SEED = 67280421310721  # PyTorch's, of generators that nobody seeded


class Generator:
    """A stream of random numbers, equal to that of PyTorch's CPU generator with the same seed."""

    def __init__(self, device: Any = None) -> None:
        require_cpu(device)
        self._first_seed = _DEFAULT_SEED
        self._state: Tensor | None = None

    @property
    def state(self) -> Tensor:
        """The Mersenne Twister's state, `mt19937.STATE_WORDS` words; drawing writes it in place."""
        if self._state is None:
            self._state = from_array(mt19937.seed_state(self._first_seed))
            self._state._name = "generator"  # type: ignore[attr-defined]  # what a trace calls this input
        return self._state

    @property
    def device(self) -> Device:
        """Where it draws: the CPU."""
        return self.state.device

    def manual_seed(self, seed: int) -> Generator:
        """Starts the stream that `seed` stands for.

        Raises:
            ValueError: the seed is not in [-2^63, 2^64).
            RuntimeError: it is no integer.
        """
        if not isinstance(seed, (int, np.integer)):
            raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}")
        self._set(mt19937.seed_state(int(seed)))
        return self

    def seed(self) -> int:
        """Starts a stream that nobody can foresee; returns its seed."""
        chosen = int.from_bytes(os.urandom(8))
        self.manual_seed(chosen)
        return chosen

    def initial_seed(self) -> int:
        """The seed that the stream began with."""
        return mt19937.initial_seed(self.state._memory("initial_seed()"))

    def get_state(self) -> Tensor:
        """The state as PyTorch's 5056 bytes."""
        return from_array(mt19937.to_torch_state(self.state._memory("get_state()")))

    def set_state(self, new_state: Any) -> Generator:
        """Takes up a state that `get_state` gave.

        Raises:
            TypeError: the state is no tensor of bytes.
            RuntimeError: the bytes are not a state.
        """
        data = new_state.numpy() if isinstance(new_state, tensor_type.type) else None
        if data is None or data.dtype != np.uint8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        self._set(mt19937.from_torch_state(data))
        return self

    def clone_state(self) -> Generator:
        """A generator of its own in the same state."""
        return Generator().set_state(self.get_state())

    def _set(self, words: mt19937.State) -> None:
        assign(self.state, from_array(words), checked=False)

    def draw(self, sampler: Primitive, **params: Any) -> Tensor:
        """A sample, which advances the state."""
        sample, after = apply_all(sampler, (self.state,), params)
        assign(self.state, after, checked=False)
        return sample


def _unforeseen() -> Generator:
    """A generator that starts anywhere, its state not made before it is used."""
    generator = Generator()
    generator._first_seed = int.from_bytes(os.urandom(8))
    return generator


default_generator = _unforeseen()


def manual_seed(seed: int) -> Generator:
    """Starts the default generator's stream anew; PyTorch draws the same from the same seed."""
    return default_generator.manual_seed(int(seed))


def seed() -> int:
    """Starts the default generator on a stream that nobody can foresee; returns its seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed that the default generator's stream began with."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The default generator's state as PyTorch's 5056 bytes."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Takes up a state that `get_rng_state`, taut's or PyTorch's, gave."""
    default_generator.set_state(new_state)
