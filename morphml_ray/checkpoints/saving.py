"""A save: what is there already is found, the rest is uploaded, and one entry of the log commits it all.

Which chunks may be named: those of the log's present era, and those that a live checkpoint names. Nobody deletes
these: a collection begins an era before it deletes, and never touches what is named. Both are decided by the head
that the entry follows, so a save that collides with a collection looks again and uploads what it must no longer name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from morphml_ray.checkpoints.changes import Stamp, check_epoch, committed
from morphml_ray.checkpoints.chunks import Content
from morphml_ray.checkpoints.commit_log import MAX_ATTEMPTS, CommitLog
from morphml_ray.checkpoints.compression import digest_of
from morphml_ray.checkpoints.manifest import CHUNK_BYTES, INLINE_BYTES, CheckpointRecord, Chunk, Entry, State, Table
from morphml_ray.checkpoints.names import ChunkName, Codec
from morphml_ray.checkpoints.requests import Steps, Upload, UploadTable, listed
from morphml_ray.checkpoints.retention import PreservationPolicy
from morphml_ray.checkpoints.sealing import encode_table
from morphml_ray.errors import ConflictError, CorruptDataError, NotFoundError

COMPARED = 2
"""With how many of the last checkpoints a save shares chunks."""


@dataclass(frozen=True)
class Save:
    """What is to be saved; fixed when the caller asked for it.

    Attributes:
        stamp: of this save.
        content: what ``chunks.cut`` gave.
        generation: of the search.
        metrics: what ``manifest.check_metrics`` gave.
        epoch: that the driver took; None: take the log over with this save.
        policy: what stays beside it; None: all.
        turn: of this save among those of its driver, from 1: one that arrives after a later one is refused, so that
            it does not become the latest. 0: not counted.
    """

    stamp: Stamp
    content: Content
    generation: int
    metrics: Mapping[str, int | float] = field(default_factory=dict)
    epoch: int | None = None
    policy: PreservationPolicy | None = None
    turn: int = 0


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was committed.

    Attributes:
        sequence: number of its entry.
        epoch: of the driver; later saves name it.
        head: the newest entry afterwards.
    """

    sequence: int
    epoch: int
    head: Entry


def save(log: CommitLog, request: Save) -> Steps[Saved]:
    """Save a checkpoint. When this returns, it is committed, and durable.

    May be repeated with the same stamp, also in another process.

    Args:
        log: of the experiment.
        request: what to save.

    Raises:
        StaleEpochError: another driver took the log over; this save is not in it.
        OutcomeUnknownError: whether it was committed cannot be found out now. Nothing was deleted.
        ConflictError: a later save of the same driver is committed already; or others were faster, time and again.
        CorruptDataError: the newest entry is damaged: ``resume`` takes over.
        ValidationError: the entry would be too large.
    """
    head = log.remembered or (yield from log.newest())
    for _ in range(MAX_ATTEMPTS):
        done = head.find(request.stamp.write_id)
        if done is not None:
            return Saved(done, request.epoch or done, head)
        check_epoch(head, request.epoch)
        _check_turn(head, request)
        entry = yield from _prepare(log, head, request)
        attempt = yield from log.try_append(entry)
        if attempt.is_committed:
            return Saved(entry.sequence, entry.log.epoch, attempt.head)
        head = attempt.head
    raise ConflictError(f"The checkpoints of {log.place.experiment!r}: {MAX_ATTEMPTS} others in succession wrote")


def _check_turn(head: Entry, request: Save) -> None:
    if request.epoch is not None and 0 < request.turn <= head.log.turn:
        raise ConflictError(
            f"The checkpoints of {head.experiment!r}: save {request.turn} (generation {request.generation}) arrives "
            f"after save {head.log.turn} of the same driver, which is committed"
        )


def _prepare(log: CommitLog, head: Entry, request: Save) -> Steps[Entry]:
    """Upload what is missing, and give the entry that names it."""
    content = request.content
    chunks: tuple[Chunk, ...] = ()
    if content.pieces:
        chunks = yield from _store(log, head, content)
    state = State(
        is_pickle=content.is_pickle,
        message=content.message,
        table=Table(content.buffers, chunks),
        inline=content.inline,
    )
    state = yield from _with_stored_table(head, state)
    unique = {chunk.name: chunk.stored_bytes for chunk in (*chunks, *state.table_chunks)}
    record = CheckpointRecord(
        sequence=head.sequence + 1,
        write_id=request.stamp.write_id,
        generation=request.generation,
        epoch=request.epoch or 0,
        created_at=request.stamp.created_at,
        size_bytes=len(content.inline) + sum(unique.values()),
        metrics=dict(request.metrics),
    )
    return committed(head, request.stamp, record, state, request.policy, request.turn)


def _store(log: CommitLog, head: Entry, content: Content) -> Steps[tuple[Chunk, ...]]:
    """Find or upload each piece; gives their chunks in the order of the pieces."""
    there = yield from _present(log)
    found = yield from _shared(log, head, there)
    wanted = {piece.digest: piece for piece in content.pieces}
    for digest, piece in wanted.items():
        name = ChunkName(head.log.era, digest, piece.codec)
        if digest not in found and name in there:
            found[digest] = Chunk(*name, piece.raw_bytes, there[name])
    missing = [ChunkName(head.log.era, digest, piece.codec) for digest, piece in wanted.items() if digest not in found]
    if missing:
        sizes: Mapping[ChunkName, int] = yield Upload(tuple(missing))
        found |= {name.digest: Chunk(*name, wanted[name.digest].raw_bytes, sizes[name]) for name in missing}
    return tuple(found[piece.digest] for piece in content.pieces)


def _present(log: CommitLog) -> Steps[dict[ChunkName, int]]:
    """List the chunks that are there, with their sizes."""
    objects = yield from listed(log.place.chunk_prefix)
    names = ((log.place.chunk_of(item.key), item.size_bytes) for item in objects)
    return {name: size for name, size in names if name is not None}


def _shared(log: CommitLog, head: Entry, there: Iterable[ChunkName]) -> Steps[dict[bytes, Chunk]]:
    """Give the chunks of the last checkpoints that are there; a checkpoint that cannot be read shares nothing."""
    present = set(there)
    found: dict[bytes, Chunk] = {}
    for record in head.log.live[-COMPARED:]:
        try:
            chunks = yield from log.chunks_of(record)
        except (NotFoundError, CorruptDataError):
            continue
        found |= {chunk.digest: chunk for chunk in chunks if chunk.name in present}
    return found


def _with_stored_table(head: Entry, state: State) -> Steps[State]:
    """Store a table as chunks where it is too large for the manifest."""
    table = encode_table(state.table)
    if len(table) + len(state.inline) <= INLINE_BYTES:
        return state
    parts = [table[start : start + CHUNK_BYTES] for start in range(0, len(table), CHUNK_BYTES)]
    chunks = tuple(Chunk(head.log.era, digest_of([part]), Codec.RAW, len(part), len(part)) for part in parts)
    yield UploadTable({chunk.name: part for chunk, part in zip(chunks, parts, strict=True)})
    return replace(state, table=Table(), table_chunks=chunks)
