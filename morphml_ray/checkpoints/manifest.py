"""What an entry of the log says: the state of the whole log, and the checkpoint that it commits, if it does.

Each entry holds the state of the log as a whole, so the newest one alone answers what is live, who may write and what
may be collected. An entry that commits a checkpoint is its manifest; any other is a mark.

Maps keep the fields that this version does not know (``extra``): an older version that writes after a newer one loses
nothing of it. Regions and chunks are rows of fixed fields.
"""

from datetime import datetime
from enum import Enum
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct

from morphml_ray.checkpoints.names import MAX_NUMBER, ChunkName, Codec
from morphml_ray.errors import ValidationError
from morphml_ray.model.plain import to_plain

CHUNK_BYTES = 4 * 1024 * 1024
"""The content of a chunk at most."""

INLINE_BYTES = 1024 * 1024
"""What stands in the manifest itself at most."""

MAX_LIVE = 10_000
"""How many checkpoints an experiment keeps at most."""

RECENT = 16
"""How many entries before it an entry names, live or not: a saver whose answer was lost finds its own."""

MAX_REGIONS = 1_000_000
MAX_CHUNKS = 1_000_000
MAX_METRICS = 1000
DAMAGE_CHARACTERS = 500
_MAX_RECENT = 4 * RECENT  # a newer version may name more

Extra: TypeAlias = dict[str, Any]
"""Fields of a newer version, kept."""

_Number = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
_Sequence = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
_Name = Annotated[str, Meta(max_length=200)]
_Aware = Annotated[datetime, Meta(tz=True)]
_Metrics = Annotated[dict[_Name, int | float], Meta(max_length=MAX_METRICS)]
WriteId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9-]{1,64}\Z")]
"""Made by the caller for one write, however often it is repeated."""


class Kind(str, Enum):
    """Why an entry was made."""

    CHECKPOINT = "checkpoint"
    EPOCH = "epoch"
    CHANGE = "change"
    SWEEP = "sweep"


class Chunk(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A chunk of a checkpoint.

    Attributes:
        era: see ``ChunkName``.
        digest: the same.
        codec: the same.
        raw_bytes: size of the content.
        stored_bytes: size of the object, as it was when this was written: it tells what is used, and is not checked.
    """

    era: _Number
    digest: Annotated[bytes, Meta(min_length=32, max_length=32)]
    codec: Codec
    raw_bytes: Annotated[int, Meta(ge=1, le=CHUNK_BYTES)]
    stored_bytes: Annotated[int, Meta(ge=1, le=MAX_NUMBER)]

    @property
    def name(self) -> ChunkName:
        """What its object is called."""
        return ChunkName(self.era, self.digest, self.codec)


class Region(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a message or a buffer stands: from here on, over as many chunks as it needs.

    Attributes:
        size_bytes: how much it is.
        chunk: number of the chunk that it begins in; -1: it stands in the manifest itself.
        offset: where in it.
        dtype: of an array, as numpy writes it; None: plain bytes.
        shape: of an array.
    """

    size_bytes: _Number
    chunk: Annotated[int, Meta(ge=-1, lt=MAX_CHUNKS)]
    offset: Annotated[int, Meta(ge=0, le=CHUNK_BYTES)]
    dtype: _Name | None = None
    shape: Annotated[tuple[_Number, ...], Meta(max_length=64)] | None = None


_Chunks = Annotated[tuple[Chunk, ...], Meta(max_length=MAX_CHUNKS)]
_Regions = Annotated[tuple[Region, ...], Meta(max_length=MAX_REGIONS)]


class Table(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The rows of a state; large ones are stored as chunks.

    Attributes:
        buffers: where each buffer stands.
        chunks: what they stand in.
    """

    buffers: _Regions = ()
    chunks: _Chunks = ()


class State(Struct, frozen=True, kw_only=True):
    """What a checkpoint holds.

    Attributes:
        is_pickle: whether the message is a pickle, which is read only since the entry is signed; else plain msgpack.
        message: where the message stands.
        table: its buffers and chunks; empty where they are stored as chunks themselves.
        table_chunks: these.
        inline: the bytes that stand in the manifest.
        extra: fields of a newer version.
    """

    is_pickle: bool
    message: Region
    table: Table = Table()
    table_chunks: _Chunks = ()
    inline: Annotated[bytes, Meta(max_length=INLINE_BYTES)] = b""
    extra: Extra = {}

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """All chunks that it names, those of its table first."""
        return self.table_chunks + self.table.chunks


class CheckpointRecord(Struct, frozen=True, kw_only=True):
    """A committed checkpoint, as the log knows it.

    Attributes:
        sequence: number of its entry; of two checkpoints the higher one is the newer one.
        write_id: of its entry; another entry under this number is none of the log.
        generation: of the search.
        epoch: of the driver that saved it.
        parent: sequence number of the newest checkpoint when it was saved; None: there was none.
        created_at: when it was saved, by the saver's clock.
        size_bytes: what its objects take, those that it shares included.
        metrics: numbers by name.
        pinned: whether retention passes it over.
        damage: why it is not loaded unless asked for by its generation; None: nothing is known against it.
        unfinished_reads: how many drivers in succession resumed from it and did not report that they could read it.
        read_by: epoch of the last of these.
        extra: fields of a newer version.
    """

    sequence: _Sequence
    write_id: WriteId
    generation: _Number
    epoch: _Number
    parent: _Sequence | None = None
    created_at: _Aware
    size_bytes: _Number = 0
    metrics: _Metrics = {}
    pinned: bool = False
    damage: Annotated[str, Meta(max_length=DAMAGE_CHARACTERS)] | None = None
    unfinished_reads: _Number = 0
    read_by: _Number = 0
    extra: Extra = {}


class LogState(Struct, frozen=True, kw_only=True):
    """The log as a whole, after an entry.

    Attributes:
        epoch: number of the entry with which the last driver took the log over; 0: nobody has.
        era: number of the last sweep; 0: there was none.
        turn: of the last save of this epoch, as its driver counts them; 0: none was counted.
        live: its checkpoints, oldest first. An older entry that is not named here is void, for ever.
        recent: number and write id of the last entries before this one, oldest first.
        extra: fields of a newer version.
    """

    epoch: _Number = 0
    era: _Number = 0
    turn: _Number = 0
    live: Annotated[tuple[CheckpointRecord, ...], Meta(max_length=MAX_LIVE)] = ()
    recent: Annotated[tuple[tuple[_Sequence, WriteId], ...], Meta(max_length=_MAX_RECENT)] = ()
    extra: Extra = {}


class Entry(Struct, frozen=True, kw_only=True):
    """One entry of the log.

    Attributes:
        sequence: its number; it stands in its key and in its signature, not in its bytes. 0: the log is empty.
        experiment: whose it is.
        kind: why it was made.
        write_id: who made it.
        created_at: when, by the maker's clock.
        versions: of the software that made it, by name.
        log: the log after it.
        state: of its checkpoint; None in a mark.
        extra: fields of a newer version.
    """

    sequence: _Number
    experiment: _Name
    kind: Kind
    write_id: WriteId
    created_at: _Aware
    versions: Annotated[dict[_Name, _Name], Meta(max_length=64)] = {}
    log: LogState = LogState()
    state: State | None = None
    extra: Extra = {}

    @property
    def latest(self) -> CheckpointRecord | None:
        """The newest commit that is live."""
        return self.log.live[-1] if self.log.live else None

    def holds(self, sequence: int, write_id: str) -> bool:
        """Whether the log, as this entry knows it, has an entry of this number and write id."""
        own = (self.sequence, self.write_id)
        live = ((record.sequence, record.write_id) for record in self.log.live)
        return (sequence, write_id) in (own, *self.log.recent, *live)

    def find(self, write_id: str) -> int | None:
        """Give the number under which a write stands in the log, as far as this entry knows; None: it does not."""
        known = [(record.sequence, record.write_id) for record in self.log.live]
        known += [*self.log.recent, (self.sequence, self.write_id)]
        return max((sequence for sequence, other in known if other == write_id), default=None)

    def record_of(self, sequence: int, write_id: str) -> CheckpointRecord | None:
        """Give the record of a live checkpoint; None: it is not live."""
        found = (record for record in self.log.live if (record.sequence, record.write_id) == (sequence, write_id))
        return next(found, None)


def check_metrics(metrics: Any) -> dict[str, int | float]:
    """Give metrics as plain numbers; those of numpy become Python's.

    Raises:
        ValidationError: one is no number or no 64-bit integer, or they are too many.
    """
    plain = to_plain(dict(metrics or {}), "metrics")
    for name, value in plain.items():
        if isinstance(value, bool):
            plain[name] = int(value)
        elif not isinstance(value, int | float):
            raise ValidationError(f"metrics[{name!r}]: a metric of a checkpoint is a number, not {value!r:.80}")
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValidationError(f"metrics[{name!r}]: {value!r:.80} has more than 64 bits")
    try:
        numbers: dict[str, int | float] = msgspec.convert(plain, _Metrics)
    except msgspec.ValidationError as error:
        raise ValidationError(f"metrics: {error}") from error
    return numbers
