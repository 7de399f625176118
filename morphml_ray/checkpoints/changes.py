"""What an entry may change: pure steps from the newest entry to the next one.

Each takes the head of the log and gives the entry that would follow it. It is made anew whenever the head turns out
to be another, so it decides by what is, never by what was.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from morphml_ray.checkpoints.manifest import (
    DAMAGE_CHARACTERS,
    RECENT,
    CheckpointRecord,
    Entry,
    Kind,
    State,
)
from morphml_ray.checkpoints.names import Place
from morphml_ray.checkpoints.retention import PreservationPolicy, kept
from morphml_ray.errors import NotFoundError, StaleEpochError

MAX_UNFINISHED_READS = 2
"""A checkpoint whose readers crashed so often in succession is passed over."""

EMPTY_TIME = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class Stamp(NamedTuple):
    """Who makes an entry, and when.

    Attributes:
        write_id: a text made for this one operation, 1 to 64 of A-Z, a-z, 0-9 and -.
        created_at: now, aware.
        versions: of the software that makes it, by name.
    """

    write_id: str
    created_at: datetime
    versions: dict[str, str] = {}  # noqa: RUF012 - never changed


Change: TypeAlias = Callable[[Entry], Entry]


def empty(place: Place) -> Entry:
    """Give what stands for the head of a log that has no entries."""
    return Entry(sequence=0, experiment=place.experiment, kind=Kind.CHANGE, write_id="none", created_at=EMPTY_TIME)


def check_epoch(head: Entry, epoch: int | None) -> None:
    """Refuse a writer whose epoch is not the one of the log; None may write in any.

    Raises:
        StaleEpochError: another driver took the log over.
    """
    if epoch is not None and head.log.epoch != epoch:
        raise StaleEpochError(
            f"The checkpoints of {head.experiment!r} were taken over by another driver (epoch {head.log.epoch}, this "
            f"one has {epoch}): end this one, or take over with resume()"
        )


def followed(head: Entry, kind: Kind, stamp: Stamp) -> Entry:
    """Give the next entry, which changes nothing yet."""
    before = ((head.sequence, head.write_id),) if head.sequence else ()
    return Entry(
        sequence=head.sequence + 1,
        experiment=head.experiment,
        kind=kind,
        write_id=stamp.write_id,
        created_at=stamp.created_at,
        versions=stamp.versions,
        log=replace(head.log, recent=(*head.log.recent, *before)[-RECENT:]),
    )


def taken_over(head: Entry, stamp: Stamp) -> Entry:
    """Begin an epoch, which is the number of this entry: the one who knew the last epoch may write no more."""
    entry = followed(head, Kind.EPOCH, stamp)
    return _with(entry, epoch=entry.sequence, turn=0)


def swept(head: Entry, stamp: Stamp) -> Entry:
    """Begin an era: chunks of older ones that nobody names are given up."""
    entry = followed(head, Kind.SWEEP, stamp)
    return _with(entry, era=entry.sequence)


def committed(
    head: Entry,
    stamp: Stamp,
    record: CheckpointRecord,
    state: State,
    policy: PreservationPolicy | None,
    turn: int = 0,
) -> Entry:
    """Commit a checkpoint, and drop what the policy does not keep beside it.

    Args:
        head: the newest entry.
        stamp: of the save.
        record: what is saved; its number, its parent and, where that is 0, its epoch are set here.
        state: where its content is.
        policy: None keeps all.
        turn: of this save among those of its driver; 0: not counted.
    """
    entry = followed(head, Kind.CHECKPOINT, stamp)
    own = replace(
        record,
        sequence=entry.sequence,
        write_id=stamp.write_id,
        epoch=record.epoch or entry.sequence,
        parent=head.latest.sequence if head.latest else None,
        created_at=stamp.created_at,
    )
    live = (*head.log.live, own)
    turn = turn if record.epoch == 0 else max(turn, head.log.turn)
    live = live if policy is None else kept(policy, live)
    return replace(_with(entry, epoch=own.epoch, turn=turn, live=live), state=state)


def dropped(head: Entry, stamp: Stamp, is_dropped: Callable[[CheckpointRecord], bool]) -> Entry:
    """Drop checkpoints, pinned ones and the newest included.

    Raises:
        NotFoundError: there is nothing to drop.
    """
    live = tuple(record for record in head.log.live if not is_dropped(record))
    if len(live) == len(head.log.live):
        raise NotFoundError(f"The checkpoints of {head.experiment!r} have none like that")
    return _with(followed(head, Kind.CHANGE, stamp), live=live)


def pinned(head: Entry, stamp: Stamp, generation: int, *, pinned: bool) -> Entry:
    """Pin the newest commit of a generation, or unpin all commits of it.

    Raises:
        NotFoundError: there is no checkpoint of this generation.
    """
    chosen = [record for record in head.log.live if record.generation == generation]
    if not chosen:
        raise NotFoundError(f"The checkpoints of {head.experiment!r} have none of generation {generation}")
    if pinned:
        chosen = chosen[-1:]
    changed = [replace(record, pinned=pinned) for record in chosen]
    return _changed(followed(head, Kind.CHANGE, stamp), changed)


def quarantined(head: Entry, stamp: Stamp, sequence: int, write_id: str, damage: str | None) -> Entry:
    """Note why a checkpoint is not to be loaded; None: it is good again, and all failed reads are forgotten.

    Raises:
        NotFoundError: it is not live any more.
    """
    record = _record(head, sequence, write_id)
    damage = damage and damage[:DAMAGE_CHARACTERS]
    changed = replace(record, damage=damage) if damage else replace(record, damage=None, unfinished_reads=0, read_by=0)
    return _changed(followed(head, Kind.CHANGE, stamp), [changed])


def read_begun(entry: Entry, excluded: Collection[tuple[int, str]] = ()) -> Entry:
    """Count a read of the checkpoint that would be loaded from this log, before it begins."""
    record = next(iter(loadable(entry, excluded)), None)
    if record is None or record.read_by == entry.log.epoch:
        return entry
    begun = replace(record, unfinished_reads=record.unfinished_reads + 1, read_by=entry.log.epoch)
    return _changed(entry, [begun])


def read_finished(head: Entry, stamp: Stamp, sequence: int, write_id: str) -> Entry:
    """Forget the reads of a checkpoint that did not end.

    Raises:
        NotFoundError: it is not live any more.
    """
    record = replace(_record(head, sequence, write_id), unfinished_reads=0, read_by=0)
    return _changed(followed(head, Kind.CHANGE, stamp), [record])


def loadable(
    head: Entry, excluded: Collection[tuple[int, str]] = (), generation: int | None = None
) -> list[CheckpointRecord]:
    """Give the checkpoints to try, newest first.

    Args:
        head: the newest entry.
        excluded: number and write id of those that were tried.
        generation: only this one, whatever is known against it; None: any that nothing is known against.
    """
    return [
        record
        for record in reversed(head.log.live)
        if (record.sequence, record.write_id) not in excluded
        and (objection_to(record, head.log.epoch) is None if generation is None else record.generation == generation)
    ]


def objection_to(record: CheckpointRecord, epoch: int) -> str | None:
    """Say what is known against a checkpoint; None: nothing.

    Args:
        record: of the checkpoint.
        epoch: of the log: its driver may be reading still, those before it are not.
    """
    if record.damage is not None:
        return record.damage
    crashed = record.unfinished_reads - (record.read_by == epoch)
    if crashed >= MAX_UNFINISHED_READS:
        return f"{crashed} drivers in succession did not survive reading it"
    return None


def _record(head: Entry, sequence: int, write_id: str) -> CheckpointRecord:
    record = head.record_of(sequence, write_id)
    if record is None:
        raise NotFoundError(f"The checkpoint {sequence} of {head.experiment!r} is not there any more")
    return record


def _changed(entry: Entry, records: Collection[CheckpointRecord]) -> Entry:
    new = {record.sequence: record for record in records}
    return _with(entry, live=tuple(new.get(record.sequence, record) for record in entry.log.live))


def _with(
    entry: Entry,
    *,
    epoch: int | None = None,
    era: int | None = None,
    turn: int | None = None,
    live: tuple[CheckpointRecord, ...] | None = None,
) -> Entry:
    given = {"epoch": epoch, "era": era, "turn": turn, "live": live}
    changes = {name: value for name, value in given.items() if value is not None}
    return replace(entry, log=replace(entry.log, **changes))
