"""Bytes that are damaged or meant to do harm: an error of ours, in bounded time and memory, and no code runs."""

import itertools
import struct
import tracemalloc
from collections import OrderedDict
from typing import Any

import msgspec
import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext
from serde_values import GOLDEN, PLAIN, encode, exactly

from morphml_ray.errors import ConfigurationError, CorruptDataError, UntrustedDataError
from morphml_ray.serde import SigningKey, decode, extensions
from morphml_ray.serde.envelope import seal_plain
from morphml_ray.serde.packing import pack_plain

KEY = SigningKey("a key of the tests, 32 characters")
REFUSALS = (CorruptDataError, UntrustedDataError)
MEGABYTE = 1 << 20
pack = msgspec.msgpack.Encoder().encode

SAMPLES = {
    "plain": encode(GOLDEN["result"], KEY),
    "extensions": encode([GOLDEN["containers"], GOLDEN["times"], GOLDEN["arrays"][:2]], KEY),
    "pickled": encode(OrderedDict(a=1), KEY),
    "pickled_buffers": encode(OrderedDict(a=np.arange(40)), KEY),
}


def sealed(message: bytes, *buffers: bytes) -> bytes:
    """What anybody can write: plain data with a checksum that fits."""
    return b"".join(seal_plain(message, [memoryview(buffer) for buffer in buffers]))


def checksum(covered: bytes) -> bytes:
    return blake3(covered).digest(8)


def is_refused(data: bytes | bytearray) -> bool:
    """Whether bytes are refused; any other error fails the test."""
    try:
        decode(data, KEY)
    except (*REFUSALS, ConfigurationError):
        return True
    return False


def check_forged(data: bytes) -> None:
    """What is not refused is plain data like any other; any error but a refusal fails the test."""
    try:
        value = decode(data, KEY)
    except (CorruptDataError, ConfigurationError):
        return
    assert exactly(decode(encode(value, KEY), KEY)) == exactly(value)


@pytest.mark.parametrize("name", SAMPLES)
def test_bytes_cut_off_anywhere_are_refused(name: str) -> None:
    data = SAMPLES[name]
    assert not is_refused(data)
    for size in range(len(data)):
        with pytest.raises(UntrustedDataError if name.startswith("pickled") and size > 5 else CorruptDataError):
            decode(data[:size], KEY)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_flipped_bit_is_noticed(name: str) -> None:
    data = bytearray(SAMPLES[name])
    for position, bit in itertools.product(range(len(data)), range(8)):
        data[position] ^= 1 << bit
        with pytest.raises(REFUSALS):
            decode(data, KEY)
        data[position] ^= 1 << bit
    assert data == SAMPLES[name]


def test_a_flipped_bit_in_a_large_array_is_noticed() -> None:
    for value, error in [(np.zeros(9999), CorruptDataError), (OrderedDict(a=np.zeros(9999)), UntrustedDataError)]:
        data = bytearray(encode(value, KEY))
        data[len(data) // 2] ^= 1
        with pytest.raises(error):
            decode(data, KEY)


@given(PLAIN, st.data())
@settings(deadline=None)
def test_damage_of_any_value_is_noticed(value: Any, data: st.DataObject) -> None:
    whole = encode(value, KEY)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert is_refused(whole[:cut])
    damaged = bytearray(whole)
    damaged[cut] ^= data.draw(st.integers(1, 255))
    assert is_refused(damaged)
    assert is_refused(whole + b"\0")


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_no_bytes_at_all_raise_another_error(data: bytes) -> None:
    assert is_refused(data)
    check_forged(sealed(data))
    check_forged(sealed(data, b"buffer"))


@given(PLAIN, st.data())
@settings(deadline=None)
def test_forged_plain_data_raises_no_other_error(value: Any, data: st.DataObject) -> None:
    packed = pack_plain(value)
    assert packed is not None
    message = bytearray(packed[0])
    for _ in range(3):
        position = data.draw(st.integers(0, len(message) - 1))
        message[position] = data.draw(st.integers(0, 255))
    check_forged(sealed(bytes(message)))


CODES = [code for code in vars(extensions).values() if isinstance(code, int)]


@given(st.sampled_from(CODES), st.binary(max_size=20) | PLAIN.map(lambda value: (pack_plain(value) or (b"",))[0]))
@settings(deadline=None)
def test_extensions_of_any_content_raise_no_other_error(code: int, content: bytes) -> None:
    check_forged(sealed(pack(Ext(code, content))))
    check_forged(sealed(pack(Ext(extensions.NUMPY_ARRAY, pack(["<u1", [20], "C", 0]))), content))


LONG = Ext(extensions.TUPLE, b"\xdd\xff\xff\xff\xff")
HOSTILE = {
    "list of 4 billion": b"\xdd\xff\xff\xff\xff\x01",
    "list of 200 million": b"\xdd\x0f\xff\xff\xff\x01",
    "dict of 4 billion": b"\xdf\xff\xff\xff\xff\x01\x01",
    "text of 4 GB": b"\xdb\xff\xff\xff\xffa",
    "bytes of 4 GB": b"\xc6\xff\xff\xff\xffa",
    "extension of 4 GB": b"\xc9\xff\xff\xff\xff\x01a",
    "tuple of 4 billion": pack(LONG),
    "a million lists in each other": b"\x91" * MEGABYTE,
    "a million dicts in each other": b"\x81\x01" * MEGABYTE,
    "array of 16 EB": pack(Ext(extensions.NUMPY_ARRAY, pack(["<f4", [2**62], "C", b"1234"]))),
    "array of a shape that overflows": pack(Ext(extensions.NUMPY_ARRAY, pack(["<f4", [2**63, 2], "C", b""]))),
    "array of a negative shape": pack(Ext(extensions.NUMPY_ARRAY, pack(["<f4", [-1, -1], "C", b"1234"]))),
    "array of too many dimensions": pack(Ext(extensions.NUMPY_ARRAY, pack(["<f4", [1] * 99, "C", b"1234"]))),
    "empty array of a huge shape": pack(Ext(extensions.NUMPY_ARRAY, pack(["<f4", [0, 2**63], "C", b""]))),
    "array of objects": pack(Ext(extensions.NUMPY_ARRAY, pack(["|O", [1], "C", b"12345678"]))),
    "array of objects in fields": pack(
        Ext(extensions.NUMPY_ARRAY, pack([[["a"], ["|O"], [0], [None], 8, False], [1], "C", b"12345678"]))
    ),
    "array of fields beyond its items": pack(
        Ext(extensions.NUMPY_ARRAY, pack([[["a"], ["<f8"], [64], [None], 8, False], [1], "C", b"12345678"]))
    ),
    "array of items of 2 GB": pack(Ext(extensions.NUMPY_SCALAR, pack(["|V2147483647", b"a"]))),
    "array of an unknown order": pack(Ext(extensions.NUMPY_ARRAY, pack(["<f4", [1], "Z", b"1234"]))),
    "array in a buffer that is not there": pack(Ext(extensions.NUMPY_ARRAY, pack(["<f4", [1], "C", 0]))),
    "array in a buffer before the first": pack(Ext(extensions.NUMPY_ARRAY, pack(["<f4", [1], "C", -1]))),
    "bytes in a buffer that is no number": pack(Ext(extensions.BYTES, pack(None))),
    "bytearray of a billion": pack(Ext(extensions.BYTEARRAY, pack(10**9))),
    "unknown extension": pack(Ext(99, b"")),
    "tuple of a text": pack(Ext(extensions.TUPLE, pack("abc"))),
    "set of lists": pack(Ext(extensions.SET, pack([[1]]))),
    "dict of lists": pack(Ext(extensions.PAIRS, pack([[1], 2]))),
    "dict without a value": pack(Ext(extensions.PAIRS, pack([1, 2, 3]))),
    "month 13": pack(Ext(extensions.DATE, pack([2026, 13, 1]))),
    "a billion years": pack(Ext(extensions.TIMEDELTA, pack([2**60, 0, 0]))),
    "half a time": pack(Ext(extensions.DATETIME, pack([2026, 1]))),
    "a zone outside the zones": pack(Ext(extensions.DATETIME, pack([2026, 1, 1, 0, 0, 0, 0, 0, "../../etc/passwd"]))),
    "a decimal that is none": pack(Ext(extensions.DECIMAL, b"1e" + b"9" * 99)),
    "half a complex number": pack(Ext(extensions.COMPLEX, b"12345678")),
    "a short UUID": pack(Ext(extensions.UUID, b"abc")),
    "a text that is none": b"\xa1\xff",
    "two values": b"\x01\x01",
    "nothing": b"",
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE)
def test_hostile_messages_are_refused_in_little_memory(message: bytes) -> None:
    data = sealed(message)
    decode(sealed(pack(1)), KEY)
    tracemalloc.start()
    with pytest.raises(CorruptDataError):
        decode(data, KEY)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEGABYTE


def test_extensions_in_extensions_are_bounded() -> None:
    message = pack(())
    for _ in range(2000):
        message = pack(Ext(extensions.TUPLE, b"\x91" + message))
    with pytest.raises(CorruptDataError, match="deeper than 100 levels"):
        decode(sealed(message), KEY)


def test_a_buffer_cannot_be_asked_for_twice() -> None:
    large = Ext(extensions.BYTES, pack(0))
    assert decode(sealed(pack([large]), b"large"), KEY) == [b"large"]
    with pytest.raises(CorruptDataError, match="not there"):
        decode(sealed(pack([large, large]), b"large"), KEY)


def test_dtypes_in_dtypes_are_bounded() -> None:
    dtype: Any = "<f4"
    for _ in range(200):
        dtype = [dtype, [1]]
    for bad in (dtype, ["<f4"], 5):
        with pytest.raises(CorruptDataError, match="data type"):
            decode(sealed(pack(Ext(extensions.NUMPY_ARRAY, pack([bad, [1], "C", b"1234"])))), KEY)


@pytest.mark.parametrize(
    "layout",
    [
        struct.pack("<QI", 1, 2**32 - 1),
        struct.pack("<QI", 2**64 - 1, 0),
        struct.pack("<QIQ", 1, 1, 2**64 - 1),
        struct.pack("<QIQ", 1, 1, 0),
        struct.pack("<QIQ", 0, 1, 2**63),
        struct.pack("<QIQQ", 1, 2, 2**64 - 1, 5),
        struct.pack("<Q", 1),
        b"",
    ],
    ids=lambda layout: layout.hex() or "none",
)
def test_sizes_that_do_not_add_up_are_refused(layout: bytes) -> None:
    forged = sealed(pack(1), b"buffer")[:5] + layout + pack(1)
    whole = forged + sealed(b"")[-8:]
    assert is_refused(whole)
    for head in (forged, forged + bytes(100)):
        with pytest.raises(CorruptDataError, match=r"cut off|add up"):
            decode(head + checksum(head), KEY)


def test_an_unknown_kind_is_refused() -> None:
    head = encode(1, KEY)[:4] + b"?" + pack(1)
    with pytest.raises(CorruptDataError, match="no known kind"):
        decode(head + checksum(head), KEY)


@pytest.mark.parametrize(
    "data", [b"", b"5", b"\xc1", b"\xc1mr", b"\xc1mr\x01", b'{"a": 1}', b"\x1f\x8b", b"c", b"\0" * 99]
)
def test_foreign_bytes_are_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptDataError):
        decode(data, KEY)


@pytest.mark.parametrize(
    "data", [b"\x80", b"\x80\x05K\x01.", b"cos\nsystem\n(S'id'\ntR.", b"(cos\nsystem\nS'id'\no.", b"\xc1mr\x01Sabc"]
)
def test_foreign_pickles_are_untrusted(data: bytes) -> None:
    with pytest.raises(UntrustedDataError):
        decode(data, KEY)


def test_no_error_shows_a_key() -> None:
    secret = KEY._secret
    for data in (b"\x80", SAMPLES["pickled"][:-1], encode(OrderedDict(a=1), SigningKey("q" * 32))):
        with pytest.raises(UntrustedDataError) as caught:
            decode(data, KEY)
        assert secret.hex() not in str(caught.value)
        assert "q" * 32 not in str(caught.value)
