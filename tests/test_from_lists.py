"""Arrays from nested lists equal those that `torch.tensor` makes, and so do the errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taut.compiler import dtypes
from taut.compiler.dtypes import DType
from taut.frontend.from_lists import array_from_data

inf, nan = math.inf, math.nan


class Convertible:
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        return np.array([1.0, 2.0], dtype=np.float32)


class Listable:
    def tolist(self) -> list[int]:
        return [1, 2]


class Indexable:
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        return (4, 5)[index]


def made(data: Any, dtype: DType | None = None) -> np.ndarray[Any, Any]:
    return array_from_data(data, dtype, dtypes.f32)


ACCEPTED: list[tuple[Any, str | None, Any, str]] = [
    (1, None, 1, "i64"),
    (1.5, None, 1.5, "f32"),
    (True, None, True, "bool"),
    ([], None, [], "f32"),
    ([[], []], None, [[], []], "f32"),
    ([[], [1]], None, [[], []], "f32"),
    ([True, 1], None, [1, 1], "i64"),
    ([True, 1.5], None, [1.0, 1.5], "f32"),
    ([[1, 2], (3, 4.5)], None, [[1, 2], [3, 4.5]], "f32"),
    (range(3), None, [0, 1, 2], "i64"),
    (bytearray(b"ab"), None, [97, 98], "i64"),
    ([Indexable(), Indexable()], None, [[4, 5], [4, 5]], "i64"),
    ([1.0, 2**63], None, [1.0, 2.0**63], "f32"),
    ([1e300], None, [inf], "f32"),
    ([70000], "f16", [inf], "f16"),
    ([-1, -255], "u8", [255, 1], "u8"),
    ([1.9, -1.9], "i64", [1, -1], "i64"),
    ([2, 0, nan, 2**70], "bool", [True, False, True, True], "bool"),
    (np.float64(1.5), None, 1.5, "f64"),
    ([np.float64(1.5), 1.0], None, [1.5, 1.0], "f64"),
    ([np.float16(1.5), 1], None, [1.5, 1.0], "f16"),
    ([np.int8(1), np.uint8(2)], None, [1, 2], "i16"),
    ([np.int8(1), 2], None, [1, 2], "i64"),
    (np.array([1.5, -2.5]), "i64", [1, -2], "i64"),
    (np.zeros((0, 3)), None, np.zeros((0, 3)), "f64"),
    ([np.zeros((2, 0))], None, np.zeros((1, 2, 0)), "f64"),
    ([np.array([1, 2], np.int8), [3, 4.5]], None, [[1, 2], [3, 4.5]], "f32"),
    ([2, np.array(1.0)], None, [2.0, 1.0], "f64"),
]


@pytest.mark.parametrize(("data", "dtype", "values", "inferred"), ACCEPTED)
def test_accepts(data: Any, dtype: str | None, values: Any, inferred: str) -> None:
    array = made(data, dtypes.from_name(dtype) if dtype else None)
    expected = np.array(values, dtype=dtypes.from_name(inferred).numpy)
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected, strict=True)


@pytest.mark.filterwarnings("ignore:Creating a tensor from a list of numpy")
@pytest.mark.parametrize(("data", "dtype"), [case[:2] for case in ACCEPTED])
def test_accepts_as_torch(data: Any, dtype: str | None) -> None:
    torch = pytest.importorskip("torch")
    wanted = dtypes.from_name(dtype) if dtype else None
    tensor = torch.tensor(data, dtype=getattr(torch, wanted.long_name) if wanted else None)
    np.testing.assert_array_equal(made(data, wanted), tensor.numpy(), strict=True)


REFUSED: list[tuple[Any, str | None, type[Exception], str]] = [
    ([[1, 2], [3, 4, 5]], None, ValueError, "expected sequence of length 2 at dim 1 (got 3)"),
    ([[1], []], None, ValueError, "expected sequence of length 1 at dim 1 (got 0)"),
    ([[[1, 2], [3]], [[5, 6]]], None, ValueError, "expected sequence of length 2 at dim 2 (got 1)"),
    (
        [np.zeros((2, 3)), np.zeros((2, 2))],
        None,
        ValueError,
        "expected sequence of length 3 at dim 2 (got 2)",
    ),
    ([[1, 2], 3], None, TypeError, "not a sequence"),
    ([1, [2, 3]], None, TypeError, "'list' object cannot be interpreted as an integer"),
    ([1.0, [2, 3]], None, TypeError, "must be real number, not list"),
    ("abc", None, TypeError, "new(): invalid data type 'str'"),
    (b"abc", None, TypeError, "new(): invalid data type 'bytes'"),
    ([1, "b"], None, TypeError, "new(): invalid data type 'str'"),
    ([[1, 2], ["a"]], None, TypeError, "new(): invalid data type 'str'"),
    (["a", "b"], None, ValueError, "too many dimensions 'str'"),
    (None, None, RuntimeError, "Could not infer dtype of NoneType"),
    ([[1, 2, 3], [None, 3]], None, RuntimeError, "Could not infer dtype of NoneType"),
    ({1: 2}, None, RuntimeError, "Could not infer dtype of dict"),
    ({1, 2}, None, RuntimeError, "Could not infer dtype of set"),
    ([object()], None, RuntimeError, "Could not infer dtype of object"),
    ([None], "f32", TypeError, "must be real number, not NoneType"),
    ([None], "i64", TypeError, "'NoneType' object cannot be interpreted as an integer"),
    (
        [np.float32(1.5)],
        "i64",
        TypeError,
        "'numpy.float32' object cannot be interpreted as an integer",
    ),
    (2**63, None, ValueError, "Overflow when unpacking long long"),
    ([-(2**63) - 1], None, ValueError, "Overflow when unpacking long long"),
    ([2**63], "u8", ValueError, "Overflow when unpacking long long"),
    ([1.0, 2**2000], None, OverflowError, "int too large to convert to float"),
    ([300], "u8", RuntimeError, "value cannot be converted to type uint8 without overflow"),
    ([-256], "u8", RuntimeError, "value cannot be converted to type uint8 without overflow"),
    ([-0.5], "u8", RuntimeError, "value cannot be converted to type uint8 without overflow"),
    ([-129], "i8", RuntimeError, "value cannot be converted to type int8 without overflow"),
    ([127.9], "i8", RuntimeError, "value cannot be converted to type int8 without overflow"),
    ([nan], "i64", RuntimeError, "value cannot be converted to type int64 without overflow"),
    (
        [[1, 300], [2]],
        "u8",
        RuntimeError,
        "value cannot be converted to type uint8 without overflow",
    ),
    ([[1], [2], "a"], "i64", TypeError, "'str' object cannot be interpreted as an integer"),
    ([1, None, 2**63], "i64", TypeError, "'NoneType' object cannot be interpreted as an integer"),
    ([1, 2**63, None], "i64", ValueError, "Overflow when unpacking long long"),
    ([inf], "i32", RuntimeError, "value cannot be converted to type int32 without overflow"),
]


@pytest.mark.parametrize(("data", "dtype", "error", "text"), REFUSED)
def test_refuses(data: Any, dtype: str | None, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        made(data, dtypes.from_name(dtype) if dtype else None)
    assert (type(caught.value), str(caught.value)) == (error, text)


@pytest.mark.filterwarnings("ignore:Creating a tensor from a list of numpy")
@pytest.mark.parametrize(("data", "dtype", "error", "text"), REFUSED)
def test_refuses_as_torch(data: Any, dtype: str | None, error: type[Exception], text: str) -> None:
    torch = pytest.importorskip("torch")
    wanted = getattr(torch, dtypes.from_name(dtype).long_name) if dtype else None
    with pytest.raises(error) as caught:
        torch.tensor(data, dtype=wanted)
    assert str(caught.value).splitlines()[0] == text


def test_stand_ins_for_arrays_and_lists() -> None:
    np.testing.assert_array_equal(
        made([Convertible(), [3, 4]]), np.array([[1, 2], [3, 4]], np.float32)
    )
    np.testing.assert_array_equal(made([Listable(), Listable()]), [[1, 2], [1, 2]])


class Tensor:
    """Stands for the front end's class."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array


def of_tensors(data: Any) -> np.ndarray[Any, Any]:
    return array_from_data(
        data, None, dtypes.f32, array_of=lambda x: x.array if isinstance(x, Tensor) else None
    )


def test_tensors_in_lists_are_scalars_with_their_own_dtype() -> None:
    one = Tensor(np.array([7], np.int8))
    np.testing.assert_array_equal(of_tensors([one, one]), np.array([7, 7], np.int8), strict=True)
    np.testing.assert_array_equal(
        of_tensors([[one, 0.5]]), np.array([[7, 0.5]], np.float32), strict=True
    )
    with pytest.raises(ValueError, match="only one element tensors can be converted"):
        of_tensors([Tensor(np.zeros(2))])


def test_a_tensor_is_copied() -> None:
    tensor = Tensor(np.zeros((2, 3)))
    array = of_tensors(tensor)
    np.testing.assert_array_equal(array, tensor.array, strict=True)
    assert not np.shares_memory(array, tensor.array)


def test_the_default_float_is_an_option() -> None:
    for data in ([1.5], [], [True, 2, 0.5]):
        assert array_from_data(data, None, dtypes.f64).dtype == np.float64


def test_a_list_in_itself_and_deep_nesting() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    with pytest.raises(ValueError, match="too many dimensions 'list'"):
        made(loop)
    deep: Any = 1
    for _ in range(64):
        deep = [deep]
    assert made(deep).shape == (1,) * 64
    with pytest.raises(ValueError, match="too many dimensions 'list'"):
        made([deep])


def test_the_array_is_new_and_row_major() -> None:
    source = np.arange(6).reshape(2, 3)
    for view in (source, source.T, source[::-1]):
        array = made(view)
        assert array.flags.c_contiguous
        assert not np.shares_memory(array, source)
        np.testing.assert_array_equal(array, view)
    np.testing.assert_array_equal(
        made(np.array([1, 2], ">i4")), np.array([1, 2], np.int32), strict=True
    )


@settings(deadline=None, max_examples=200)
@given(
    st.recursive(
        st.one_of(
            st.booleans(),
            st.integers(-(2**64), 2**64),
            st.floats(),
            st.sampled_from([None, "ab"]),
        ),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, min_size=1, max_size=2).map(lambda x: x + x)
        ),
        max_leaves=8,
    ),
    st.sampled_from([None, *dtypes.ALL]),
)
def test_any_nested_data_goes_as_in_torch(data: Any, dtype: DType | None) -> None:
    torch = pytest.importorskip("torch")
    try:
        expected = torch.tensor(
            data, dtype=getattr(torch, dtype.long_name) if dtype else None
        ).numpy()
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        with pytest.raises(type(error)):
            made(data, dtype)
    else:
        np.testing.assert_array_equal(made(data, dtype), expected, strict=True)
