"""The collection: void entries of the log go first, then chunks that no live checkpoint names.

A sweep is an entry of the log: it begins an era. Chunks are stored under the era of the head that a save follows, and
an entry may name those of its own era and those that live checkpoints named before. So what is of an older era than a
sweep, and not named by a live checkpoint at any time after it, is never named again: it may be deleted at any later
time, by anybody, however long he slept, and whatever a save is doing meanwhile. A chunk that was remembered under an
older era is void by its name, whether the collection finished or not.

Two collectors exclude each other by the same entry: where the last sweep is younger than ``again_after_s``, by the
store's clock, another is at work or was. The grace period comes on top: it spares a slower save from uploading again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from morphml_ray.checkpoints.changes import Stamp, check_epoch, swept
from morphml_ray.checkpoints.commit_log import CommitLog
from morphml_ray.checkpoints.manifest import Entry
from morphml_ray.checkpoints.names import ChunkName, Place
from morphml_ray.checkpoints.requests import Delete, Listed, Steps, listed
from morphml_ray.errors import CorruptDataError, NotFoundError

BATCH = 1000
"""How many objects go in one request at most: what S3 takes."""

_MAX_LOOKS = 16


@dataclass(frozen=True)
class CollectionTerms:
    """When and what to collect.

    Attributes:
        grace_s: chunks younger than this stay, by the store's clock.
        again_after_s: how old the last sweep must be, by the same clock.
        batch: how many objects to delete between two looks at the log, at most ``BATCH``.
    """

    grace_s: float = 3600.0
    again_after_s: float = 600.0
    batch: int = BATCH


@dataclass(frozen=True)
class Collected:
    """What a collection did.

    Attributes:
        entries: how many void entries of the log it deleted.
        chunks: how many chunks.
        freed_bytes: what these took.
        ended: why it went no further; None: it finished.
    """

    entries: int = 0
    chunks: int = 0
    freed_bytes: int = 0
    ended: str | None = None


def tidy(log: CommitLog) -> Steps[int]:
    """Delete void entries of the log; gives how many. Short, and safe at any time: after each save, for example."""
    head = yield from log.newest()
    keys = yield from log.void_keys(head)
    for start in range(0, len(keys), BATCH):
        yield Delete(keys[start : start + BATCH])
    return len(keys)


def collect(log: CommitLog, stamp: Stamp, epoch: int | None, terms: CollectionTerms) -> Steps[Collected]:
    """Delete what no live checkpoint needs.

    Args:
        log: of the experiment.
        stamp: of this collection.
        epoch: of the driver that it is done for; None: of nobody.
        terms: when and what.

    Raises:
        StaleEpochError: another driver took the log over; also between two batches.
        OutcomeUnknownError: whether the sweep began is not known; nothing was deleted.
    """
    head = yield from log.newest()
    check_epoch(head, epoch)
    objects = yield from listed(log.place.log_prefix)
    if not is_due(log.place, head, objects, terms.again_after_s):
        entries = yield from tidy(log)
        return Collected(entries, ended="another collection began a short while ago, or nothing happened since")
    seen_era = head.log.era

    def sweep(newest: Entry, sweep_stamp: Stamp) -> Entry:
        if newest.log.era != seen_era:
            raise _OtherSweepError
        return swept(newest, sweep_stamp)

    try:
        era = (yield from log.append(stamp, sweep, epoch=epoch)).sequence
    except _OtherSweepError:
        return Collected(ended="another collection began just now")
    return (yield from _Sweep(log, era, epoch, terms).run())


def is_due(place: Place, head: Entry, objects: Iterable[Listed], again_after_s: float) -> bool:
    """Whether the last sweep is old enough, by the times that the store gave the entries of the log.

    The newest of them is the latest time that the store is known to have reached.

    Args:
        place: of the experiment.
        head: the newest entry.
        objects: the listing of the log.
        again_after_s: how old the last sweep must be.
    """
    written = {place.sequence_of(item.key): item.modified_at for item in objects}
    written.pop(None, None)
    began = written.get(head.log.era)
    return bool(written) and (began is None or max(written.values()) - began >= timedelta(seconds=again_after_s))


def garbage(
    place: Place, objects: Iterable[Listed], named: Iterable[ChunkName], era: int, now: datetime, grace_s: float
) -> list[Listed]:
    """Choose the chunks that may go, oldest era first.

    Args:
        place: of the experiment; what does not parse as a chunk of it is not ours.
        objects: the listing.
        named: what live checkpoints name, seen after the sweep.
        era: that the sweep began; only chunks of older ones go.
        now: when the store wrote the entry of the sweep, by its clock.
        grace_s: how much older than that a chunk must be.
    """
    alive = set(named)
    oldest_kept = now - timedelta(seconds=grace_s)
    found = [(place.chunk_of(item.key), item) for item in objects]
    dead = [
        (name, item)
        for name, item in found
        if name is not None and name not in alive and name.era < era and item.modified_at <= oldest_kept
    ]
    return [item for _, item in sorted(dead, key=lambda pair: (pair[0].era, pair[0].digest))]


class _OtherSweepError(Exception):
    """Somebody else began a sweep meanwhile; inside this module only."""


class _Sweep:
    """What follows a sweep's entry."""

    def __init__(self, log: CommitLog, era: int, epoch: int | None, terms: CollectionTerms) -> None:
        self._log = log
        self._era = era
        self._epoch = epoch
        self._terms = terms
        self._entries = 0

    def run(self) -> Steps[Collected]:
        self._entries = yield from tidy(self._log)
        now = yield from self._began_at()
        named = yield from self._named()
        if now is None or named is None:
            ended = "a live checkpoint cannot be read, so nobody knows which chunks it needs" if now else "overtaken"
            return Collected(self._entries, ended=ended)
        objects = yield from listed(self._log.place.chunk_prefix)
        dead = garbage(self._log.place, objects, named, self._era, now, self._terms.grace_s)
        return (yield from self._delete(dead))

    def _delete(self, dead: Sequence[Listed]) -> Steps[Collected]:
        chunks, freed_bytes = 0, 0
        for start in range(0, len(dead), self._terms.batch):
            head = yield from self._log.newest()
            check_epoch(head, self._epoch)
            if head.log.era != self._era:
                return Collected(self._entries, chunks, freed_bytes, "another collection began")
            batch = dead[start : start + self._terms.batch]
            yield Delete(tuple(item.key for item in batch))
            chunks += len(batch)
            freed_bytes += sum(item.size_bytes for item in batch)
        return Collected(self._entries, chunks, freed_bytes)

    def _began_at(self) -> Steps[datetime | None]:
        """Give the store's time of the sweep's entry; None: it is gone, since another sweep followed."""
        objects = yield from listed(self._log.place.log_prefix)
        times = (item.modified_at for item in objects if self._log.place.sequence_of(item.key) == self._era)
        return next(times, None)

    def _named(self) -> Steps[set[ChunkName] | None]:
        """Give what live checkpoints name, all by one head; None: one of them cannot be read."""
        for _ in range(_MAX_LOOKS):
            head = yield from self._log.newest()
            names: set[ChunkName] = set()
            try:
                for record in head.log.live:
                    names |= {chunk.name for chunk in (yield from self._log.chunks_of(record))}
            except CorruptDataError:
                return None
            except NotFoundError:  # dropped meanwhile, or lost
                if (yield from self._log.newest()).sequence == head.sequence:
                    return None
                continue
            return names
        return None
