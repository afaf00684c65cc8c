"""Printed tensors equal PyTorch's, character for character."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taut.compiler import dtypes
from taut.compiler.dtypes import DType
from taut.frontend import printing
from taut.frontend.printing import PrintOptions, format_scalar, format_tensor, set_printoptions

inf, nan = math.inf, math.nan


@pytest.fixture(autouse=True)
def default_print_options() -> Iterator[None]:
    set_printoptions(profile="default")
    yield
    set_printoptions(profile="default")


class Golden(NamedTuple):
    data: Any
    text: str
    dtype: DType
    keywords: dict[str, Any]


def golden(data: Any, text: str, dtype: str = "f32", **keywords: Any) -> Golden:
    """A case: `keywords` go to `PrintOptions` if it knows them, else to `format_tensor`."""
    fields = PrintOptions.__dataclass_fields__
    options = {name: keywords.pop(name) for name in list(keywords) if name in fields}
    keywords["options"] = PrintOptions(**options)
    return Golden(data, text, dtypes.from_name(dtype), keywords)


GOLDENS = [
    golden([5, 7, 9], "tensor([5, 7, 9])", dtype="i64"),
    golden([0.25, 0.4, 0.5], "tensor([0.2500, 0.4000, 0.5000])"),
    golden(3, "tensor(3)", dtype="i64"),
    golden(3.5, "tensor(3.5000)"),
    golden(-0.0, "tensor(-0.)"),
    golden(True, "tensor(True)", dtype="bool"),
    golden([True, False], "tensor([ True, False])", dtype="bool"),
    golden([], "tensor([])"),
    golden([[], []], "tensor([], size=(2, 0))"),
    golden([], "tensor([], dtype=torch.int64)", dtype="i64"),
    golden([], "tensor([], dtype=torch.bool)", dtype="bool"),
    golden([1.0, 2.0, 3.0], "tensor([1., 2., 3.])"),
    golden([1.0, nan, -inf], "tensor([1., nan, -inf])"),
    golden([1.5, nan, -inf], "tensor([1.5000,    nan,   -inf])"),
    golden([nan, inf], "tensor([nan, inf])"),
    golden([0.0, -0.0, 1.0], "tensor([0., -0., 1.])"),
    golden([1e-4, 1.0], "tensor([1.0000e-04, 1.0000e+00])"),
    golden([1.5, 1500.0], "tensor([   1.5000, 1500.0000])"),
    golden([1.5, 1501.0], "tensor([1.5000e+00, 1.5010e+03])"),
    golden([1e8, 1e6], "tensor([100000000.,   1000000.])"),
    golden([1e9], "tensor([1.0000e+09])"),
    golden([1e-5, 1e-5], "tensor([1.0000e-05, 1.0000e-05])"),
    golden([1e30, 1e-30, -1.0], "tensor([ 1.0000e+30,  1.0000e-30, -1.0000e+00])"),
    golden([1e300, 1e-300], "tensor([1.0000e+300, 1.0000e-300], dtype=torch.float64)", dtype="f64"),
    golden([5e-324], "tensor([4.9407e-324], dtype=torch.float64)", dtype="f64"),
    golden([0.1], "tensor([0.1000], dtype=torch.float64)", dtype="f64"),
    golden([0.1], "tensor([0.1000], dtype=torch.float16)", dtype="f16"),
    golden([65504.0], "tensor([65504.], dtype=torch.float16)", dtype="f16"),
    golden([-1, 0, 10], "tensor([-1,  0, 10], dtype=torch.int32)", dtype="i32"),
    golden([255, 0], "tensor([255,   0], dtype=torch.uint8)", dtype="u8"),
    golden([4294967295], "tensor([4294967295], dtype=torch.uint32)", dtype="u32"),
    golden([-128, 127], "tensor([-128,  127], dtype=torch.int8)", dtype="i8"),
    golden(
        [[1, -2], [30, 4]], "tensor([[ 1, -2],\n        [30,  4]], dtype=torch.int16)", dtype="i16"
    ),
    golden(
        [[0.0, 0.5], [-1.0, 10.25]], "tensor([[ 0.0000,  0.5000],\n        [-1.0000, 10.2500]])"
    ),
    golden(
        [[[1], [2]], [[3], [4]]],
        "tensor([[[1],\n         [2]],\n\n        [[3],\n         [4]]])",
        dtype="i64",
    ),
    golden([[1.0, 2.0]], "tensor([[1., 2.]], requires_grad=True)", requires_grad=True),
    golden(2.0, "tensor(2., grad_fn=<SumBackward0>)", requires_grad=True, grad_fn="SumBackward0"),
    golden(
        [1.5],
        "Parameter containing:\ntensor([1.5000], requires_grad=True)",
        requires_grad=True,
        is_parameter=True,
    ),
    golden(
        [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
        "tensor([0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000],\n"
        "       dtype=torch.float64, grad_fn=<AddBackward0>)",
        dtype="f64",
        requires_grad=True,
        grad_fn="AddBackward0",
    ),
    golden(
        [0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
        "tensor([0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000],\n       grad_fn=<AddBackward0>)",
        requires_grad=True,
        grad_fn="AddBackward0",
    ),
    golden(
        list(range(20)),
        "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,\n"
        "        18, 19])",
        dtype="i64",
    ),
    golden(
        [float(i) / 7 for i in range(12)],
        "tensor([0.0000, 0.1429, 0.2857, 0.4286, 0.5714, 0.7143, 0.8571, 1.0000, 1.1429,\n"
        "        1.2857, 1.4286, 1.5714])",
    ),
    golden(list(range(1001)), "tensor([   0,    1,    2,  ...,  998,  999, 1000])", dtype="i64"),
    golden(
        [[float(i * 40 + j) for j in range(40)] for i in range(40)],
        "tensor([[0.0000e+00, 1.0000e+00, 2.0000e+00,  ..., 3.7000e+01, 3.8000e+01,\n"
        "         3.9000e+01],\n"
        "        [4.0000e+01, 4.1000e+01, 4.2000e+01,  ..., 7.7000e+01, 7.8000e+01,\n"
        "         7.9000e+01],\n"
        "        [8.0000e+01, 8.1000e+01, 8.2000e+01,  ..., 1.1700e+02, 1.1800e+02,\n"
        "         1.1900e+02],\n"
        "        ...,\n"
        "        [1.4800e+03, 1.4810e+03, 1.4820e+03,  ..., 1.5170e+03, 1.5180e+03,\n"
        "         1.5190e+03],\n"
        "        [1.5200e+03, 1.5210e+03, 1.5220e+03,  ..., 1.5570e+03, 1.5580e+03,\n"
        "         1.5590e+03],\n"
        "        [1.5600e+03, 1.5610e+03, 1.5620e+03,  ..., 1.5970e+03, 1.5980e+03,\n"
        "         1.5990e+03]])",
    ),
    golden(
        [[[i, i] for _ in range(3)] for i in range(7, 10)],
        "tensor([[[7, 7],\n"
        "         ...,\n"
        "         [7, 7]],\n"
        "\n"
        "        ...,\n"
        "\n"
        "        [[9, 9],\n"
        "         ...,\n"
        "         [9, 9]]])",
        dtype="i64",
        threshold=17,
        edgeitems=1,
    ),
    golden([0.1, 0.2], "tensor([0.10, 0.20])", precision=2),
    golden([0.5, 1.5], "tensor([0, 2])", precision=0),
    golden([0.1, nan], "tensor([1.0000e-01,        nan])", sci_mode=True),
    golden([1.0, 1e-9, 0.0], "tensor([1.0000, 0.0000, 0.0000])", sci_mode=False),
    golden([1.0, 0.0], "tensor([1.0000e+00, 0.0000e+00])", sci_mode=True),
    golden([0.0, 0.0], "tensor([0., 0.])", sci_mode=True),
    golden(list(range(9)), "tensor([0,  ..., 8])", dtype="i64", threshold=8, edgeitems=1),
    golden(
        [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        "tensor([[1,  ..., 3],\n        ...,\n        [7,  ..., 9]])",
        dtype="i64",
        threshold=0,
        edgeitems=1,
    ),
    golden(list(range(9)), "tensor([...], size=(9,))", dtype="i64", threshold=0, edgeitems=0),
    golden([[1, 2, 3]], "tensor([[1,\n         2,\n         3]])", dtype="i64", linewidth=12),
    golden([0.5, 0.5], "tensor([0.5000, 0.5000])", dtype="f64", default_float=dtypes.f64),
    golden([0.5, 0.5], "tensor([0.5000, 0.5000], dtype=torch.float32)", default_float=dtypes.f64),
    golden([], "tensor([], dtype=torch.float32)", default_float=dtypes.f64),
]


@pytest.mark.parametrize("case", GOLDENS)
def test_golden_text(case: Golden) -> None:
    array = np.array(case.data, dtype=case.dtype.numpy)
    assert format_tensor(array, dtype=case.dtype, **case.keywords) == case.text


def show(array: Any, **keywords: Any) -> str:
    array = np.asarray(array)
    return format_tensor(array, dtype=dtypes.from_numpy(array.dtype), **keywords)


# Printing against PyTorch

SHAPES = st.one_of(
    st.lists(st.integers(0, 9), max_size=3).map(tuple),
    st.sampled_from(
        [(1001,), (1000,), (40, 40), (2, 600), (8, 1, 200), (11, 11, 11), (6, 6, 6, 6)]
    ),
)
OPTIONS = st.builds(
    PrintOptions,
    precision=st.sampled_from([0, 1, 2, 4, 8]),
    threshold=st.sampled_from([0, 5, 20, 1000]),
    edgeitems=st.sampled_from([0, 1, 2, 3, 5]),
    linewidth=st.sampled_from([1, 20, 40, 80, 81, 200]),
    sci_mode=st.sampled_from([None, None, True, False]),
)
SPECIAL = [nan, inf, -inf, 0.0, -0.0, 1.0, 1e-4, 9.9999e-5, 1000.0, 1e8, 1.00001e8, 5e-324]


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """An array of any dtype; floats of one magnitude or of many, whole or not, some special."""
    shape, dtype = draw(SHAPES), draw(st.sampled_from(dtypes.ALL))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if dtype.kind != "float":
        bound = draw(st.sampled_from([1, 10, 100, 2**62]))
        return np.asarray(rng.integers(-bound, bound, shape)).astype(dtype.numpy)
    low, spread = draw(st.integers(-30, 30)), draw(st.sampled_from([0, 0, 3, 30]))
    values = np.asarray(
        rng.standard_normal(shape) * 10.0 ** rng.integers(low, low + spread + 1, shape)
    )
    values = np.round(values) if draw(st.booleans()) else values
    for special in draw(st.lists(st.sampled_from(SPECIAL), max_size=4)):
        if values.size:
            values.flat[rng.integers(values.size)] = special
    with np.errstate(all="ignore"):
        return values.astype(dtype.numpy)


@settings(deadline=None, max_examples=200)
@given(
    array=arrays(),
    options=OPTIONS | st.just(PrintOptions()),
    graph=st.sampled_from(["leaf", "requires_grad", "grad_fn", "parameter"]),
    default_float=st.sampled_from([dtypes.f32, dtypes.f64]),
)
def test_prints_as_torch(
    array: np.ndarray[Any, Any], options: PrintOptions, graph: str, default_float: DType
) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(array)
    keywords: dict[str, Any] = {}
    if graph != "leaf" and array.dtype.kind == "f":
        tensor.requires_grad_()
        keywords["requires_grad"] = True
        if graph == "grad_fn":
            tensor = tensor.clone()
            keywords["grad_fn"] = "CloneBackward0"
        if graph == "parameter":
            tensor = torch.nn.Parameter(tensor)
            keywords["is_parameter"] = True
    expected = torch_text(torch, tensor, options, default_float)
    assert show(array, options=options, default_float=default_float, **keywords) == expected


def torch_text(torch: Any, tensor: Any, options: PrintOptions, default_float: DType) -> str:
    torch.set_printoptions(
        **{name: getattr(options, name) for name in options.__dataclass_fields__}
    )
    torch.set_default_dtype(getattr(torch, default_float.long_name))
    try:
        return repr(tensor)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_printoptions(profile="default")


# Options


@pytest.mark.parametrize(
    "calls",
    [
        [{"precision": 7}, {"linewidth": 50}],
        [{"sci_mode": True}, {"precision": 2}],  # a call without sci_mode unsets it
        [{"profile": "short"}, {"edgeitems": 4}],
        [{"profile": "full", "precision": 1}],
        [{"threshold": 5, "edgeitems": 1}, {"profile": "default", "sci_mode": False}],
    ],
    ids=str,
)
def test_set_printoptions_as_torch(calls: list[dict[str, Any]]) -> None:
    torch = pytest.importorskip("torch")
    torch.set_printoptions(profile="default")
    array = (np.arange(1200, dtype=np.float32) / 7).reshape(30, 40)
    try:
        for call in calls:
            set_printoptions(**call)
            torch.set_printoptions(**call)
            assert show(array) == repr(torch.tensor(array))
    finally:
        torch.set_printoptions(profile="default")


def test_options_out_of_range_leave_the_old_ones() -> None:
    before = printing.get_printoptions()
    with pytest.raises(ValueError, match=r"edgeitems must be an integer >= 0, got -1"):
        set_printoptions(edgeitems=-1)
    with pytest.raises(
        ValueError, match=r"unknown profile 'big'; use one of 'default', 'short', 'full'"
    ):
        set_printoptions(profile="big")
    assert printing.get_printoptions() is before


# Tensor.__format__


class Tensor:
    """Stands for the front end's class: only its `str` and its name count."""

    def __repr__(self) -> str:
        return "tensor(...)"


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (np.float32(1.5), ".3f", "1.500"),
        (np.float32(1.5), "", "1.5"),
        (np.int64(3), "d", "3"),
        (np.int64(3), ".1f", "3.0"),
        (np.bool_(True), ">6", "     1"),
        (np.float64(-0.0), "", "-0.0"),
    ],
)
def test_format_of_a_scalar_is_its_elements(value: Any, spec: str, text: str) -> None:
    assert format_scalar(Tensor(), np.asarray(value), spec) == text


def test_format_of_others_is_any_objects() -> None:
    assert format_scalar(Tensor(), np.zeros(2), "") == "tensor(...)"
    assert format_scalar(Tensor(), np.array(1.5), "", is_parameter=True) == "tensor(...)"
    unsupported = r"unsupported format string passed to Tensor.__format__"
    with pytest.raises(TypeError, match=unsupported):
        format_scalar(Tensor(), np.zeros(2), ".3f")
    with pytest.raises(TypeError, match=unsupported):
        format_scalar(Tensor(), np.array(1.5), ".3f", is_parameter=True)
    with pytest.raises(ValueError, match="Unknown format code 'd'"):
        format_scalar(Tensor(), np.array(1.5), "d")


# Cost


def test_a_huge_tensor_is_printed_from_its_edges() -> None:
    """2^60 elements: to touch, copy or format them all would never end."""
    array = np.broadcast_to(np.float32(0.5), (2**30, 2**30))
    row = "0.5000, 0.5000, 0.5000,  ..., 0.5000, 0.5000, 0.5000"
    assert show(array).splitlines()[0] == f"tensor([[{row}],"


def test_small_tensors_are_printed_quickly() -> None:
    array = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    best = inf
    for _ in range(20):
        start = time.perf_counter()
        show(array)
        best = min(best, time.perf_counter() - start)
    assert best < 2e-3  # some 0.1 ms measured; the bound leaves room for slow machines
