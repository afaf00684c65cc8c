"""`--arg name=value`: types, arrays and numbers for a function's parameters.

x=f32[64,8]       a tensor of a type; sizes may be names, or expressions: f32[B,2*B]
x=@x.npy          a tensor read from a NumPy file
lr=0.1            a float: a scalar at run time
n=3 flag=true     integers, words (true, false, none) and quoted 'text': part of the program
pair=(f32[8],3)   tuples, lists and dicts of all these
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ...compiler import dtypes
from ...compiler.aval import Aval, Dim, dim_symbols, parse_dim
from ...compiler.text.lexer import suggestion
from ...compiler.text.terms import DTYPES, WORDS
from .group import UserError

_SCALAR_TYPE = re.compile(r"\b([A-Za-z_]\w*)\[\s*\]")
_FORMS = "give a type (f32[64,8]), an array (@x.npy), a number, true, false, none, or quoted 'text'"
EXAMPLE_TYPE = "f32[64,8]"


class UnreadableError(Exception):
    """A value that cannot be read; the message says why."""


def parse_arguments(
    texts: Sequence[str], is_name: Callable[[str], bool] = str.isidentifier
) -> dict[str, Any]:
    """The values of all `--arg` options, by parameter.

    Args:
        texts: the options.
        is_name: whether a parameter can be called so.

    Raises:
        click.UsageError: an option has no such form.
        UserError: a file cannot be read.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not is_name(name):
            raise click.UsageError(f"--arg {text}: expected name=value, such as x={EXAMPLE_TYPE}")
        if name in values:
            raise click.UsageError(f"--arg {text}: {name!r} is given twice")
        try:
            values[name] = parse_value(value.strip())
        except UnreadableError as problem:
            raise click.UsageError(f"--arg {text}: {problem}") from None
    return values


def parse_value(text: str) -> Any:
    """A value: an Aval, a tensor, or a Python object.

    Raises:
        UnreadableError: the text has none of the forms.
        UserError: a file cannot be read.
    """
    if text.startswith("@"):
        return _read_array(text[1:])
    try:
        tree = ast.parse(_SCALAR_TYPE.sub(r"\1[()]", text), mode="eval").body
    except (SyntaxError, ValueError):
        raise UnreadableError(f"cannot read {text!r}; {_FORMS}") from None
    return _value(tree)


def _value(tree: ast.expr) -> Any:
    match tree:
        case ast.Tuple(elts=items):
            return tuple(map(_value, items))
        case ast.List(elts=items):
            return list(map(_value, items))
        case ast.Dict(keys=keys, values=items) if all(keys):
            return {_value(k): _value(v) for k, v in zip(keys, items, strict=True) if k}
        case ast.Subscript(value=ast.Name(id=dtype), slice=sizes):
            return _type(dtype, sizes)
    return _scalar(tree)


def _scalar(tree: ast.expr) -> Any:
    match tree:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return tree.value
        case ast.Name(id=word):
            return _word(word)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            number = _scalar(operand)
            if type(number) in (int, float):
                return -number
    raise UnreadableError(f"cannot read {ast.unparse(tree)!r}; {_FORMS}")


def _word(word: str) -> Any:
    if word in DTYPES:
        raise UnreadableError(f"{word} alone is no type; a scalar tensor is {word}[]")
    if word not in WORDS:
        hint = suggestion(word, WORDS) or f"; {_FORMS}"
        raise UnreadableError(f"cannot read {word!r}{hint}")
    return WORDS[word]


def _type(dtype: str, sizes: ast.expr) -> Aval:
    known = {name: d for d in dtypes.ALL for name in (d.name, d.long_name)}
    if dtype not in known:
        raise UnreadableError(f"unknown dtype {dtype!r}{suggestion(dtype, known)}")
    items = sizes.elts if isinstance(sizes, ast.Tuple) else [sizes]
    return Aval(known[dtype], tuple(_size(ast.unparse(item)) for item in items))


def _size(text: str) -> Dim:
    try:
        size = parse_dim(text)
    except ValueError:
        raise UnreadableError(f"not a size: {text!r}") from None
    if isinstance(size, int) and size < 0:
        raise UnreadableError(f"a size cannot be negative, got {size}")
    reserved = sorted(dim_symbols(size) & WORDS.keys())
    if reserved:
        raise UnreadableError(f"{reserved[0]!r} means something else, so no size can be called so")
    return size


def _read_array(path: str) -> Any:
    import numpy as np

    from ..create import from_numpy

    try:
        return from_numpy(np.load(Path(path), allow_pickle=False))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, TypeError, AttributeError, EOFError) as error:
        raise UserError(f"{path} is not an array that taut can use: {error}") from error
