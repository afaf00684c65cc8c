"""`CompiledFunction`: a function whose every call is one native call.

The first call with arguments of new types records the function and compiles the recording; later
calls check guards and run the program.  Whatever cannot be recorded raises an error at the user's
line; nothing falls back silently.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import RLock
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from ..compiler.aval import Aval, Shape
from ..compiler.ir import Graph
from ..runtime.collector import paused
from .context import current
from .core import TensorBase, shape_of
from .defaults import default_float
from .errors import UntraceableError
from .guards import Guard, compiled_guards
from .record import Leaf, Recording, record, repeats
from .size_guards import Sizes, SizesLearnt
from .specialisation import MISS, Specialisation
from .trace import SCALAR
from .tree import Structure, flatten, paths

if TYPE_CHECKING:
    from types import ModuleType

    from .report import Report

P = ParamSpec("P")
R = TypeVar("R")


MOST_PROGRAMS = 32
"""How many programs a function may have for arguments of the same types."""


@dataclass(frozen=True)
class CompileOptions:
    """How a function is compiled.

    Attributes:
        backend: "llvm" (the default), "numba", or "eager" (not compiled at all).
        dynamic: trace the first dimension of each tensor argument as a named size, so that one
            program serves all that its guards allow.
    """

    backend: str | None = None
    dynamic: bool = False


class CompiledFunction(Generic[P, R]):
    """A function that records itself on its first call and then runs natively."""

    def __init__(
        self, function: Callable[P, R], options: CompileOptions, named_after: Any = None
    ) -> None:
        own = ("__dict__",) if inspect.isfunction(function) else ()  # an object's are about it
        functools.update_wrapper(self, function, updated=own)
        self._function: Callable[..., Any] = function
        self._options = options
        self._described: Any = function if named_after is None else named_after
        self._lock = RLock()
        self._specialisations: dict[Any, list[Any]] = {}
        self._static_floats: set[Any] = set()
        self._varying: set[Any] = set()
        self._settled: set[Any] = set()
        self._last: Any = None

    @property
    def name(self) -> str:
        """The function's name."""
        described = self._described
        name: str = getattr(described, "__name__", type(described).__name__)
        return name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's result."""
        mode = current()
        last = self._last
        if last is not None and not kwargs and last[0] is mode:
            result: R = last[1].call_again(args)
            if result is not MISS:
                return result
        if mode.trace is not None or self._options.backend == "eager":
            result = self._function(*args, **kwargs)
        else:
            result = self._call(args, kwargs)
        return result

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call that is not just like the last one."""
        leaves, structure = flatten((args, kwargs))
        key = self._key(leaves, structure, current().grad)
        self._last = None
        for known in self._specialisations.get(key, ()):
            result = known.call(leaves)
            if result is not MISS:
                break
        else:
            known, result = self._first_call(key, leaves, structure)
        if not kwargs and len(leaves) == len(args):
            known.remember(leaves)
            self._last = (current(), known)
        return result

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Methods: the instance is an argument like any other."""
        return self if instance is None else functools.partial(self, instance)

    # --- specialising -----------------------------------------------------------------------------

    def _key(self, leaves: Sequence[Any], structure: Structure, grad: bool) -> Any:
        parts: list[Any] = [structure, grad, default_float(), *repeats(leaves).items()]
        for leaf in leaves:
            if isinstance(leaf, TensorBase):
                array = leaf.array
                assert array is not None
                shape: Any = (
                    (len(array.shape), array.shape[1:]) if self._options.dynamic else array.shape
                )
                parts.append((array.dtype, shape, leaf._requires_grad, leaf._grad is None))
            elif type(leaf) is float:
                parts.append(float)
            else:
                parts.append(static_key(leaf))
        key = tuple(parts)
        if self._static_floats and key in self._static_floats:
            return (key, *[repr(leaf) for leaf in leaves if type(leaf) is float])
        return key

    def _first_call(self, key: Any, leaves: Sequence[Any], structure: Structure) -> tuple[Any, Any]:
        """A new specialisation and its result; one whose first call fails leaves nothing behind."""
        with self._lock:
            for known in self._specialisations.get(key, ()):  # of a thread that was faster
                result = known.call(leaves)
                if result is not MISS:
                    return known, result
            self._find_varying(self._specialisations.get(key, ()))
            self._require_end(self._specialisations.get(key, ()))
            with paused():
                recording, key = self._record(key, leaves, structure)
            try:
                with paused():
                    made = self._link(recording)
                result = made.call(leaves)
                if result is MISS:
                    changed = [g.origin for g in recording.guards if not g.holds()]
                    raise RuntimeError(
                        f"what {self.name} read while it was traced had changed before it could "
                        f"run: {', '.join(changed) or 'the state of a module or an optimizer'}"
                    )
            except BaseException:
                recording.outside.take_back()
                raise
            self._specialisations.setdefault(key, []).append(made)
            return made, result

    def _find_varying(self, known: Sequence[Any]) -> None:
        """Finds numbers and tensors that are others than a program took for constant."""
        guards = [g for made in known for g in made.recording.guards if isinstance(g, Guard)]
        for guard in guards:
            varies = type(guard.seen) in (int, float) or isinstance(guard.seen, TensorBase)
            if varies and not guard.holds() and type(guard.place.read()) is type(guard.seen):
                self._varying.add(guard.place.identity)
        self._varying -= self._settled

    def _require_end(self, known: Sequence[Any]) -> None:
        """Raises if there are so many programs for one kind of call that there may be no end.

        Raises:
            UntraceableError: see above.
        """
        if len(known) < MOST_PROGRAMS:
            return
        moved = [g for g in known[-1].recording.guards if not g.holds()]
        where = f" ({moved[0].line.file}:{moved[0].line.line})" if moved and moved[0].line else ""
        what = moved[0].origin if moved else "what it reads"
        raise UntraceableError(
            f"{self.name} has been traced {len(known)} times for arguments of the same types: "
            f"{what} is another one at every call{where}. Pass it as an argument, or as a tensor"
        )

    def _record(
        self, key: Any, leaves: Sequence[Any], structure: Structure
    ) -> tuple[Recording, Any]:
        """The recording, and the key under which it serves, with the floats that steer."""
        lift = key not in self._static_floats and type(key[0]) is not tuple
        recording, lifted = self._traced(leaves, structure, lift)
        if lift and not lifted:
            self._static_floats.add(key)
            key = (key, *[repr(leaf) for leaf in leaves if type(leaf) is float])
        return recording, key

    def _traced(
        self, leaves: Sequence[Any], structure: Structure, lift: bool
    ) -> tuple[Recording, bool]:
        """The recording, with floats as run-time scalars if the function lets them be.

        Named sizes, too, stay as general as the function lets them be.
        """
        sizes = self._named_sizes(leaves, structure)
        while True:
            try:
                return self._traced_at(leaves, structure, lift, sizes)
            except Exception as error:
                weaker = sizes.weaker(error)
                if weaker is None:
                    raise
            sizes = weaker

    def _traced_at(
        self, leaves: Sequence[Any], structure: Structure, lift: bool, sizes: Sizes
    ) -> tuple[Recording, bool]:
        names, grad = self.leaf_names(structure), current().grad
        try:
            described = [_leaf(v, n, lift, sizes) for v, n in zip(leaves, names, strict=True)]
            return self._recorded(described, structure, grad, sizes), lift
        except SizesLearnt as learnt:
            sizes = learnt.sizes
        except UntraceableError:
            if not lift or not any(type(leaf) is float for leaf in leaves):
                raise
            lift = False
        return self._traced_at(leaves, structure, lift, sizes)

    def _recorded(
        self, leaves: Sequence[Leaf], structure: Structure, grad: bool, sizes: Sizes
    ) -> Recording:
        """The recording, with stand-ins for numbers that vary if the function takes them."""
        given = self.name, self._function, leaves, structure, grad, sizes
        if self._varying:
            try:
                return record(*given, frozenset(self._varying))
            except Exception:  # noqa: BLE001  # whatever it is: without stand-ins it comes again
                self._settled |= self._varying
                self._varying.clear()
        return record(*given)

    def _named_sizes(self, leaves: Sequence[Any], structure: Structure) -> Sizes:
        """A name for the first dimension of each tensor, if sizes may vary."""
        if not self._options.dynamic:
            return Sizes.of({})
        named = zip(self.leaf_names(structure), leaves, strict=True)
        return Sizes.of(
            {size_name(n): x.shape[0] for n, x in named if isinstance(x, TensorBase) and x.ndim}
        )

    def leaf_names(self, structure: Structure) -> list[str]:
        """A readable name for each leaf of the arguments, from the signature."""
        positional, keyword = structure.children
        given = self._parameters(len(positional.children))
        names: list[str] = []
        for child, name in zip(positional.children, given, strict=False):
            names += paths(child, name)
        for child, name in zip(keyword.children, keyword.keys, strict=True):
            names += paths(child, str(name))
        return names

    def _parameters(self, count: int) -> list[str]:
        try:
            described = getattr(self._described, "forward", self._described)
            known = list(inspect.signature(described).parameters)
        except (TypeError, ValueError):
            known = []
        return [known[i] if i < len(known) else f"arg{i}" for i in range(count)]

    def _link(self, recording: Recording) -> Any:
        from ..runtime.compile import compile_graph
        from .differentiable import DifferentiableForward

        options = self.runtime_options()
        guard = compiled_guards([*recording.guards, *recording.outside.reads])
        if recording.backward is not None:
            return DifferentiableForward(recording, options, guard)
        return Specialisation(recording, compile_graph(recording.graph, options), guard)

    def runtime_options(self) -> Any:
        """The runtime's options, with this function's back end."""
        from ..runtime.options import default_options

        options = default_options()
        backend = self._options.backend
        return options if backend is None else replace(options, backend=backend)

    # --- looking at it ----------------------------------------------------------------------------

    @property
    def specialisations(self) -> list[Any]:
        """Every compiled form, oldest first."""
        return [s for group in self._specialisations.values() for s in group]

    def graph_for(self, *args: Any, **kwargs: Any) -> Recording:
        """What tracing records for arguments, or for types of them (`Aval`s): nothing runs."""
        leaves, structure = flatten((args, kwargs))
        recording = self._traced(leaves, structure, lift=True)[0]
        recording.outside.take_back()
        return recording

    def report(self) -> Report:
        """The newest specialisation, stage by stage.

        Raises:
            RuntimeError: the function has not been called.
        """
        from .report import Report

        return Report(self.recording(), self.runtime_options())

    def recording(self) -> Recording:
        """What the newest specialisation recorded.

        Raises:
            RuntimeError: the function has not been called.
        """
        if not self.specialisations:
            raise RuntimeError(f"{self.name} has not been called yet, so there is nothing to show")
        found: Recording = self.specialisations[-1].recording
        return found

    def ir(self, stage: str = "opt") -> str:
        """The text of a stage: trace, joint, opt, fused, memory, kernel, llvm or asm."""
        return self.report().text(stage)

    def kernels(self) -> list[Any]:
        """The kernels of the newest specialisation, as loop IR."""
        return self.report().kernels()

    def modules(self) -> list[ModuleType]:
        """The newest specialisation's kernels as Python modules, to set breakpoints in.

        There is one module, or there are two: forward, and the backward that runs outside of it.
        With `TAUT_KERNELS=python` their functions are what runs.

        Raises:
            RuntimeError: the function has not been called, or is machine code from the start.
        """
        self.recording()
        found = [e.module for e in self.specialisations[-1].executables]
        modules = [module for module in found if module is not None]
        if not modules:
            raise RuntimeError(
                f"{self.name} was not compiled from Python: set TAUT_KERNELS=python to run its "
                "kernels as Python, or backend='numba' to have Numba compile them"
            )
        return modules

    def stats(self) -> dict[str, int]:
        """How often it was traced and called, and the native calls that the programs counted."""
        forms = self.specialisations
        return {
            "traces": len(forms),
            "calls": sum(s.counter.count for s in forms),
            "native_calls": sum(s.native_calls for s in forms),
        }

    def guards(self) -> list[str]:
        """What the newest specialisation assumes of named sizes, and which line made it."""
        sizes = self.recording().sizes
        return [str(guard) for guard in (*sizes.equal, *sizes.guards)]

    def graph(self) -> Graph:
        """The recorded graph of the newest specialisation."""
        return self.recording().graph


def size_name(argument: str) -> str:
    """The name of an argument's first dimension."""
    return f"{argument}_0"


def _leaf(value: Any, name: str, lift_floats: bool, sizes: Sizes) -> Leaf:
    if isinstance(value, Aval):
        return Leaf(None, name, value)
    if isinstance(value, TensorBase):
        shape: Shape = shape_of(value)
        if size_name(name) in sizes.actual:
            shape = (sizes.named(size_name(name)), *shape[1:])
        return Leaf(value, name, Aval(value.dtype, shape))
    if type(value) is float and lift_floats:
        return Leaf(value, name, SCALAR)
    return Leaf(value, name, None)


def static_key(leaf: Any) -> Any:
    """A key for an argument that is no tensor: its value if it is plain, else its identity."""
    if isinstance(leaf, (bool, int, str, bytes, type(None))):
        return (type(leaf), leaf)
    return _Identity(leaf)


class _Identity:
    """Compares an object by identity, and keeps it alive so that the identity stays its own."""

    __slots__ = ("target",)

    def __init__(self, target: Any) -> None:
        self.target = target

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.target is other.target

    def __hash__(self) -> int:
        return id(self.target)
