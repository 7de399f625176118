"""numpy arrays: exact, without a copy where they are large, read-only unless asked for."""

import sys
import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from serde_values import encode, encode_parts, exact_dtype

import morphml_ray.serde
from morphml_ray.errors import ConfigurationError
from morphml_ray.serde import SigningKey, decode
from morphml_ray.serde.packing import MIN_BUFFER_BYTES

KEY = SigningKey("a key of the tests, 32 characters")
MEGABYTE = 1 << 20


class Model:
    """No plain data: its arrays go through pickle."""

    def __init__(self, weights: Any) -> None:
        self.weights = weights


def nested_dtype(levels: int) -> Any:
    dtype: Any = np.dtype("i1")
    for _ in range(levels):
        dtype = np.dtype([("a", dtype)])
    return dtype


def is_pickled(data: bytes) -> bool:
    return data[4:5] == b"S"


@pytest.mark.parametrize("wrap", [lambda array: {"w": array}, Model], ids=["plain", "pickled"])
def test_large_arrays_are_never_copied(wrap: Any) -> None:
    array = np.arange(MEGABYTE, dtype=np.float32)
    value = wrap(array)
    tracemalloc.start()
    parts = encode_parts(value, KEY)
    copied = tracemalloc.get_traced_memory()[1]
    data = b"".join(parts)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    found = decode(data, KEY)
    copied += tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    copy = found["w"] if isinstance(found, dict) else found.weights
    assert copied < MEGABYTE
    assert np.shares_memory(copy, np.frombuffer(data, np.uint8))
    assert any(np.shares_memory(np.frombuffer(part, np.uint8), array) for part in parts)
    assert np.array_equal(copy, array)


@pytest.mark.parametrize("wrap", [lambda array: array, Model], ids=["plain", "pickled"])
@pytest.mark.parametrize("size", [3, MIN_BUFFER_BYTES])
def test_arrays_are_read_only_unless_asked_for(wrap: Any, size: int) -> None:
    data = bytearray(encode(wrap(np.zeros(size)), KEY))
    shown, own = decode(data, KEY), decode(data, KEY, writable=True)
    shown, own = (found.weights if isinstance(found, Model) else found for found in (shown, own))
    assert (shown.flags.writeable, own.flags.writeable) == (False, True)
    own[:] = 1
    assert not shown.any()


def test_buffers_are_aligned_in_place() -> None:
    value = [np.ones(MIN_BUFFER_BYTES + 1, np.uint8), np.ones(MIN_BUFFER_BYTES), b"x" * MIN_BUFFER_BYTES, np.ones(9999)]
    data = encode(value, KEY)
    start = np.frombuffer(data, np.uint8).ctypes.data
    assert [(copy.ctypes.data - start) % 64 for copy in decode(data, KEY) if not isinstance(copy, bytes)] == [0] * 3


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
        np.arange(10)[::2],
        np.arange(10)[::-1],
        np.broadcast_to(np.float64(1), (3, 2)),
        np.arange(60_000.0).reshape(200, 300).T,
        np.zeros((2, 0, 3), order="F"),
        np.zeros(3, "V0"),
        np.array("2026", "M8"),
        np.array(3, "m8[25s]"),
        np.longdouble(1) / 3,
        np.clongdouble(1j) / 3,
        np.array([(1, 2)], {"names": ["a", "b"], "formats": ["u1", "u1"], "offsets": [3, 1], "itemsize": 9}),
        np.zeros((), [("a", [("b", ">U3", (2, 2))])])[()],
        np.zeros(2, []),
        np.zeros(1, nested_dtype(16)),
        np.array([(1, 2)], [(("a title", "a"), "i4"), ("b", "i2")]),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}-{array.strides}",
)
def test_unusual_arrays_are_plain_data(array: Any) -> None:
    data = encode(array, KEY)
    assert not is_pickled(data)
    copy = decode(data, KEY)
    assert np.array_equal(copy, array)
    assert type(copy) is type(array)
    assert exact_dtype(copy.dtype) == exact_dtype(array.dtype)


@pytest.mark.parametrize(
    "value",
    [
        np.array([None, 1], object),
        np.array([(1, None)], [("a", "i4"), ("b", object)]),
        np.ma.masked_array([1, 2], [True, False]),
        np.array([(1,)], [((3, "a"), "i4")]),
        np.zeros(1, np.dtype("f4", metadata={"unit": "m"})),
        np.array(["any", "length"], np.dtypes.StringDType()),
        np.array([(1,)], [("a", "i4")]).view(np.recarray),
        np.zeros(1, nested_dtype(20)),
        np.dtype("f4"),
        np.float32,
        np.add,
        np.random.default_rng(1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_only_a_pickle_keeps_whole_is_pickled(value: Any) -> None:
    data = encode(value, KEY)
    assert is_pickled(data)
    copy = decode(data, KEY)
    assert type(copy) is type(value)
    assert str(copy) == str(value) or isinstance(value, np.random.Generator)


def test_the_state_of_a_random_generator_goes_on_where_it_was() -> None:
    generator = np.random.default_rng(7)
    state = generator.bit_generator.state
    data = encode(state, KEY)
    assert not is_pickled(data)  # 128-bit integers
    expected = generator.random(3)
    generator.bit_generator.state = decode(data, KEY)
    assert np.array_equal(generator.random(3), expected)


def test_a_pickled_array_with_gaps_stays_whole() -> None:
    value = Model(np.arange(100)[::3])
    assert np.array_equal(decode(encode(value, KEY), KEY).weights, value.weights)


def test_without_numpy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(np.float32(1), KEY)
    monkeypatch.delitem(sys.modules, "morphml_ray.serde.arrays")
    monkeypatch.delattr(morphml_ray.serde, "arrays")
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ConfigurationError, match="install numpy"):
        decode(data, KEY)


EXTENSIONS = [kind for kind in vars(ml_dtypes).values() if isinstance(kind, type) and issubclass(kind, np.generic)]


@pytest.mark.parametrize("kind", EXTENSIONS, ids=lambda kind: kind.__name__)
def test_case_22_a_dtype_that_numpy_cannot_name_survives(kind: Any) -> None:
    numbers = np.array([[0, 1], [1, 0]]).astype(kind)
    structured = np.zeros(2, [("id", "i4"), ("weight", kind, (2,))])
    for array in (numbers, numbers.T[:1], structured, np.zeros(MIN_BUFFER_BYTES, kind)):
        copy = decode(encode({"w": array}, KEY), KEY, writable=True)["w"]
        assert (copy.dtype, copy.shape, copy.tobytes()) == (array.dtype, array.shape, array.tobytes())
        copy[...] = array
    scalar = decode(encode(numbers[0, 1], KEY), KEY)
    assert (type(scalar), scalar) == (kind, numbers[0, 1])
    assert decode(encode(np.dtype(kind), KEY), KEY) == kind
