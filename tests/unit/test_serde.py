"""Values to bytes and back: types survive, the format does not change, pickles are signed."""

import collections
import dataclasses
import datetime as dt
import enum
import fractions
import pickle
import threading
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import ray
from hypothesis import given, settings
from serde_values import GOLDEN, PLAIN, encode, encode_parts, exactly

from morphml_ray.errors import ConfigurationError, CorruptDataError, UntrustedDataError, ValidationError
from morphml_ray.serde import SigningKey, decode

KEY = SigningKey("a key of the tests, 32 characters")
FOLDER = Path(__file__).parent / "golden" / "serde"
SIGNED = {
    "ordered": collections.OrderedDict(b=1, a=(2, 3)),
    "fraction": fractions.Fraction(1, 3),
    "signed_buffers": collections.OrderedDict(weights=GOLDEN["buffers"]["weights"]),
}
# How a zone file begins, RFC 8536: one local time type, an hour east, named CET.
ZONE = b"TZif" + bytes(16 + 16) + b"\0\0\0\1" + b"\0\0\0\4" + b"\0\0\x0e\x10\0\0" + b"CET\0"


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.IntEnum):
    RED = 1


@dataclasses.dataclass
class Layer:
    units: int


class Holder:
    def __init__(self, held: Any) -> None:
        self.held = held


class Text(str):
    __slots__ = ()


def count() -> Iterator[int]:
    yield 1


class Strided:
    def __reduce_ex__(self, protocol: Any) -> Any:
        return bytes, (pickle.PickleBuffer(memoryview(b"abcd")[::2]),)


def is_pickled(data: bytes) -> bool:
    return data[4:5] == b"S"


@given(PLAIN)
@settings(deadline=None)
def test_plain_data_comes_back_with_its_types(value: Any) -> None:
    data = encode(value, KEY)
    assert not is_pickled(data)
    assert exactly(decode(data, KEY)) == exactly(value)
    assert exactly(decode(memoryview(data), KEY, writable=True)) == exactly(value)


@pytest.mark.parametrize("name", GOLDEN)
def test_what_was_written_once_is_read_and_written_so_for_ever(name: str) -> None:
    data = (FOLDER / f"{name}.bin").read_bytes()
    assert exactly(decode(data, KEY)) == exactly(GOLDEN[name])
    assert encode(GOLDEN[name], KEY) == data


@pytest.mark.parametrize("name", SIGNED)
def test_what_was_signed_once_is_read_for_ever(name: str) -> None:
    value = decode((FOLDER / f"{name}.bin").read_bytes(), KEY)
    assert type(value) is type(SIGNED[name])
    assert repr(value) == repr(SIGNED[name])


def test_every_golden_file_is_read() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == set(GOLDEN) | set(SIGNED)


@pytest.mark.parametrize(
    "value",
    [
        Point(1, 2),
        Colour.RED,
        Layer(3),
        Text("text"),
        collections.OrderedDict(a=1),
        collections.defaultdict(list, a=[1]),
        dt.time(1, 2),
        range(3),
        int,
        [{"deep": (Layer(1),)}],
    ],
    ids=repr,
)
def test_everything_else_is_pickled_and_keeps_its_class(value: Any) -> None:
    data = encode(value, KEY)
    assert is_pickled(data)
    copy = decode(data, KEY)
    assert (type(copy), copy) == (type(value), value)


def test_functions_travel_by_value() -> None:
    offset = 2
    assert decode(encode(lambda x: x + offset, KEY), KEY)(1) == 3


def test_a_value_that_holds_itself_is_pickled() -> None:
    value: list[Any] = [1]
    value.append(value)
    copy = decode(encode(value, KEY), KEY)
    assert copy[1] is copy


def test_a_hundred_levels_are_plain_and_more_are_pickled() -> None:
    value: tuple[Any, ...] = ()
    for _ in range(100):
        value = (value,)
    assert not is_pickled(encode(value, KEY))
    assert decode(encode(value, KEY), KEY) == value
    assert is_pickled(encode((value,), KEY))
    assert decode(encode((value,), KEY), KEY) == (value,)


@pytest.mark.parametrize(
    "value", [threading.Lock(), count(), KEY, Strided()], ids=["lock", "generator", "key", "strided"]
)
def test_what_cannot_be_pickled_is_a_validation_error(value: Any) -> None:
    with pytest.raises(ValidationError, match="cannot be pickled"):
        encode({"model": value}, KEY)


def test_endless_nesting_is_a_validation_error() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValidationError, match="cannot be pickled"):
        encode(value, KEY)


@pytest.fixture
def cet(tmp_path: Path) -> Iterator[zoneinfo.ZoneInfo]:
    """A machine that knows one time zone."""
    (tmp_path / "Test").mkdir()
    (tmp_path / "Test" / "CET").write_bytes(ZONE)
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([str(tmp_path)])
    yield zoneinfo.ZoneInfo("Test/CET")
    zoneinfo.reset_tzpath(before)
    zoneinfo.ZoneInfo.clear_cache()


def test_named_time_zones_stay_named(cet: zoneinfo.ZoneInfo, tmp_path: Path) -> None:
    value = dt.datetime(2026, 1, 2, 3, tzinfo=cet)
    data = encode(value, KEY)
    assert not is_pickled(data)
    assert decode(data, KEY).tzinfo is cet
    assert is_pickled(encode(value.replace(tzinfo=zoneinfo.ZoneInfo.no_cache("Test/CET")), KEY))
    zoneinfo.ZoneInfo.clear_cache()
    zoneinfo.reset_tzpath([str(tmp_path / "Test")])
    with pytest.raises(ConfigurationError, match=r"Test/CET.*install tzdata"):
        decode(data, KEY)


def test_utc_is_the_utc_that_was_stored() -> None:
    assert decode(encode(dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc), KEY), KEY).tzinfo is dt.timezone.utc


def test_plain_data_does_not_change_and_needs_no_key() -> None:
    value = {"a": (1, {2}), 3: [2**70]}
    before = exactly(value)
    data = encode(value, KEY)
    assert exactly(value) == before
    assert decode(data, SigningKey("another key, which does not matter")) == value


def test_parts_are_the_bytes() -> None:
    for value in [*GOLDEN.values(), *SIGNED.values()]:
        parts = encode_parts(value, KEY)
        assert b"".join(parts) == encode(value, KEY)
        assert all(memoryview(part).contiguous and memoryview(part).format == "B" for part in parts)


@pytest.mark.parametrize("data", [bytearray, memoryview, pickle.PickleBuffer], ids=lambda kind: kind.__name__)
def test_any_contiguous_bytes_are_read(data: Any) -> None:
    assert decode(data(encode({"a": 1}, KEY)), KEY) == {"a": 1}


@pytest.mark.parametrize("data", ["text", None, 5, memoryview(b"abcd")[::2]], ids=["str", "None", "int", "strided"])
def test_anything_else_is_refused(data: Any) -> None:
    with pytest.raises(ValidationError, match="contiguous bytes"):
        decode(data, KEY)


class Planted:
    """What an attacker stores: reading it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_lesson_17_a_planted_pickle_is_refused_unread(tmp_path: Path, protocol: int) -> None:
    file = tmp_path / "planted"
    planted = pickle.dumps(Planted(file), protocol)
    with pytest.raises(UntrustedDataError, match="without a signature"):
        decode(planted, KEY)
    assert not file.exists()
    pickle.loads(planted)  # noqa: S301 - shows that it would have run
    assert file.exists()


def test_lesson_17_a_pickle_signed_with_another_key_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "planted"
    other = SigningKey("the key of another node, which made its own")
    data = encode(Planted(file), other)
    with pytest.raises(UntrustedDataError, match=f"{other.id.hex()}.*MORPHML_SIGNING_KEY") as caught:
        decode(data, KEY)
    assert KEY.id.hex() in str(caught.value)
    assert not file.exists()
    decode(data, other)
    assert file.exists()


def test_lesson_17_a_forged_key_id_helps_nobody(tmp_path: Path) -> None:
    file = tmp_path / "planted"
    data = bytearray(encode(Planted(file), SigningKey("the key of an attacker, 32 characters")))
    data[5:9] = KEY.id
    with pytest.raises(UntrustedDataError, match="forged"):
        decode(data, KEY)
    assert not file.exists()


def test_a_class_that_is_missing_here_is_named() -> None:
    data = encode(Layer(1), KEY)
    module = __name__.encode()
    assert module in data
    parts = encode_parts(Layer(1), KEY)[0]
    body = bytes(parts).replace(module, b"x" * len(module))
    with pytest.raises(CorruptDataError, match="must be importable"):
        decode(body + KEY.sign([body]), KEY)


def test_a_newer_format_names_the_remedy() -> None:
    data = bytearray(encode(1, KEY))
    data[3] = 2
    with pytest.raises(CorruptDataError, match=r"format 2.*upgrade morphml_ray"):
        decode(data, KEY)


@pytest.mark.parametrize(
    "hold",
    [
        lambda held: held,
        lambda held: {"a": [(held,)]},
        lambda held: {frozenset({held}): 1},
        lambda held: [Holder({"a": held})],
        lambda held: lambda: held,
        lambda held: np.array([None, held], object),
        lambda held: collections.OrderedDict(a=held),
    ],
    ids=["itself", "plain", "set", "object", "function", "array", "subclass"],
)
def test_case_25_a_forgotten_get_is_a_clear_error_at_any_depth(hold: Any) -> None:
    reference: Any = ray.ObjectRef.from_random()
    with pytest.raises(ValidationError, match=r"an ObjectRef is a reference, .*: ray\.get\(\) it first$"):
        encode(hold(reference), KEY)


@pytest.mark.parametrize("part", [[1], {"a": 1}, (1,), frozenset({1}), np.ones(2), b"12345678"], ids=repr)
def test_parts_at_many_places_are_written_once_where_they_are_many(part: Any) -> None:
    value = [[part] * 100] * 100
    assert not is_pickled(encode(value, KEY))
    for _ in range(60):
        value = [value, value]
    data = encode(value, KEY)
    assert is_pickled(data)
    assert len(data) < 3_000
    copy = decode(data, KEY)
    for _ in range(60):
        assert copy[0] is copy[1]
        copy = copy[0]
    assert exactly(copy) == exactly([[part] * 100] * 100)


def test_a_large_array_at_two_places_is_written_once() -> None:
    weights = np.zeros(1 << 20)
    assert len(encode({"best": weights, "last": weights}, KEY)) < 1.1 * weights.nbytes
    assert not is_pickled(encode({"best": weights, "last": weights.copy()}, KEY))


@pytest.mark.parametrize("place", ["", "cache:b", "cache:a\0", "cache", "\ud800"])
def test_case_65_a_signed_value_is_refused_at_another_place(place: str) -> None:
    value = collections.OrderedDict(a=1)
    data = encode(value, KEY, bound_to="cache:a")
    assert decode(data, KEY, bound_to="cache:a") == value
    with pytest.raises(UntrustedDataError, match="another place" if place else "changed"):
        decode(data, KEY, bound_to=place)
    with pytest.raises(UntrustedDataError, match="another place"):
        decode(encode(value, KEY, bound_to=place), KEY, bound_to="cache:a")


def test_case_65_what_runs_no_code_is_bound_to_no_place() -> None:
    assert encode([1], KEY, bound_to="cache:a") == encode([1], KEY)
    assert decode(encode([1], KEY), KEY, bound_to="cache:a") == [1]
