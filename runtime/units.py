"""Units: the parts of a program whose machine code other programs can use.

A unit is a function that is not internal: a kernel, a product.  It is linked to others by name, and
its text says nothing of its program: its parameters are numbered, and its name follows from what it
does.  Programs that have a kernel in common have the very same text of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_PART = re.compile(r"^(?=define |declare |@|!)", re.MULTILINE)
_NAMED = re.compile(r'@(?:"([^"]+)"|([\w.$-]+))')
_LOCAL = re.compile(r'%"([^"]+)"')
_METADATA = re.compile(r"!\d+")
_INTERNAL = re.compile(r"define internal |@\S+ = internal ")


@dataclass(frozen=True)
class Unit:
    """A function, with the internal ones that it needs.

    Attributes:
        symbol: its name.
        defined: the text of each of these functions, and of the constants that they use.
        declared: for each function that they call beyond these the line that declares it.
    """

    symbol: str
    defined: Mapping[str, str]
    declared: Mapping[str, str]

    @property
    def needs(self) -> frozenset[str]:
        """The functions that it is linked to, LLVM's own left out."""
        return frozenset(name for name in self.declared if not name.startswith("llvm."))


def units_of(text: str, entry: str) -> list[Unit]:
    """The units of a module in LLVM text; the entry, which keeps its name, comes last.

    Raises:
        KeyError: the text uses a name that it neither defines nor declares.
    """
    parts = _PART.split(text)[1:]
    metadata = dict(part.rstrip().split(" = ", 1) for part in parts if part.startswith("!"))
    inlined = (_inlined(part, metadata) for part in parts if not part.startswith("!"))
    splitter = _Splitter({_name(part): part for part in inlined})
    splitter.unit(entry, entry)
    return list(splitter.units.values())


def module_of(units: Iterable[Unit]) -> str:
    """The text of a module of some units, whatever the machine."""
    defined: dict[str, str] = {}
    declared: dict[str, str] = {}
    for unit in units:
        defined.update(unit.defined)
        declared.update(unit.declared)
    others = [line for name, line in declared.items() if name not in defined]
    return "".join([*others, *defined.values()])


class _Splitter:
    def __init__(self, parts: Mapping[str, str]) -> None:
        self._parts = parts
        self.units: dict[str, Unit] = {}

    def unit(self, name: str, symbol: str | None = None) -> str:
        """The symbol of the unit called `name` in the module, once it and its needs are known."""
        if name in self.units:
            return self.units[name].symbol
        own, others = self._reached(name)
        symbols = {o: o if self._is_declared(o) else self.unit(o) for o in others}
        texts = {part: _renamed(self._parts[part], symbols) for part in own}
        symbol = symbol or _symbol_of(name, texts.values())
        texts[name] = texts[name].replace(_quoted(name), _quoted(symbol))
        declared = {symbols[o]: _declaration(self._parts[o], symbols) for o in others}
        defined = {symbol if part == name else part: text for part, text in texts.items()}
        self.units[name] = Unit(symbol, defined, declared)
        return symbol

    def _reached(self, name: str) -> tuple[list[str], list[str]]:
        """What becomes part of a unit, its own function first, and what it is linked to."""
        own, others, stack = [name], dict[str, None](), [name]
        while stack:
            for found in dict.fromkeys(map(_matched, _NAMED.finditer(self._parts[stack.pop()]))):
                if not _INTERNAL.match(self._parts[found]):
                    others[found] = None
                elif found not in own:
                    own.append(found)
                    stack.append(found)
        return own, [other for other in others if other != name]

    def _is_declared(self, name: str) -> bool:
        return self._parts[name].startswith("declare ")


def _matched(match: re.Match[str]) -> str:
    return match[1] or match[2]


def _name(part: str) -> str:
    """What a part defines or declares."""
    match = _NAMED.search(part)
    assert match is not None
    return _matched(match)


def _inlined(part: str, metadata: Mapping[str, str]) -> str:
    """A part with metadata in place of their numbers, which are the module's."""
    return _METADATA.sub(lambda m: metadata[m[0]], part) if metadata else part


def _quoted(name: str) -> str:
    return f'@"{name}"'


def _renamed(part: str, symbols: Mapping[str, str]) -> str:
    """A part with its parameters numbered, and other units under their symbols."""
    head = part.partition("\n")[0]
    numbered = {name: f'%"p.{i}"' for i, name in enumerate(_LOCAL.findall(head))}
    if numbered:
        part = _LOCAL.sub(lambda found: numbered.get(found[1], found[0]), part)
    return _NAMED.sub(lambda m: _quoted(symbols.get(_matched(m), _matched(m))), part)


def _declaration(part: str, symbols: Mapping[str, str]) -> str:
    """What declares a function in a module that does not define it."""
    head = part.partition("\n")[0].replace("define ", "declare ", 1)
    return _renamed(_LOCAL.sub("", head), symbols).rstrip(" {") + "\n"


def _symbol_of(name: str, texts: Iterable[str]) -> str:
    """A name that units share which do the same."""
    body = "".join(texts).replace(_quoted(name), "")
    return f"taut.unit.{hashlib.sha256(body.encode()).hexdigest()[:32]}"
