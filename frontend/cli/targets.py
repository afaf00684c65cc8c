"""What a target names: a function in a Python file or module, or IR text in a file or on stdin."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ...compiler.errors import IRError, ParseError
from ...compiler.ir import Graph
from ...compiler.text.lexer import suggestion
from .group import UserError
from .user_code import user_code

FORMS = "file.py:function, package.module:object, file.ir, or - for IR text on stdin"


def is_text(target: str) -> bool:
    """Whether the target is IR text rather than Python."""
    return target == "-" or target.endswith(".ir")


def read_graphs(target: str) -> tuple[Graph, ...]:
    """The graphs of a `.ir` file, or of stdin.

    Raises:
        UserError: there is no such file, the text cannot be read (the error names the place), or a
            graph is not well formed.
    """
    from ...compiler.verify import verify
    from ..report import parse_graphs

    name = "<stdin>" if target == "-" else Path(target).name
    try:
        return tuple(map(verify, parse_graphs(_read(target), name)))
    except ParseError as error:
        raise UserError(str(error)) from error
    except IRError as error:
        raise UserError(f"{name}: {error}") from error


def _read(target: str) -> str:
    if target != "-":
        _require_file(Path(target))
    try:
        return sys.stdin.read() if target == "-" else Path(target).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {target}: {error}") from error


def _require_file(path: Path) -> None:
    if path.is_file():
        return
    if path.is_dir():
        raise UserError(f"{path} is a folder; a target is {FORMS}")
    near = [p.name for p in path.parent.glob(f"*{path.suffix}")] if path.parent.is_dir() else []
    raise UserError(f"there is no file {path}{suggestion(path.name, near)}")


def find_object(target: str) -> Any:
    """The Python object that a target names; its file is imported, as a module.

    Raises:
        UserError: there is no such file, module or object, or importing it raises.
    """
    place, colon, path = target.rpartition(":")
    if not colon:
        place, path = target, ""
    is_file = place.endswith(".py") or "/" in place
    if not path and not is_file and not colon and "." not in place:
        raise UserError(f"{target!r} is no target; a target is {FORMS}")
    module = _import_file(Path(place)) if is_file else _import_module(place)
    if not path:
        names = ", ".join(_functions(module)) or "none"
        raise UserError(f"which function of {place}? Say {place}:name; there are: {names}")
    return _attribute(module, place, path)


def _import_file(path: Path) -> ModuleType:
    """Imports a file, its folder in front of the search path as `python file.py` has it."""
    _require_file(path)
    name = path.stem if path.stem not in sys.modules else f"taut_target_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    with user_code(f"importing {path}"):
        spec.loader.exec_module(module)
    return module


def _import_module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    with user_code(f"importing {name}"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module is there, and lacks another
            raise UserError(f"no module is called {error.name!r}") from error


def _attribute(module: ModuleType, place: str, path: str) -> Any:
    found: Any = module
    walked = place
    for name in path.split("."):
        if not hasattr(found, name):
            hint = suggestion(name, dir(found))
            if not hint and found is module:
                hint = f"; its functions are: {', '.join(_functions(module)) or 'none'}"
            raise UserError(f"{walked} has no {name!r}{hint}")
        found, walked = getattr(found, name), f"{walked}.{name}"
    return found


def _functions(module: ModuleType) -> list[str]:
    """Names of the module's own functions, compiled ones first."""
    from ..compiled_function import CompiledFunction

    own = {k: v for k, v in vars(module).items() if not k.startswith("_") and callable(v)}
    own = {k: v for k, v in own.items() if getattr(v, "__module__", None) == module.__name__}
    return sorted(own, key=lambda name: not isinstance(own[name], CompiledFunction))
