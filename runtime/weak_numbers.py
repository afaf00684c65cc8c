"""A pass of Numba's compiler: the numbers in a function take the dtype of the tensors.

Numba computes `x + 1` and `x * 0.5` of a float32 in float64, as NumPy 1 did with arrays of them.
Tensors do not, and nor does a function that runs on their elements: where a Python number meets a
float32, it is one, too.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from importlib import import_module
from types import CodeType
from typing import Any

import numpy as np

ir: Any = import_module("numba.core.ir")
ir_utils: Any = import_module("numba.core.ir_utils")
types: Any = import_module("numba.core.types")
passes: Any = import_module("numba.core.typed_passes")
compiler: Any = import_module("numba.core.compiler")
machinery: Any = import_module("numba.core.compiler_machinery")

_MEETING = frozenset(
    getattr(operator, name)
    for stem in ("add", "sub", "mul", "truediv", "floordiv", "mod")
    for name in (stem, f"i{stem}")
) | {operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne}
_CHOOSING = (max, min)
_KNOWN = (ir.Const, ir.Global, ir.FreeVar)


def weak(value: Any) -> Any:
    """A float, or the floats of a tuple or of code, as float32; anything else as it is."""
    if type(value) is float:
        with np.errstate(over="ignore"):
            return np.float32(value)
    if type(value) is tuple:
        return tuple(map(weak, value))
    if isinstance(value, CodeType):
        return value.replace(co_consts=weak(value.co_consts))
    return value


@machinery.register_pass(mutates_CFG=False, analysis_only=False)
class _WeakIntegers(machinery.FunctionPass):  # type: ignore[misc]  # Numba ships no types
    """Makes integers that meet a float32 float32, too; Numba infers all types afterwards."""

    _name = "taut_weak_integers"

    def __init__(self) -> None:
        machinery.FunctionPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """Changes the constants of `state.func_ir`; whether it did."""
        try:
            inferred = passes.type_inference_stage(
                state.typingctx, state.targetctx, state.func_ir, state.args, None
            )
        except Exception:  # noqa: BLE001  # the inference that follows reports it
            return False
        changed = [_replaced(state.func_ir, inferred.typemap, b) for b in _blocks(state.func_ir)]
        return any(changed)


class WeakCompiler(compiler.CompilerBase):  # type: ignore[misc]  # as above
    """Numba's compiler with the pass before type inference."""

    def define_pipelines(self) -> list[Any]:
        """The passes, in order."""
        made = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        made.add_pass_after(
            _WeakIntegers, import_module("numba.core.untyped_passes").ReconstructSSA
        )
        made.finalize()
        return [made]


def _blocks(func_ir: Any) -> list[Any]:
    return list(func_ir.blocks.values())


def _replaced(func_ir: Any, typemap: Any, block: Any) -> bool:
    """Gives the expressions of a block new operands; whether there are any."""
    body, changed = [], False
    for statement in block.body:
        expression = getattr(statement, "value", None)
        if isinstance(statement, ir.Assign) and isinstance(expression, ir.Expr):
            constant = _module_constant(typemap, expression)
            if constant is not None:
                statement.value, changed = ir.Const(constant, statement.loc), True
            for constant in _weakened(func_ir, typemap, expression, statement):
                body.append(constant)
                changed = True
        body.append(statement)
    block.body = body
    return changed


def _module_constant(typemap: Any, expression: Any) -> Any:
    """The number that `math.pi` and its like are, as float32."""
    of = typemap.get(expression.value.name) if expression.op == "getattr" else None
    value = getattr(of.pymod, expression.attr, None) if isinstance(of, types.Module) else None
    return np.float32(value) if type(value) is float else None


def _weakened(func_ir: Any, typemap: Any, expression: Any, statement: Any) -> Iterator[Any]:
    """Assignments of the constants that replace operands of an expression, which changes."""
    operands = _operands(func_ir, expression)
    if not any(isinstance(typemap.get(o.name), types.Float) for o in operands):
        return
    for operand in operands:
        number = _integer(func_ir, operand)
        if number is not None:
            scope, loc = statement.target.scope, statement.loc
            name = scope.redefine("weak", loc).name
            fresh = scope.get_exact(name)
            constant = ir.Const(np.float32(number), loc)
            func_ir._definitions[name].append(constant)
            ir_utils.replace_vars_inner(expression, {operand.name: fresh})
            yield ir.Assign(constant, fresh, loc)


def _operands(func_ir: Any, expression: Any) -> list[Any]:
    if expression.op in ("binop", "inplace_binop") and expression.fn in _MEETING:
        return [expression.lhs, expression.rhs]
    if expression.op == "call" and not expression.kws:
        callee = func_ir.get_definition(expression.func)
        if isinstance(callee, _KNOWN) and callee.value in _CHOOSING:
            return list(expression.args)
    return []


def _integer(func_ir: Any, operand: Any) -> int | None:
    """The integer that an operand always is."""
    try:
        found = func_ir.get_definition(operand)
    except KeyError:
        return None
    value = getattr(found, "value", None) if isinstance(found, _KNOWN) else None
    return value if type(value) is int else None
