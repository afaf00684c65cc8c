"""What belongs to a module: parameters, buffers and child modules, assigned as attributes."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any
from weakref import ref

from ..announce import announce
from ..context import current
from ..core import structure_changed
from ..functions.dtype_names import LEGACY_NAMES
from ..tensor import Tensor
from .hooks import Hooks
from .parameter import Buffer, Parameter

if TYPE_CHECKING:
    from ..trace import Trace
    from .module import Module


_NOTHING = object()


def _never() -> None:
    """The trace of a module that was made in none."""


def typename(value: object) -> str:
    """A value's type as PyTorch's messages spell it: `torch.FloatTensor`, `numpy.ndarray`."""
    if isinstance(value, Tensor):
        return f"torch.{LEGACY_NAMES[value.dtype.long_name]}Tensor"
    kind = type(value)
    name = kind.__qualname__
    return name if kind.__module__ in ("builtins", "") else f"{kind.__module__}.{name}"


class Registry:
    """The attributes of a module, sorted by what they are.

    Every change tells compiled functions to look again at what they found (`structure_changed`).

    Attributes:
        training: whether layers such as dropout behave as in training.
    """

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _non_persistent_buffers_set: set[str]
    _forward_hooks: Hooks
    _forward_pre_hooks: Hooks
    _state_dict_hooks: Hooks
    _state_dict_pre_hooks: Hooks
    _load_state_dict_pre_hooks: Hooks
    _load_state_dict_post_hooks: Hooks

    def __init__(self) -> None:
        self.__dict__.update(
            training=True,
            _parameters={},
            _buffers={},
            _modules={},
            _non_persistent_buffers_set=set(),
            _forward_hooks=Hooks(),
            _forward_pre_hooks=Hooks(),
            _state_dict_hooks=Hooks(),
            _state_dict_pre_hooks=Hooks(),
            _load_state_dict_pre_hooks=Hooks(),
            _load_state_dict_post_hooks=Hooks(),
        )
        trace = current().trace
        if trace is not None:
            self.__dict__["_born"] = ref(trace)

    def _made_in(self, trace: Trace) -> bool:
        return self.__dict__.get("_born", _never)() is trace

    def _note(self, trace: Trace) -> None:
        """Lets a trace remember what it may have read here, so that a change of it is noticed."""
        if not self._made_in(trace):
            trace.note_module(self)

    def _changing(self, name: str, value: Any = _NOTHING) -> None:
        """Announces a change; in a trace, only what is made there may change."""
        trace, own = current().trace, self.__dict__
        if trace is None:
            structure_changed()
            return
        if "_parameters" in own and not self._made_in(trace) and self._held(name) is not value:
            announce(f"{type(self).__name__}.{name}")

    def _held(self, name: str) -> Any:
        """What the attribute is; a write in place (`self.count += 1`) assigns just that again."""
        own = self.__dict__
        for room in ("_parameters", "_buffers", "_modules"):
            if name in own[room]:
                return own[room][name]
        return own.get(name, _NOTHING)

    # --- by name ------------------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Adds a parameter, or reserves its name with None.

        Raises:
            KeyError: the name is empty, dotted or taken.
            TypeError: `param` is no Parameter.
            ValueError: it has a history.
        """
        self._require_name("parameter", name, self._room("_parameters", "parameter"))
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{typename(param)}' object to parameter '{name}' "
                "(torch.nn.Parameter or None required)"
            )
        if param is not None and param.entry is not None:
            raise ValueError(
                f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be "
                f"created explicitly. To express '{name}' as a function of another Tensor, compute "
                "the value in the forward() method."
            )
        self._changing(name, param)
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a tensor that is state but not trained; a persistent one is part of `state_dict()`.

        Raises:
            KeyError: the name is empty, dotted or taken.
            TypeError: `tensor` is no tensor.
        """
        self._require_name("buffer", name, self._room("_buffers", "buffer"))
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{typename(tensor)}' object to buffer '{name}' "
                "(torch Tensor or None required)"
            )
        self._changing(name, tensor)
        self._buffers[name] = tensor
        hidden = self._non_persistent_buffers_set
        (hidden.discard if persistent else hidden.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Adds a child module.

        Raises:
            KeyError: the name is empty, dotted or taken.
            TypeError: `module` is no Module.
        """
        if module is not None and not isinstance(module, Registry):
            raise TypeError(f"{typename(module)} is not a Module subclass")
        self._require_name("module", name, self._modules)
        self._changing(name, module)
        self._modules[name] = module

    register_module = add_module

    def _room(self, room: str, what: str) -> dict[str, Any]:
        found: dict[str, Any] | None = self.__dict__.get(room)
        if found is None:
            raise AttributeError(f"cannot assign {what} before Module.__init__() call")
        return found

    def _require_name(self, what: str, name: object, known: MutableMapping[str, Any]) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string. Got {typename(name)}")
        if name not in known and hasattr(self, name):
            raise KeyError(f"attribute '{name}' already exists")
        if "." in name:
            raise KeyError(
                f'{what} name can\'t contain "."' + (f", got: {name}" if what == "module" else "")
            )
        if not name:
            raise KeyError(f'{what} name can\'t be empty string ""')

    # --- as attributes ------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        if "_parameters" in own:
            trace = current().trace
            if trace is not None:
                self._note(trace)
            if name in own["_parameters"]:
                return own["_parameters"][name]
            if name in own["_modules"]:
                return own["_modules"][name]
            if name in own["_buffers"]:
                return own["_buffers"][name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        self._changing(name, value)
        own = self.__dict__
        if isinstance(value, Parameter):
            self._room("_parameters", "parameters")
            self._forget(name, "_parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Registry):
            self._room("_modules", "module")[name] = value
            self._forget(name, "_modules")
        elif isinstance(value, Buffer) or ("_buffers" in own and name in own["_buffers"]):
            self._set_buffer(name, value)
        elif "_parameters" in own and name in own["_parameters"]:
            self._clear(own["_parameters"], "parameter", "torch.nn.Parameter or None", name, value)
        elif "_modules" in own and name in own["_modules"]:
            self._clear(own["_modules"], "child module", "torch.nn.Module or None", name, value)
        else:
            object.__setattr__(self, name, value)

    def _set_buffer(self, name: str, value: Any) -> None:
        self._room("_buffers", "buffer")
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(
                f"cannot assign '{typename(value)}' as buffer '{name}' "
                "(torch.nn.Buffer, torch.Tensor or None expected)"
            )
        known = name not in self._non_persistent_buffers_set
        self._forget(name, "_buffers")
        self.register_buffer(name, value, getattr(value, "persistent", known))

    @staticmethod
    def _clear(room: dict[str, Any], what: str, wanted: str, name: str, value: Any) -> None:
        if value is not None:
            raise TypeError(
                f"cannot assign '{typename(value)}' as {what} '{name}' ({wanted} expected)"
            )
        room[name] = None

    def _forget(self, name: str, but: str) -> None:
        """Removes a name from every room but one, so that it means one thing."""
        own = self.__dict__
        own.pop(name, None)
        for room in ("_parameters", "_buffers", "_modules"):
            if room != but:
                own[room].pop(name, None)
        if but != "_buffers":
            own["_non_persistent_buffers_set"].discard(name)

    def __delattr__(self, name: str) -> None:
        self._changing(name)
        for room in (self._parameters, self._buffers, self._modules):
            if name in room:
                del room[name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = [*object.__dir__(self), *self._parameters, *self._modules, *self._buffers]
        return sorted(name for name in names if not name[0].isdigit())
