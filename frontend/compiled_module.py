"""A compiled module: the same object in all but its call.

Its `state_dict` keys stay what they were.
"""

from __future__ import annotations

from typing import Any

from .compiled_function import CompiledFunction, CompileOptions
from .nn.module import Module


def compiled_module(module: Module, options: CompileOptions) -> Any:
    """A module of the same class, attributes and state as `module`, whose call is compiled."""
    cls = type(module)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.__dict__["_compiled_call"](*args, **kwargs)

    made: Any = object.__new__(
        type(cls.__name__, (cls,), {"__call__": call, "__module__": cls.__module__})
    )
    made.__dict__ = module.__dict__
    module.__dict__["_compiled_call"] = CompiledFunction(
        module.__call__, options, named_after=module
    )
    return made
