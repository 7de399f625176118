"""Entries of the log, for tests: one of each kind whose bytes are frozen, and any that can be."""

from datetime import datetime, timezone
from typing import Any

from hypothesis import strategies as st

from morphml_ray.checkpoints.manifest import (
    CheckpointRecord,
    Chunk,
    Entry,
    Kind,
    LogState,
    Region,
    State,
    Table,
)
from morphml_ray.checkpoints.names import Codec

AT = datetime(2026, 11, 27, 12, 30, 15, 250_000, tzinfo=timezone.utc)


def record(sequence: int, generation: int | None = None, **fields: Any) -> CheckpointRecord:
    given: dict[str, Any] = {"write_id": f"w{sequence}", "epoch": 1, "created_at": AT} | fields
    return CheckpointRecord(sequence=sequence, generation=sequence if generation is None else generation, **given)


_STATE = State(
    is_pickle=True,
    message=Region(3, -1, 0),
    table=Table(
        (Region(6, 0, 0, "<f8", (2, 3)), Region(2, 1, 0)),
        (Chunk(2, bytes(range(32)), Codec.ZSTD, 6, 5), Chunk(0, bytes(32), Codec.RAW, 2, 2)),
    ),
    inline=b"abc",
)
_LIVE = (
    record(3, 10, metrics={"accuracy": 0.5, "params": 7}, pinned=True, size_bytes=9),
    record(7, 11, parent=3, damage="the chunk is not there", unfinished_reads=1, read_by=6),
)
_LOG = LogState(epoch=6, era=5, turn=2, live=_LIVE, recent=((5, "sweep"), (6, "epoch")))
_VERSIONS = {"morphml_ray": "0.1.0", "python": "3.11.7", "ray": "2.60.0"}

GOLDEN = {
    "checkpoint": Entry(
        sequence=7,
        experiment="digits",
        kind=Kind.CHECKPOINT,
        write_id="w7",
        created_at=AT,
        versions=_VERSIONS,
        log=_LOG,
        state=_STATE,
    ),
    "mark": Entry(sequence=8, experiment="digits", kind=Kind.SWEEP, write_id="w8", created_at=AT, log=_LOG),
    "newer_version": Entry(
        sequence=9,
        experiment="digits",
        kind=Kind.CHANGE,
        write_id="w9",
        created_at=AT,
        log=LogState(live=(record(3, extra={"shards": [1, {"a": None}]}),), extra={"leases": {"x": 1}}),
        extra={"signed_by": "somebody"},
    ),
}

_IDS = st.text("abcXYZ019-", min_size=1, max_size=64)
_PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5) | st.binary(max_size=5)
_EXTRA = st.dictionaries(st.text(max_size=8).map("x{}".format), _PLAIN | st.lists(_PLAIN, max_size=3), max_size=3)
_TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(timezone.utc))  # noqa: DTZ001 - bounds
_BYTES = st.binary(max_size=200)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """An entry that the code could write."""
    sequence = draw(st.integers(1, 2**63 - 1))
    below = st.integers(0, sequence)
    numbers = draw(st.lists(st.integers(1, sequence - 1), max_size=3, unique=True)) if sequence > 1 else []
    has_state = draw(st.booleans())
    own, at = draw(_IDS), draw(_TIMES)
    numbers = sorted(numbers) + [sequence] * has_state
    live = tuple(
        CheckpointRecord(
            sequence=number,
            write_id=own if number == sequence else draw(_IDS),
            generation=draw(st.integers(0, 2**63 - 1)),
            epoch=draw(below),
            created_at=at,
            size_bytes=draw(st.integers(0, 2**40)),
            metrics=draw(st.dictionaries(st.text(max_size=9), st.floats(allow_nan=False) | st.integers(-99, 99))),
            pinned=draw(st.booleans()),
            damage=draw(st.none() | st.text(max_size=20)),
            unfinished_reads=draw(st.integers(0, 3)),
            extra=draw(_EXTRA),
        )
        for number in numbers
    )
    inline = draw(_BYTES)
    return Entry(
        sequence=sequence,
        experiment="digits",
        kind=draw(st.sampled_from(list(Kind))),
        write_id=own,
        created_at=at,
        versions=draw(st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3)),
        log=LogState(epoch=draw(below), era=draw(below), live=live, extra=draw(_EXTRA)),
        state=State(
            is_pickle=draw(st.booleans()), message=Region(len(inline), -1, 0), inline=inline, extra=draw(_EXTRA)
        )
        if has_state
        else None,
        extra=draw(_EXTRA),
    )
