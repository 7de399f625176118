"""Entries as bytes: frozen, complete, and refused wherever they were touched."""

import itertools
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from blake3 import blake3
from checkpoint_values import AT, GOLDEN, entries, record
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from morphml_ray.checkpoints import sealing
from morphml_ray.checkpoints.manifest import (
    MAX_LIVE,
    Chunk,
    Entry,
    Kind,
    LogState,
    Region,
    Table,
    check_metrics,
)
from morphml_ray.checkpoints.names import Codec, place_of
from morphml_ray.checkpoints.sealing import decode_table, encode_table, seal, unseal
from morphml_ray.errors import CorruptDataError, UntrustedDataError, ValidationError
from morphml_ray.serde import SigningKey

KEY = SigningKey("a key of the tests, 32 characters")
OTHER_KEY = SigningKey("another key of the tests, 32 more")
PLACE = place_of("digits")
FOLDER = Path(__file__).parent / "golden" / "checkpoints"


@pytest.mark.parametrize("name", GOLDEN)
def test_what_was_written_once_is_read_for_ever(name: str) -> None:
    frozen = (FOLDER / f"{name}_v1.bin").read_bytes()
    entry = GOLDEN[name]
    assert unseal(frozen, PLACE, entry.sequence, KEY) == entry
    assert seal(entry, PLACE, KEY) == frozen


@given(entries())
@settings(max_examples=50, deadline=None)
def test_an_entry_comes_back_with_the_fields_of_a_newer_version(entry: Entry) -> None:
    sealed = seal(entry, PLACE, KEY)
    assert unseal(sealed, PLACE, entry.sequence, KEY) == entry
    assert seal(unseal(sealed, PLACE, entry.sequence, KEY), PLACE, KEY) == sealed


@pytest.mark.parametrize("name", GOLDEN)
def test_lesson_37_bytes_cut_off_anywhere_are_damaged(name: str) -> None:
    entry = GOLDEN[name]
    sealed = seal(entry, PLACE, KEY)
    for size in range(len(sealed)):
        with pytest.raises(CorruptDataError):
            unseal(sealed[:size], PLACE, entry.sequence, KEY)
    with pytest.raises(CorruptDataError):
        unseal(sealed + b"x", PLACE, entry.sequence, KEY)


@pytest.mark.parametrize("name", GOLDEN)
def test_every_flipped_bit_is_noticed(name: str) -> None:
    entry = GOLDEN[name]
    data = bytearray(seal(entry, PLACE, KEY))
    for position, bit in itertools.product(range(len(data)), range(8)):
        data[position] ^= 1 << bit
        # Only a signature alone can be forged, and is then no damage.
        refusal = UntrustedDataError if position >= len(data) - 32 else CorruptDataError
        with pytest.raises(refusal):
            unseal(bytes(data), PLACE, entry.sequence, KEY)
        data[position] ^= 1 << bit


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptDataError):
        unseal(data, PLACE, 7, KEY)


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.binary(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
@settings(max_examples=50, deadline=None)
def test_a_signed_body_that_makes_no_sense_is_damaged(body: Any) -> None:
    try:
        packed = msgspec.msgpack.encode(body)
    except OverflowError:
        return
    with pytest.raises(CorruptDataError):
        unseal(forged(packed), PLACE, 7, KEY)


@pytest.mark.parametrize(
    "packed", [b"\xdd\xff\xff\xff\xff", b"\x81" * 5000, b"\xc7\x01\x63x", b"", b"\xc1", b"\x91" * 9000]
)
def test_a_signed_body_that_asks_for_much_is_damaged(packed: bytes) -> None:
    with pytest.raises(CorruptDataError):
        unseal(forged(packed), PLACE, 7, KEY)


def forged(body: bytes) -> bytes:
    """Bytes with a good signature, whatever is in them."""
    covered = b"\xc1mrlog\x01" + KEY.id + body
    covered += blake3(covered).digest(8)
    return covered + KEY.sign([covered], PLACE.entry_key(7))


def test_lesson_17_an_entry_of_another_key_or_place_is_not_read() -> None:
    entry = GOLDEN["checkpoint"]
    sealed = seal(entry, PLACE, KEY)
    with pytest.raises(UntrustedDataError, match="MORPHML_SIGNING_KEY"):
        unseal(sealed, PLACE, entry.sequence, OTHER_KEY)
    with pytest.raises(UntrustedDataError, match="another experiment or number"):
        unseal(sealed, PLACE, entry.sequence + 1, KEY)
    with pytest.raises(UntrustedDataError):
        unseal(sealed, place_of("other"), entry.sequence, KEY)


def test_lesson_53_a_copy_of_a_whole_store_is_as_good_as_the_store() -> None:
    entry = GOLDEN["checkpoint"]
    assert unseal(bytes(bytearray(seal(entry, PLACE, KEY))), place_of("digits"), entry.sequence, KEY) == entry


def test_a_newer_format_says_so() -> None:
    data = forged(b"\x80")[:-40]
    data = data.replace(b"mrlog\x01", b"mrlog\x02")
    data += blake3(data).digest(8)
    with pytest.raises(CorruptDataError, match="format 2"):
        unseal(data + KEY.sign([data], PLACE.entry_key(7)), PLACE, 7, KEY)


def changed(**log: Any) -> Entry:
    return replace(GOLDEN["mark"], log=LogState(**log))


@pytest.mark.parametrize(
    "entry",
    [
        changed(live=(record(3), record(3))),
        changed(live=(record(4), record(3))),
        changed(live=(record(9),)),
        changed(epoch=9),
        changed(era=9),
        changed(recent=((9, "w"),)),
        replace(GOLDEN["mark"], experiment="other"),
        replace(GOLDEN["mark"], state=GOLDEN["checkpoint"].state),
        replace(GOLDEN["checkpoint"], state=None),
    ],
)
def test_an_entry_that_contradicts_itself_is_damaged(entry: Entry) -> None:
    with pytest.raises(CorruptDataError, match="contradict"):
        unseal(seal(entry, PLACE, KEY), PLACE, entry.sequence, KEY)


@pytest.mark.parametrize(
    "entry",
    [
        changed(live=(record(3, -1),)),
        changed(live=(record(3, 2**63),)),
        changed(live=(record(3, write_id="no id"),)),
        changed(live=(record(3, damage="x" * 501),)),
        changed(live=(record(3, metrics={"a" * 201: 1}),)),
        changed(live=(record(3, created_at=AT.replace(tzinfo=None)),)),
        changed(live=tuple(record(1 + number) for number in range(MAX_LIVE + 1))),
        replace(GOLDEN["mark"], versions={"python": "3" * 201}),
        replace(GOLDEN["mark"], extra={"much": bytes(sealing.MAX_ENTRY_BYTES)}),
        replace(GOLDEN["mark"], extra={"odd": object()}),
    ],
)
def test_what_would_not_be_read_back_is_not_written(entry: Entry) -> None:
    with pytest.raises(ValidationError):
        seal(entry, PLACE, KEY)


def test_a_table_comes_back_and_its_bounds_hold() -> None:
    table = Table((Region(5, 0, 0, "<f4", (5,)),), (Chunk(4, bytes(32), Codec.RAW, 5, 5),))
    assert decode_table(encode_table(table)) == table
    too_large = Table((), (Chunk(4, bytes(32), Codec.RAW, 5 * 1024 * 1024, 5),))
    for data in (encode_table(too_large), encode_table(table)[:-1], b"", b"\x92\xdd\xff\xff\xff\xff", b"\x90"[:0]):
        with pytest.raises(CorruptDataError):
            decode_table(data)


def test_lesson_8_metrics_become_plain_numbers() -> None:
    plain = check_metrics({"a": np.float32(0.5), "b": np.int64(3), "c": True, "d": float("inf")})
    assert plain == {"a": 0.5, "b": 3, "c": 1, "d": float("inf")}
    assert {type(value) for value in plain.values()} == {float, int}
    assert check_metrics(None) == {}


@pytest.mark.parametrize(
    "metrics", [{"a": "b"}, {"a": None}, {"a": 2**64}, {"a": [1]}, {"a" * 201: 1}, {1: 2}, {"a": 1j}]
)
def test_what_is_no_metric_is_refused(metrics: Any) -> None:
    with pytest.raises(ValidationError):
        check_metrics(metrics)


def test_an_entry_is_found_by_its_write_id() -> None:
    entry = GOLDEN["checkpoint"]
    assert [entry.find(write_id) for write_id in ("w7", "w3", "epoch", "nobody")] == [7, 3, 6, None]
    assert entry.holds(3, "w3")
    assert entry.holds(6, "epoch")
    assert not entry.holds(6, "w3")
    assert not replace(entry, kind=Kind.CHANGE).holds(4, "w3")
