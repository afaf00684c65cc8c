"""Bad input: each mistake raises an error that says what is wrong, and changes nothing.

The cases are programs as a user would type them, and what the last line raises.  Errors of
computations end in the user's line, also where a compiled program finds them out when it runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import taut
from taut import nn, optim
from taut.compiler.errors import ParseError
from taut.compiler.text import parse_graph
from taut.runtime.cache import Cache, Content, read_content, whole_entry
from taut.runtime.compile import compile_graph
from taut.runtime.options import default_options
from taut.runtime.payload import pack, unpack

CASES = """
# --- lists, arrays and dtypes
taut.tensor([[1, 2], [3]])
    ValueError: expected sequence of length 2 at dim 1 (got 1)
taut.tensor([[1, 2], 3])
    TypeError: not a sequence
taut.tensor([1, "a"])
    TypeError: new(): invalid data type 'str'
taut.tensor([1, None])
    RuntimeError: Could not infer dtype of NoneType
taut.from_numpy(np.ones(2, complex))
    TypeError: can't convert np.ndarray of type complex128. The only supported types are: bool, \
uint8, uint32, int8, int16, int32, int64, float16, float32, float64.
taut.from_numpy([1, 2])
    TypeError: expected np.ndarray (got list)
taut.ones(2, dtype=taut.float33)
    AttributeError: module 'taut' has no attribute 'float33'
taut.set_default_dtype(taut.int64)
    TypeError: only floating-point types are supported as the default type, got torch.int64
taut.tensor([1, 2], requires_grad=True)
    RuntimeError: only Tensors of floating point dtype can require gradients
# --- devices
taut.ones(2, device="cuda")
    RuntimeError: taut computes on the CPU only, got device cuda
taut.ones(2).to("cuda:0")
    RuntimeError: taut computes on the CPU only, got device cuda:0
# --- shapes
x = taut.ones(2, 3)
x + taut.ones(4)
    RuntimeError: The size of tensor a (3) must match the size of tensor b (4) at non-singleton \
dimension 1 (user.py:2)
taut.ones(2, 3) @ taut.ones(2, 3)
    RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3) (user.py:1)
net = nn.Linear(3, 2)
y = net(taut.ones(4, 5))
    RuntimeError: mat1 and mat2 shapes cannot be multiplied (4x5 and 3x2) (user.py:2)
taut.cat([taut.ones(2, 3), taut.ones(2, 4)])
    RuntimeError: Sizes of tensors must match except in dimension 0. Expected size 3 but got size \
4 for tensor number 1 in the list.
taut.ones(2, 3).reshape(4)
    RuntimeError: shape '[4]' is invalid for input of size 6
taut.ones(2, 3).sum(5)
    IndexError: Dimension out of range (expected to be in range of [-2, 1], but got 5)
F.mse_loss(taut.ones(2), taut.ones(3))
    RuntimeError: The size of tensor a (2) must match the size of tensor b (3) at non-singleton \
dimension 0 (user.py:1)
# --- positions
taut.ones(3)[5]
    IndexError: index 5 is out of bounds for dimension 0 with size 3 (user.py:1)
taut.ones(3)[taut.tensor([0, 7])]
    IndexError: index 7 is out of bounds for dimension 0 with size 3
F.cross_entropy(taut.ones(2, 3), taut.tensor([0, 3]))
    IndexError: Target 3 is out of bounds.
nn.Embedding(3, 2)(taut.tensor([0, 5]))
    IndexError: index out of range in self
# --- gradients
taut.ones(2, requires_grad=True).backward()
    RuntimeError: grad can be implicitly created only for scalar outputs
taut.ones(2).sum().backward()
    RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn
taut.ones(2, requires_grad=True).add_(1)
    RuntimeError: a leaf Variable that requires grad is being used in an in-place operation.
taut.ones(2, requires_grad=True).numpy()
    RuntimeError: Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() \
instead.
# --- matrices
taut.linalg.solve(taut.zeros(2, 2), taut.ones(2))
    LinAlgError: torch.linalg.solve: The solver failed because the input matrix is singular. \
(user.py:1)
taut.linalg.inv(taut.ones(2, 3))
    RuntimeError: linalg.inv: A must be batches of square matrices, but they are 2 by 3 matrices
# --- optimizers and modules
optim.SGD([], lr=0.1)
    ValueError: optimizer got an empty parameter list
optim.SGD([taut.ones(2)], lr=-1.0)
    ValueError: Invalid learning rate: -1.0
nn.Dropout(1.5)
    ValueError: dropout probability has to be between 0 and 1, but got 1.5
nn.ParameterDict({"a": taut.ones(1)})["b"]
    KeyError: 'b'
# --- compiled functions
taut.compile(lambda x: x, backend="lvm")
    ValueError: unknown backend 'lvm'; did you mean 'llvm'?
taut.compile(3)
    TypeError: compile() takes a function or a module, got int
taut.compile(lambda x: x).ir()
    RuntimeError: <lambda> has not been called yet, so there is nothing to show
f = taut.compile(lambda x: x + 1)
f(taut.ones(1))
f.ir("optt")
    ValueError: no stage is called 'optt'; did you mean 'opt'?
@taut.compile
def f(x, y):
    return x + y
f(taut.ones(2), taut.ones(3))
    RuntimeError: The size of tensor a (2) must match the size of tensor b (3) at non-singleton \
dimension 0 (user.py:3)
@taut.compile
def f(x):
    return x if x.sum() > 0 else -x
f(taut.ones(2))
    UntraceableError: bool() needs the values of a tensor, which are not known while tracing \
(user.py:3); return the tensor from the compiled function and read it outside
@taut.compile
def f(x):
    return x * x.sum().item()
f(taut.ones(2))
    UntraceableError: item() needs the values of a tensor, which are not known while tracing \
(user.py:3); return the tensor from the compiled function and read it outside
@taut.compile
def f(x, i):
    y = x * 2
    return y[i]
f(taut.ones(3), taut.tensor([0]))
f(taut.ones(3), taut.tensor([7]))
    IndexError: index is out of bounds for dimension 0 with size 3 (user.py:4)
@taut.compile
def f(x, target):
    return F.cross_entropy(x, target)
f(taut.ones(2, 3), taut.tensor([0, 2]))
f(taut.ones(2, 3), taut.tensor([0, 5]))
    IndexError: Target is out of bounds. (user.py:3)
solve = taut.compile(lambda a, b: taut.linalg.solve(a, b))
solve(taut.eye(2), taut.ones(2))
solve(taut.zeros(2, 2), taut.ones(2))
    LinAlgError: the input matrix is singular (user.py:1)
"""


def read_cases() -> list[tuple[str, str]]:
    """Program and error of each case."""
    cases: list[tuple[str, str]] = []
    program: list[str] = []
    for line in CASES.splitlines():
        if re.match(r"    \w+Error: ", line):
            cases.append(("\n".join(program), line.removeprefix("    ")))
            program = []
        elif line and not line.startswith("# "):
            program.append(line)
    assert not program
    return cases


ALL = read_cases()


def run(program: str) -> None:
    names = {"taut": taut, "nn": nn, "optim": optim, "F": nn.functional, "np": np}
    exec(compile(program, "user.py", "exec"), names)  # noqa: S102  # the cases are this file's own


@pytest.mark.filterwarnings("ignore:Using a target size")  # before the error that follows from it
@pytest.mark.parametrize(("program", "error"), ALL, ids=[case.splitlines()[-1] for case, _ in ALL])
def test_error(program: str, error: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # the message is compared below
        run(program)
    assert f"{type(caught.value).__name__}: {caught.value}" == error


# --- the state after an error ---------------------------------------------------------------------


class Trainer:
    """A step that reads rows, solves a system and draws random numbers."""

    def __init__(self) -> None:
        taut.manual_seed(1)
        self.embedding, self.count = nn.Embedding(4, 3), taut.zeros(())
        self.optimizer = optim.Adam(self.embedding.parameters(), lr=0.1)

    def step(self, rows: Any, matrix: Any, right: Any) -> Any:
        """One step; every argument may be unfit."""
        self.count.add_(1)
        self.optimizer.zero_grad()
        noise = taut.rand(3)
        solved = taut.linalg.solve(matrix, self.embedding(rows) + noise + right)
        loss = solved.square().sum()
        loss.backward()
        self.optimizer.step()
        return loss

    def state(self) -> list[Any]:
        """All that a step may change."""
        state = self.optimizer.state_dict()["state"]
        moments = [v.numpy().copy() for entry in state.values() for v in entry.values()]
        weight = self.embedding.weight
        grad = [] if weight.grad is None else [weight.grad.numpy().copy()]
        tensors = [weight.detach(), self.count, taut.get_rng_state()]
        return [*(t.numpy().copy() for t in tensors), *grad, *moments]


GOOD: tuple[Any, ...] = ([0, 3, 1], np.eye(3), np.ones((3, 3)))
UNFIT = {
    "a row too far": ([0, 4, 1], np.eye(3), np.ones((3, 3))),
    "a row too near": ([0, -5, 1], np.eye(3), np.ones((3, 3))),
    "a singular matrix": ([0, 3, 1], np.ones((3, 3)), np.ones((3, 3))),
    "another shape": ([0, 3, 1], np.eye(3), np.ones((2, 3))),
    "another number of rows": ([0, 3], np.eye(3), np.ones((3, 3))),
}


def tensors(arguments: tuple[Any, ...]) -> list[Any]:
    rows, *arrays = arguments
    return [taut.tensor(rows), *(taut.from_numpy(a.astype(np.float32)) for a in arrays)]


@pytest.mark.parametrize("name", UNFIT)
@pytest.mark.parametrize("steps", [0, 2], ids=["at first", "later"])
def test_a_compiled_step_that_fails_changes_nothing(name: str, steps: int) -> None:
    twin = Trainer()
    losses = [twin.step(*tensors(GOOD)).item() for _ in range(steps + 1)]
    trainer = Trainer()
    step = taut.compile(trainer.step)
    for _ in range(steps):
        step(*tensors(GOOD))
    before = trainer.state()
    with pytest.raises((IndexError, RuntimeError)):
        step(*tensors(UNFIT[name]))
    for got, want in zip(trainer.state(), before, strict=True):
        np.testing.assert_array_equal(got, want)
    # A few roundings in each of three steps of float32.
    np.testing.assert_allclose(step(*tensors(GOOD)).item(), losses[-1], rtol=1e-5)


# --- IR text --------------------------------------------------------------------------------------

GOOD_TEXT = """\
taut-ir 1
func @f<B>(%x: f32[B,3], %y: f32[3]) -> (f32[B,3]) {
  %wide: f32[B,3] = broadcast %y {dims = [1]}
  %sum: f32[B,3] = add %x, %wide
  return %sum
}
"""

MISTAKES = [
    ("taut-ir 1", "taut-ir 7", "1:9: version 7 of the text form is not known, only 1 is"),
    ("taut-ir 1\n", "", "1:1: expected 'taut-ir', found func"),
    ("%y: f32[3]) ->", "%y: f32[3] ->", "2:37: expected ',' or ')', found ->"),
    ("%y: f32[3]", "%y: f33[3]", "2:30: unknown dtype 'f33'; did you mean 'f32'?"),
    ("<B>", "", "2:17: the size 'B' is not declared"),
    ("broadcast", "broadkast", "3:21: unknown primitive 'broadkast'; did you mean 'broadcast'?"),
    ("{dims = [1]}", "", "3:21: broadcast needs the attribute 'dims'"),
    ("[1]}", "[2]}", "3:21: broadcast: f32[3] does not broadcast to [B,3] along dims [2]"),
    ("%x, %wide", "%x, %wild", "4:28: %wild is not defined; did you mean '%wide'?"),
    (
        "%x, %wide",
        "%x, %y",
        "4:20: add: operands must have one dtype and one shape, got f32[B,3] and f32[3]",
    ),
    ("%sum: f32[B,3]", "%sum: f32[3]", "4:9: %sum is declared f32[3], but add gives f32[B,3]"),
    ("return %sum", "return %x, %sum", "5:3: 1 results are declared, 2 returned"),
    ("return %sum\n}", "return %sum", "6:1: expected ',', found the end of the text"),
]


@pytest.mark.parametrize(("good", "bad", "message"), MISTAKES)
def test_text_with_a_mistake(good: str, bad: str, message: str) -> None:
    assert good in GOOD_TEXT
    with pytest.raises(ParseError) as caught:
        parse_graph(GOOD_TEXT.replace(good, bad, 1), "net.ir")
    assert str(caught.value) == f"net.ir:{message}"


# --- cache files ----------------------------------------------------------------------------------


def foreign(data: bytes, key: str) -> bytes:
    """A whole entry under the right key with object code that no linker takes."""
    content = read_content(data)
    assert isinstance(content, Content)
    spec, _ = unpack(content.payload)
    return whole_entry(key, pack(spec, [b"MZ, an image for another machine"]), content.about)


DAMAGE: dict[str, Callable[[bytes, str], bytes]] = {
    "empty": lambda data, key: b"",
    "truncated": lambda data, key: data[:-100],
    "cut in the head": lambda data, key: data[:20],
    "a flipped bit": lambda data, key: data[:-50] + bytes([data[-50] ^ 4]) + data[-49:],
    "another format": lambda data, key: b"PK\3\4" + data,
    "another version": lambda data, key: data[:7] + b"\x7f" + data[8:],
    "another program's": lambda data, key: data.replace(key.encode(), b"0" * 64),
    "no program": lambda data, key: whole_entry(key, b"a letter, not a program", b""),
    "a foreign machine's": foreign,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_cache_file_is_compiled_again(name: str, tmp_path: Path) -> None:
    options = default_options().replace(backend="llvm", kernels="compiled", cache_dir=tmp_path)
    graph = parse_graph(GOOD_TEXT)
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(3, np.float32)]
    cache = Cache(tmp_path)
    expected = compile_graph(graph, options)(arrays)[0]
    (entry,) = cache.entries()
    good = entry.path.read_bytes()
    entry.path.write_bytes(DAMAGE[name](good, entry.key))
    assert compile_graph(graph, options)(arrays)[0].tolist() == expected.tolist()
    assert expected.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert entry.path.read_bytes() == good


# --- the environment ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("TAUT_BACKEND", "lvm", "'llvm' or 'numba'"),
        ("TAUT_KERNELS", "fast", "'compiled' or 'python'"),
        ("TAUT_CHECK", "yes", "'0' or '1'"),
        ("TAUT_OPT_LEVEL", "11", "'0' or '1' or '2' or '3'"),
        ("TAUT_CACHE_SIZE", "5 apples", "a number of bytes, such as 512M or 2G"),
    ],
)
def test_a_wrong_variable_is_named_when_it_is_first_needed(
    name: str, value: str, allowed: str
) -> None:
    program = "import taut; print(taut.ones(1)); taut.compile(lambda x: x)(taut.ones(1))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {name: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "tensor([1.])\n"
    assert done.stderr.splitlines()[-1] == f"ValueError: {name} is {value!r}; it must be {allowed}"
