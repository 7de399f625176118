"""Values of every kind that is stored as plain data, and what makes two of them exactly the same."""

import datetime as dt
import struct
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from morphml_ray import serde
from morphml_ray.rpc.values import pickle_value

encode = partial(serde.encode, pickler=pickle_value)
encode_parts = partial(serde.encode_parts, pickler=pickle_value)


def exactly(value: Any) -> Any:
    """What two values have in common only if types, order and bits are the same."""
    kind = type(value)
    if kind in {list, tuple}:
        return kind, [exactly(item) for item in value]
    if kind in {set, frozenset}:
        return kind, sorted(repr(exactly(item)) for item in value)
    if kind is dict:
        return kind, [(exactly(key), exactly(item)) for key, item in value.items()]
    if kind is np.ndarray:
        return kind, *exact_dtype(value.dtype), value.shape, value.flags.f_contiguous, value.tobytes()
    if isinstance(value, np.generic):
        return kind, *exact_dtype(value.dtype), value.tobytes()
    return kind, *_scalar(value)


def _scalar(value: Any) -> tuple[Any, ...]:
    if isinstance(value, float):
        return (struct.pack("<d", value),)
    if isinstance(value, complex):
        return (struct.pack("<dd", value.real, value.imag),)
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None), value.fold, type(value.tzinfo), repr(value.tzinfo)
    return (str(value) if isinstance(value, Decimal) else value,)


def exact_dtype(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """What two data types have in common only if they are the same, padding included."""
    return dtype.str, str(dtype.fields), dtype.names, dtype.itemsize, dtype.isalignedstruct


OFFSETS = st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))
ZONES = st.none() | OFFSETS.map(dt.timezone) | st.builds(dt.timezone, OFFSETS, st.text(max_size=3))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters(exclude_categories=()), max_size=6)
    | st.binary(max_size=6)
    | st.datetimes(timezones=ZONES)
    | st.dates()
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
)
HASHABLE = st.recursive(
    SCALARS.filter(lambda scalar: not isinstance(scalar, Decimal) or not scalar.is_snan()),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
DTYPES: st.SearchStrategy[Any] = (
    hnp.scalar_dtypes()
    | hnp.byte_string_dtypes(min_len=1)
    | hnp.unicode_string_dtypes(min_len=1)
    | hnp.nested_dtypes(max_leaves=3, max_itemsize=64)
)
ARRAYS: st.SearchStrategy[Any] = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=3))
PLAIN: st.SearchStrategy[Any] = st.recursive(
    SCALARS | st.binary(max_size=6).map(bytearray) | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(HASHABLE, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.dictionaries(HASHABLE, inner, max_size=3)
    ),
    max_leaves=8,
)

# One value a name; their bytes stand in golden/serde/ and must be read, and written, so for ever.
GOLDEN: dict[str, Any] = {
    "result": {"fitness": 0.93, "metrics": {"accuracy": 0.93, "loss": float("inf"), "epochs": 5, "ok": True}},
    "numbers": [0, -1, 2**63, 2**64 - 1, -(2**63), 2**64, -(2**200), 0.0, -0.0, float("nan"), 1e-308, 2 - 3j],
    "texts": ["", "Grüße", "\ud800", b"", b"\x80", bytearray(b"ab")],
    "containers": [(1, (2, ())), {3}, frozenset({(4, True)}), {}, {1: "a", (2, 3): {"b": None}, None: [True]}],
    "times": [
        dt.datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001 - naive times are plain data too
        dt.datetime(2026, 10, 25, 2, 30, tzinfo=dt.timezone.utc),
        dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=dt.timezone(dt.timedelta(hours=-3, minutes=-30), "NST")),
        dt.date(1, 1, 1),
        dt.timedelta(-1, 5, 7),
    ],
    "exact": [Decimal("1.10"), Decimal("-Infinity"), UUID("12345678-1234-5678-1234-567812345678")],
    "arrays": [
        np.arange(6, dtype="<f4").reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
        np.array(1.5),
        np.zeros((0, 3), "?"),
        np.array(["2026-01-02", "NaT"], "M8[D]"),
        np.array(["a", "bc"]),
        np.array([(1, (2.5, 3.5))], np.dtype([("a", "<i8"), ("b", "<f8", (2,))], align=True)),
    ],
    "array_scalars": [np.float32(0.5), np.int64(-1), np.bool_(1), np.str_("a\0"), np.bytes_(b"a\0"), np.void(b"ab")],
    "buffers": {
        "weights": np.arange(5000, dtype="<f4"),
        "raw": bytes(range(256)) * 80,
        "more": (bytearray(b"x" * 20_000),),
    },
}
