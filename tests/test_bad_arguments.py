"""Unfit arguments raise what PyTorch raises, and never an internal error."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import taut
from taut import nn, optim
from taut.nn import functional as F

CASES = [
    line.split(" ", 1)
    for line in (Path(__file__).parent / "bad_arguments.txt").read_text().splitlines()
    if line and line[0] != "#"
]


def raised(code: str, names: dict[str, Any]) -> tuple[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some calls warn before they raise
        with pytest.raises(Exception) as caught:  # noqa: PT011  # compared below
            eval(code, {"np": np, **names})  # noqa: S307  # the cases are this folder's own
    return type(caught.value).__name__, str(caught.value).replace("taut.", "torch.")


@pytest.mark.parametrize(("mark", "code"), CASES, ids=[code for _, code in CASES])
def test_what_pytorch_raises(mark: str, code: str) -> None:
    kind, message = raised(code, {"torch": taut, "nn": nn, "optim": optim, "F": F})
    torch = pytest.importorskip("torch")
    names = {"torch": torch, "nn": torch.nn, "optim": torch.optim, "F": torch.nn.functional}
    wanted_kind, wanted = raised(code, names)
    assert kind == wanted_kind
    if mark == "=":
        assert message == wanted


@pytest.mark.parametrize("code", [code for mark, code in CASES if mark == "~"])
def test_no_message_is_an_internal_one(code: str) -> None:
    kind, message = raised(code, {"torch": taut, "nn": nn, "optim": optim, "F": F})
    assert not re.search(r"NoneType' object|unhashable|_grad|\.array", message), message
    assert (kind, "foo" in code) == ("AttributeError", True) or "has no attribute" not in message


@pytest.mark.parametrize(("python", "wanted"), [(float, "float64"), (int, "int64"), (bool, "bool")])
def test_python_types_are_dtypes(python: type, wanted: str) -> None:
    dtype: Any = python
    x = taut.ones(2)
    made = [
        taut.zeros(2, dtype=dtype),
        taut.tensor([1], dtype=dtype),
        taut.as_tensor(np.ones(2), dtype),
        taut.arange(3, dtype=dtype),
        taut.ones_like(x, dtype=dtype),
        x.new_zeros(2, dtype=dtype),
        x.sum(dtype=dtype),
        taut.sum(x, dtype=dtype),
        x.to(dtype),
        x.to(dtype=dtype),
    ]
    assert {str(t.dtype) for t in made} == {f"torch.{wanted}"}


def test_a_module_in_a_python_type() -> None:
    dtype: Any = float
    assert nn.Linear(2, 1, dtype=dtype).weight.dtype is taut.float64
    assert nn.Linear(2, 1).to(dtype).weight.dtype is taut.float64


def test_a_parameter_of_no_tensor() -> None:
    given: Any = "a"
    with pytest.raises(TypeError, match="Parameter data has to be a tensor, but got str"):
        nn.Parameter(given)


def test_arguments_that_fit_are_not_blamed() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes"):
        taut.matmul(taut.ones(2, 3), taut.ones(2, 3))
    with pytest.raises(IndexError, match="Dimension out of range"):
        taut.ones(2).sum(dim=taut.tensor(4).item())


@pytest.mark.parametrize("function", [F.mse_loss, F.relu, taut.sum, taut.absolute, taut.zeros])
def test_functions_pickle(function: Any) -> None:
    assert pickle.loads(pickle.dumps(function)) is function  # noqa: S301  # made here


def test_a_warning_points_at_the_line_of_the_user() -> None:
    with pytest.warns(UserWarning, match="Using a target size") as caught:
        nn.MSELoss()(taut.ones(2), taut.ones(1))
    assert caught[0].filename == __file__
