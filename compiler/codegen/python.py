"""The Python back end: a scheduled program as one readable Python module.

The text is the program, whoever runs it: Numba compiles it into one native function
(`backend="numba"`), or Python runs it as it stands (`TAUT_KERNELS=python`), line by line under a
debugger if you like.  A module for `relu(x + 1)` on eight numbers:

    @kernel
    def relu(x, out):
        ...

    @entry
    def program(table):
        words = array(table, 3, np.int64)
        words[0] += 1
        x = array(words[1], 8, np.float32)  # f32[8], input 0
        out = array(words[2], 8, np.float32)  # f32[8], output 0
        relu(x, out)
        return 0

The runtime puts into the module: `kernel` and `entry`, which compile (or leave alone) what they
decorate; `array(address, count, dtype)`, memory seen as a flat array; `matrix(buffer, start, rows,
columns)`, a part of one seen as a matrix; and the native functions `taut_*`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..schedule.program import (
    Buffer,
    Program,
    RunBlocks,
    RunCall,
    RunCheck,
    RunCopy,
    RunKernel,
    RunMatmul,
    RunSweep,
    Step,
    parts,
)
from .python_kernel import INDENT, functions_of, helpers_of, kernel_source
from .python_matmul import BATCHES, PRODUCT, helpers_of_matmul, matmul_source
from .python_text import Names, dim_text, signature_text, type_text
from .spec import ProgramSpec, TableLayout, layout_of

ENTRY = "program"

_HEAD = '''\
"""{signature}

{origin}"""

import math

import numpy as np
'''

_REMAINDER = '''\
@kernel
def remainder(x, y):
    """x - y * floor(x / y) of integers; 0 where the processor's division would trap."""
    if y == 0 or y == -1:
        return x - x
    return np.remainder(x, y)
'''

_FLOAT_REMAINDER = '''\
@kernel
def float_remainder(x, y):
    """x - y * floor(x / y) of floats; a zero has the sign of x."""
    rest = np.fmod(x, y)
    if rest != 0 and (rest < 0) != (y < 0):
        return rest + y
    return rest
'''

_QUOTIENT = '''\
@kernel
def quotient(x, y):
    """floor(x / y) of integers; 0 for y = 0, and the smallest number by -1 wraps."""
    if y == 0:
        return x - x
    if y == -1:
        return -x
    return x // y
'''

_COPY = '''\
@kernel
def copy(source, target):
    """Fills `target`, or its beginning if it is longer."""
    for i in range(source.size):
        target[i] = source[i]
'''

_PRELUDE = {
    "copy": _COPY,
    "float_remainder": _FLOAT_REMAINDER,
    "product": PRODUCT,
    "quotient": _QUOTIENT,
    "remainder": _REMAINDER,
}


def emit_python(program: Program) -> ProgramSpec:
    """The program as a Python module.

    Raises:
        CompileError: a kernel holds a primitive that is not elementwise.
    """
    return ProgramSpec(
        name=program.name,
        backend="numba",
        source=_ModulePrinter(program).module(),
        entry=ENTRY,
        externs=tuple(_externs(program)),
        inputs=program.inputs,
        outputs=program.outputs,
        donations=program.donations,
        slots=program.slots,
        symbols=program.symbols,
        checks=program.checks,
    )


def _externs(program: Program) -> dict[str, None]:
    """What the module needs: native functions, and those that users wrote."""
    functions = [name for kernel in program.kernels for name in functions_of(kernel)]
    return dict.fromkeys([*(call.symbol for call in _calls(program)), *functions])


def _calls(program: Program) -> Iterator[RunCall]:
    return (step for step in program.steps if isinstance(step, RunCall))


def _used_buffers(program: Program) -> list[int]:
    used: set[int] = set()
    for step in program.parts:
        match step:
            case RunKernel() | RunCall():
                used.update(step.buffers)
            case RunMatmul():
                used.update((step.x.buffer, step.y.buffer, step.out.buffer))
            case RunCopy():
                used.update((step.source, step.target))
            case RunCheck():
                used.add(step.buffer)
    return sorted(used)


class _ModulePrinter:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.layout: TableLayout = layout_of(program)
        self.helpers = self._needed_helpers()
        names = Names([*_PRELUDE, *BATCHES, *_externs(program)])
        self.kernels = {kernel: names.fresh(kernel.name) for kernel in program.kernels}
        self.sizes = {symbol: names.fresh(symbol) for symbol in program.symbols}
        self.buffers = [names.fresh(buffer.name) for buffer in program.buffers]

    def _needed_helpers(self) -> list[str]:
        needed = {"copy"} if any(isinstance(s, RunCopy) for s in self.program.steps) else set()
        matmuls = (s for s in self.program.parts if isinstance(s, RunMatmul))
        needed.update(*map(helpers_of_matmul, matmuls), *map(helpers_of, self.program.kernels))
        return sorted(needed)

    def module(self) -> str:
        parts = [self._head(), *(_PRELUDE[name] for name in self.helpers)]
        parts += [kernel_source(kernel, name, [*_PRELUDE]) for kernel, name in self.kernels.items()]
        return "\n\n".join([*parts, self._entry()])

    def _head(self) -> str:
        p = self.program
        lines = dict.fromkeys(str(loc) for kernel in p.kernels for loc in kernel.locs)
        origin = "".join(["Lines:\n", *(f"    {line}\n" for line in lines)]) if lines else ""
        text = _HEAD.format(signature=signature_text(p.name, p.inputs, p.outputs), origin=origin)
        return text.replace("\\", "/")

    def _entry(self) -> str:
        lines = [f"words = array(table, {self.layout.words}, np.int64)", "words[0] += 1"]
        sizes = zip(self.sizes.values(), self.layout.symbols, strict=True)
        lines += [f"{name} = int(words[{word}])" for name, word in sizes]
        lines += [self._buffer(number) for number in _used_buffers(self.program)]
        for step in self.program.steps:
            lines += self._step(step)
        lines += ["return 0"]
        return (
            "\n".join([f"@entry\ndef {ENTRY}(table):", *(INDENT + line for line in lines)]) + "\n"
        )

    def _buffer(self, number: int) -> str:
        buffer = self.program.buffers[number]
        count, dtype = dim_text(buffer.aval.size, self.sizes), type_text(buffer.aval.dtype)
        text = f"{self.buffers[number]} = array(words[{self._word(buffer)}], {count}, {dtype})"
        return f"{text}  # {buffer.aval}, {buffer.kind} {buffer.position}"

    def _word(self, buffer: Buffer) -> int:
        """Where the table holds the buffer's address; a donated output has its input's."""
        if buffer.kind == "temp":
            return self.layout.slots[buffer.position]
        if buffer.kind == "input":
            return self.layout.inputs[buffer.position]
        word, donated = (
            self.layout.outputs[buffer.position],
            self.program.donations[buffer.position],
        )
        return word if word is not None else self.layout.inputs[donated or 0]

    def _step(self, step: Step) -> list[str]:
        match step:
            case RunKernel():
                return [self._run(step)]
            case RunSweep() | RunBlocks():
                return self._several(step)
            case RunMatmul():
                return matmul_source(step, self.buffers, self.sizes)
            case RunCall():
                return [self._call(step)]
            case RunCopy():
                target = self.buffers[step.target]
                if step.offset != 0:
                    target += f"[{dim_text(step.offset, self.sizes)}:]"
                return [f"copy({self.buffers[step.source]}, {target})"]
            case RunCheck():
                message = " ".join(self.program.checks[step.number].split())
                condition = f"if not {self.buffers[step.buffer]}[0]:  # {message}"
                return [condition, f"{INDENT}return {step.number + 1}"]

    def _several(self, step: RunSweep | RunBlocks) -> list[str]:
        """The parts one after the other: the text shows what runs, not in which blocks."""
        lines = [line for part in parts(step) for line in self._step(part)]
        if isinstance(step, RunSweep):
            lines.insert(0, f"# a sweep over {len(step.runs)} segments")
        return lines

    def _run(self, run: RunKernel) -> str:
        buffers = [self.buffers[number] for number in run.buffers]
        sizes = [dim_text(size, self.sizes) for size in run.arguments]
        return f"{self.kernels[run.kernel]}({', '.join([*buffers, *sizes])})"

    def _call(self, step: RunCall) -> str:
        pointers = [f"{self.buffers[number]}.ctypes" for number in step.buffers]
        integers = [dim_text(n, self.sizes) for n in step.integers]
        floats = [repr(float(value)) for value in step.floats]
        return f"{step.symbol}({', '.join([*pointers, *integers, *floats])})"
