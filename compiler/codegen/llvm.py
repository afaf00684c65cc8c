"""The LLVM back end: a scheduled program as LLVM text.

    i32 @taut_program(ptr %table)     counts the call, runs the steps, returns 0 or a check's number
    void @step.NAME(ptr %table, ...)  what several steps do, each with words of the table of its own
    void @sweep.NAME(ptr %table)      calls a kernel for each segment of a sweep
    void @kernel.NAME(...)            one function for each distinct kernel
    ... @taut.NAME(...)               what products and vector mathematics need

The text depends on nothing but the program and the target.  Addresses come from the table when the
program runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from llvmlite import ir

from ..aval import Dim
from ..schedule.blocks import blocks_of
from ..schedule.loops import Kernel
from ..schedule.program import (
    Program,
    RunBlocks,
    RunCall,
    RunCheck,
    RunCopy,
    RunKernel,
    RunMatmul,
    RunSweep,
    Simple,
    Step,
    kernel_runs,
    parts,
)
from ..target import Target
from .flatten import flatten
from .llvm_control import Carried, Number, Sizes, add, as_value, larger, loop, multiply, smaller
from .llvm_kernel import declare_kernel, emit_kernel, first_extent
from .llvm_matmul import Products
from .llvm_ops import Operations
from .llvm_sweep import Segment, emit_sweep
from .llvm_values import F64, I1, I8, I32, I64, POINTER, VOID, constant, index, intrinsic
from .spec import ProgramSpec, layout_of

ENTRY = "taut_program"


def emit_llvm(program: Program, target: Target) -> ProgramSpec:
    """The program as LLVM IR for one kind of machine.

    Raises:
        CompileError: a kernel cannot be expressed with its lanes, or a step calls what this back
        end does not have.
    """
    module = ir.Module(name=program.name)
    module.triple, module.data_layout = target.triple, target.data_layout
    emitter = _ProgramEmitter(module, program, target)
    emitter.run()
    functions = emitter.operations.functions.called
    needed = {f.name for f in module.functions if f.is_declaration}
    needed = needed.union(*(f.externs for f in functions.values()))
    defined = {f.name for f in module.functions if not f.is_declaration} | functions.keys()
    externs = needed - defined
    return ProgramSpec(
        name=program.name,
        backend="llvm",
        source=str(module),
        entry=ENTRY,
        externs=tuple(sorted(n for n in externs if not n.startswith("llvm."))),
        inputs=program.inputs,
        outputs=program.outputs,
        donations=program.donations,
        slots=program.slots,
        symbols=program.symbols,
        checks=program.checks,
        modules=tuple(f.module for f in functions.values()),
    )


@dataclass(frozen=True)
class _Body:
    """A function of the table: its first block reads the named sizes, the rest runs steps.

    `places` has the words of the table that are arguments.
    """

    table: ir.Value
    entry: ir.IRBuilder
    builder: ir.IRBuilder
    sizes: Sizes
    places: Mapping[int, ir.Value]

    def close(self) -> None:
        """Ends the first block, when nothing more can be read in it."""
        self.entry.branch(self.entry.function.basic_blocks[1])


class _Form(NamedTuple):
    """What a step does, None if it is one of its kind, and the words of the table for it."""

    key: object
    words: tuple[int, ...]


class _ProgramEmitter:
    """The entry function, in which each step reads the addresses of its buffers.

    Steps that differ in nothing else, as equal layers do, are calls of one function.
    """

    def __init__(self, module: ir.Module, program: Program, target: Target) -> None:
        self._module, self._program = module, program
        self._layout = layout_of(program)
        self.operations = Operations(module)
        products = [part for part in program.parts if isinstance(part, RunMatmul)]
        self._products = Products(module, target, products)
        runs = [run for step in program.steps for run in kernel_runs(step)]
        self._flat = {kernel: flatten(kernel) for kernel in program.kernels}
        self._in_place = {self._flat[run.kernel] for run in runs if self._is_in_place(run)}
        self._kernels: dict[Kernel, ir.Function] = {}
        self._window: dict[int, Number] = {}

        self._words = dict(zip(program.symbols, self._layout.symbols, strict=True))
        self._forms = [self._form(step) for step in program.steps]
        counts = Counter(form.key for form in self._forms if form.key is not None)
        self._often = {key for key, count in counts.items() if count > 1}
        self._outlined: dict[object, ir.Function] = {}
        self._body = self._new_body(ir.Function(module, ir.FunctionType(I32, [POINTER]), ENTRY))

    def _new_body(self, function: ir.Function, words: Sequence[int] = ()) -> _Body:
        """The body of a function of the table, and of where in it some words are."""
        for attribute in ("noinline", "optnone"):  # straight calls, and many of them
            function.attributes.add(attribute)
        table, *places = function.args
        table.name = "table"
        entry, steps = function.append_basic_block("table"), function.append_basic_block("steps")
        builders = ir.IRBuilder(entry), ir.IRBuilder(steps)
        sizes = Sizes(builders[0], self._read_size)
        return _Body(table, *builders, sizes, dict(zip(words, places, strict=True)))

    def run(self) -> None:
        self._count_call()
        for number, (step, form) in enumerate(zip(self._program.steps, self._forms, strict=True)):
            self._body.builder.comment(f"step {number}")
            if form.key in self._often:
                self._call_outlined(step, form)
            else:
                self._step(step)
        self._body.builder.ret(I32(0))
        self._body.close()

    def _step(self, step: Step) -> None:
        match step:
            case RunKernel():
                self._run_kernel(step)
            case RunSweep():
                self._run_sweep(step)
            case RunMatmul():
                self._products.emit(self._body.builder, step, self._pointer, self._body.sizes)
            case RunBlocks():
                self._run_blocks(step)
            case RunCall():
                self._run_call(step)
            case RunCopy():
                self._run_copy(step)
            case RunCheck():
                self._run_check(step)

    # --- steps that differ only in their buffers --------------------------------------------------

    def _form(self, step: Step) -> _Form:
        """What a step does, and the words of the table with the addresses that it does it to."""
        if not isinstance(step, RunKernel | RunMatmul | RunBlocks):
            return _Form(None, ())
        words: dict[int, int] = {}
        key = tuple([self._part_key(part, words) for part in parts(step)])
        return _Form(key, tuple(words))

    def _part_key(self, part: Simple, words: dict[int, int]) -> object:
        def number(buffer: int) -> int:
            return words.setdefault(self._word(buffer), len(words))

        match part:
            case RunKernel():
                return part.kernel, part.sizes, tuple(map(number, part.buffers))
            case RunMatmul():
                views = [replace(v, buffer=number(v.buffer)) for v in (part.x, part.y, part.out)]
                return replace(part, x=views[0], y=views[1], out=views[2])
        raise AssertionError(f"{part} has no form")

    def _call_outlined(self, step: Step, form: _Form) -> None:
        """Calls the function that steps of this form share, which its first one writes."""
        if form.key not in self._outlined:
            self._outlined[form.key] = self._outline(step, form.words)
        places = [index(word) for word in form.words]
        self._body.builder.call(self._outlined[form.key], [self._body.table, *places])

    def _outline(self, step: Step, words: Sequence[int]) -> ir.Function:
        name = "_".join(run.kernel.name for run in kernel_runs(step)) or "matmul"
        kind = ir.FunctionType(VOID, [POINTER] + [I64] * len(words))
        function = ir.Function(self._module, kind, self._module.get_unique_name(f"step.{name}"))
        function.linkage = "internal"
        caller, self._body = self._body, self._new_body(function, words)
        self._step(step)
        self._body.builder.ret_void()
        self._body.close()
        self._body = caller
        return function

    # --- the table --------------------------------------------------------------------------------

    def _count_call(self) -> None:
        calls = self._body.entry.load(self._body.table, align=8, typ=I64)
        self._body.entry.store(self._body.entry.add(calls, index(1)), self._body.table, align=8)

    def _word(self, buffer: int) -> int:
        """The word of the table with a buffer's address: one for buffers that share memory."""
        place = self._program.buffers[buffer]
        if place.kind == "input":
            return self._layout.inputs[place.position]
        if place.kind == "temp":
            return self._layout.slots[place.position]
        donor = self._program.donations[place.position]
        word = self._layout.outputs[place.position] if donor is None else self._layout.inputs[donor]
        assert word is not None, "an output has a word of its own unless an input gives it one"
        return word

    def _pointer(self, buffer: int) -> ir.Value:
        """A buffer's address, read where it is needed: thousands of live values cost LLVM dear."""
        address = self._address_of_word(self._body.builder, self._word(buffer))
        name = "" if self._body.places else self._program.buffers[buffer].name
        pointer = self._body.builder.load(address, name=name, align=8, typ=POINTER)
        if buffer not in self._window:
            return pointer
        back = self._body.builder.neg(as_value(self._window[buffer]))
        return self._body.builder.gep(pointer, [back], source_etype=I8)

    def _read_size(self, name: str) -> ir.Value:
        address = self._address_of_word(self._body.entry, self._words[name])
        return self._body.entry.load(address, align=8, typ=I64)

    def _address_of_word(self, builder: ir.IRBuilder, word: int) -> ir.Value:
        place = self._body.places.get(word) or index(word)
        return builder.gep(self._body.table, [place], source_etype=I64)

    # --- steps ------------------------------------------------------------------------------------

    def _run_kernel(self, run: RunKernel) -> None:
        self._call_kernel(run, 0, self._body.sizes(self._first_extent(run)))

    def _run_blocks(self, step: RunBlocks) -> None:
        """Rows of the product between the steps of the kernels beside them; and so on."""
        builder = self._body.builder
        before, after = (
            run and replace(run, kernel=self._flat[run.kernel]) for run in (step.before, step.after)
        )
        blocks = blocks_of(RunBlocks(step.product, after, before))
        units, *counts = map(self._body.sizes, (blocks.units, *blocks.counts))

        def block(first: Number, _: Carried) -> Carried:
            last = smaller(builder, add(builder, first, blocks.block), units)
            self._window = self._window_of(step, first)
            for part, count in zip(parts(step), counts, strict=True):
                some = multiply(builder, first, count), multiply(builder, last, count)
                if isinstance(part, RunMatmul):
                    self._products.emit(builder, part, self._pointer, self._body.sizes, some)
                elif isinstance(part, RunKernel):
                    self._call_kernel(part, *some)
            self._window = {}
            return []

        stages = [stage for run in kernel_runs(step) for stage in run.kernel.stages]
        always = any(stage.when != "each" for stage in stages)  # without rows, too
        stop = larger(builder, units, 1) if always else units
        loop(builder, 0, stop, blocks.block, [], block)

    def _window_of(self, step: RunBlocks, row: Number) -> dict[int, Number]:
        """How far before its memory an operand would begin that has a block of rows only."""
        if step.before is None:
            return {}
        line = self._body.sizes(step.product.x.leading * step.product.dtype.itemsize)
        return {step.product.x.buffer: multiply(self._body.builder, row, line)}

    def _call_kernel(self, run: RunKernel, begin: Number, end: Number) -> None:
        """Runs some steps of a kernel's first loop."""
        sizes = [as_value(n) for n in (*map(self._body.sizes, run.arguments), begin, end)]
        arguments = [*map(self._pointer, run.buffers), *sizes]
        self._body.builder.call(self._function(run.kernel), arguments)

    def _first_extent(self, run: RunKernel) -> Dim:
        return run.size(first_extent(self._flat[run.kernel]))

    def _function(self, of: Kernel) -> ir.Function:
        kernel = self._flat[of]
        if kernel not in self._kernels:
            name = self._module.get_unique_name(f"kernel.{kernel.name}")
            function = declare_kernel(self._module, kernel, name, kernel not in self._in_place)
            emit_kernel(function, kernel, self.operations)
            self._kernels[kernel] = function
        return self._kernels[kernel]

    def _run_sweep(self, sweep: RunSweep) -> None:
        """One call, unless the sizes of its segments are not known."""
        segments = [
            Segment(
                [self._word(b) for b in run.buffers],
                [*run.arguments, 0, self._first_extent(run)],
            )
            for run in sweep.runs
        ]
        if all(isinstance(size, int) for segment in segments for size in segment.sizes):
            name = self._module.get_unique_name(f"sweep.{sweep.kernel.name}")
            function = emit_sweep(self._module, name, self._function(sweep.kernel), segments)
            self._body.builder.call(function, [self._body.table])
            return
        for run in sweep.runs:
            self._run_kernel(run)

    def _is_in_place(self, step: RunKernel) -> bool:
        """Whether memory that the kernel writes is another of its buffers, too."""
        words = [self._word(b) for b in step.buffers]
        written = [w for w, b in zip(words, step.kernel.buffers, strict=True) if b.written]
        return any(words.count(word) > 1 for word in written)

    def _run_call(self, step: RunCall) -> None:
        pointers = [self._pointer(b) for b in step.buffers]
        integers = [as_value(self._body.sizes(n)) for n in step.integers]
        numbers = [*integers, *(ir.Constant(F64, x) for x in step.floats)]
        if step.function == "solve" or step.is_users:
            arguments = [*pointers, *numbers]
            function = self._extern(step.symbol, [a.type for a in arguments])
            self._body.builder.call(function, arguments)
        else:
            from . import random  # here, since few programs draw

            generator = random.emit_generator(step.function, self._module, step.dtype)
            state, out, new_state = pointers
            self._body.builder.call(generator, [state, new_state, out, *numbers])

    def _extern(self, name: str, types: list[ir.Type]) -> ir.Function:
        if name not in self._module.globals:
            ir.Function(self._module, ir.FunctionType(VOID, types), name)
        return self._module.globals[name]

    def _run_copy(self, step: RunCopy) -> None:
        """Copies nothing where both buffers are one piece of memory."""
        if self._word(step.source) == self._word(step.target):
            return
        aval = self._program.buffers[step.source].aval
        size = as_value(self._body.sizes(aval.nbytes))
        target, source = self._pointer(step.target), self._pointer(step.source)
        if step.offset != 0:
            start = as_value(self._body.sizes(step.offset * aval.dtype.itemsize))
            target = self._body.builder.gep(target, [start], source_etype=I8)
        operands = [target, source, size, constant(I1, False)]
        intrinsic(self._body.builder, "memcpy", VOID, operands, POINTER, POINTER, I64)

    def _run_check(self, step: RunCheck) -> None:
        value = self._body.builder.load(self._pointer(step.buffer), align=1, typ=I8)
        failed = self._body.builder.append_basic_block("failed")
        passed = self._body.builder.append_basic_block("passed")
        self._body.builder.cbranch(
            self._body.builder.icmp_unsigned("!=", value, I8(0)), passed, failed
        )
        self._body.builder.position_at_end(failed)
        self._body.builder.ret(I32(step.number + 1))
        self._body.builder.position_at_end(passed)
