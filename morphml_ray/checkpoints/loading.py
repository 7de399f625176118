"""A load: the newest good checkpoint, what was passed over on the way to it, and why.

Three answers are told apart: there is none (None), the store cannot be reached (its error), and there are some, of
which none can be used (``CorruptDataError``). A manifest of another signing key is none of these: that is
``UntrustedDataError``, and nothing older is taken in its place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from morphml_ray.checkpoints.changes import (
    Stamp,
    check_epoch,
    loadable,
    objection_to,
    quarantined,
    read_begun,
    read_finished,
    taken_over,
)
from morphml_ray.checkpoints.commit_log import CommitLog, ReadableHead
from morphml_ray.checkpoints.manifest import CheckpointRecord, Entry
from morphml_ray.checkpoints.requests import Fetch, Steps
from morphml_ray.errors import CorruptDataError, MorphMLRayError, NotFoundError, UntrustedDataError

_MAX_TRIES = 1000
_DAMAGE = (CorruptDataError, NotFoundError)

StampMaker = Callable[[], Stamp]
"""Gives a new stamp each time: a load may have several things to note."""


class PassedOver(NamedTuple):
    """A checkpoint that was not loaded.

    Attributes:
        sequence: its number.
        generation: of the search; None: its manifest cannot be read.
        reason: what is wrong with it.
    """

    sequence: int
    generation: int | None
    reason: str


@dataclass(frozen=True)
class Loaded:
    """A checkpoint of which every chunk was verified.

    Attributes:
        entry: its manifest, with its table.
        record: what the log knows of it.
        passed_over: newer ones that could not be used; the caller warns of them.
    """

    entry: Entry
    record: CheckpointRecord
    passed_over: tuple[PassedOver, ...]


class Verified(NamedTuple):
    """What a verification found.

    Attributes:
        record: of the checkpoint, as it was before.
        damage: what is wrong with it; None: nothing.
    """

    record: CheckpointRecord
    damage: str | None


@dataclass(frozen=True)
class Resumed:
    """A log that was taken over.

    Attributes:
        epoch: the driver's; its saves name it.
        loaded: where to go on; None: there is no checkpoint.
    """

    epoch: int
    loaded: Loaded | None


def load(log: CommitLog, stamps: StampMaker, generation: int | None = None) -> Steps[Loaded | None]:
    """Load the newest good checkpoint; one that turns out damaged is quarantined, and the one before it is tried.

    Args:
        log: of the experiment.
        stamps: for what is noted.
        generation: load the newest commit of this one, whatever is known against it, or nothing.

    Returns:
        The checkpoint, or None where there is none.

    Raises:
        CorruptDataError: there are some, and all are damaged; or the one that was asked for is.
        UntrustedDataError: it was signed by another key.
    """
    steps = _Load(log, stamps, generation)
    return (yield from steps.run())


def resume(log: CommitLog, stamps: StampMaker) -> Steps[Resumed]:
    """Take the log over, then load. From now on older drivers can save no more.

    The read is counted before it begins; ``confirm_read`` ends it. A checkpoint whose readers crashed twice in
    succession is passed over.

    Args:
        log: of the experiment.
        stamps: for what is noted.

    Raises:
        CorruptDataError: there are checkpoints, and none can be used. The log is taken over all the same, unless none
            of its entries can be read.
        UntrustedDataError: it was signed by another key.
    """
    before = yield from log.newest_readable()
    appended = yield from log.append(stamps(), lambda head, stamp: read_begun(taken_over(head, stamp)), heals=True)
    steps = _Load(log, stamps, None, epoch=appended.sequence, damage=_damage_of(before))
    return Resumed(appended.sequence, (yield from steps.run()))


def confirm_read(log: CommitLog, stamp: Stamp, epoch: int, record: CheckpointRecord) -> Steps[None]:
    """Note that what ``resume`` gave was read: values were rebuilt from it, and the process is still there.

    Raises:
        StaleEpochError: another driver took the log over.
    """
    change = partial(read_finished, sequence=record.sequence, write_id=record.write_id)
    try:
        yield from log.append(stamp, change, epoch=epoch)
    except NotFoundError:  # dropped meanwhile
        return


def verify(log: CommitLog, stamps: StampMaker, generation: int | None = None) -> Steps[list[Verified]]:
    """Read all of one checkpoint, or of each, and note what was found: damage, or that there is none any more.

    Args:
        log: of the experiment.
        stamps: for what is noted.
        generation: all commits of this one; None: all checkpoints.

    Returns:
        What was found, newest first; without those that were dropped meanwhile.
    """
    found = []
    for record in reversed((yield from log.newest()).log.live):
        if generation not in (None, record.generation):
            continue
        damage = None
        try:
            yield Fetch((yield from log.entry_of(record)))
        except _DAMAGE as error:
            damage = str(error)
        if damage or objection_to(record, epoch=0):
            change = partial(quarantined, sequence=record.sequence, write_id=record.write_id, damage=damage)
            try:
                yield from log.append(stamps(), change)
            except NotFoundError:
                continue
        found.append(Verified(record, damage))
    return found


def _damage_of(readable: ReadableHead) -> PassedOver | None:
    return None if readable.damaged is None else PassedOver(readable.damaged, None, readable.damage)


class _Load:
    """One load: tries one checkpoint after the other."""

    def __init__(
        self,
        log: CommitLog,
        stamps: StampMaker,
        generation: int | None,
        *,
        epoch: int | None = None,
        damage: PassedOver | None = None,
    ) -> None:
        self._log = log
        self._stamps = stamps
        self._generation = generation
        self._epoch = epoch
        self._damage = damage
        self._tried: dict[tuple[int, str], PassedOver] = {}

    def run(self) -> Steps[Loaded | None]:
        for _ in range(_MAX_TRIES):
            head = yield from self._head()
            record = next(iter(loadable(head, self._tried, self._generation)), None)
            if record is None:
                self._check_nothing(head)
                return None
            try:
                entry = yield from self._log.entry_of(record)
                yield Fetch(entry)
            except UntrustedDataError:
                raise
            except _DAMAGE as error:
                yield from self._pass_over(record, str(error))
            else:
                return Loaded(entry, record, self._passed_over(head, record))
        raise CorruptDataError(f"{self._log.place.experiment!r}: the first {_MAX_TRIES} checkpoints are damaged")

    def _head(self) -> Steps[Entry]:
        readable = yield from self._log.newest_readable()
        check_epoch(readable.head, self._epoch)
        self._damage = _damage_of(readable) or self._damage
        return readable.head

    def _pass_over(self, record: CheckpointRecord, reason: str) -> Steps[None]:
        """Note the damage of a checkpoint, unless it was dropped while it was read: then there is none."""
        head = yield from self._head()
        own = (record.sequence, record.write_id)
        if head.record_of(*own) is None:
            return
        self._tried[own] = PassedOver(record.sequence, record.generation, reason)
        if self._generation is not None:
            return
        try:
            yield from self._log.append(self._stamps(), partial(self._noted, own=own, reason=reason), epoch=self._epoch)
        except MorphMLRayError:  # a reader without the right to write, or an outage: it loads all the same
            return

    def _noted(self, head: Entry, stamp: Stamp, own: tuple[int, str], reason: str) -> Entry:
        entry = quarantined(head, stamp, *own, reason)
        return entry if self._epoch is None else read_begun(entry, self._tried)

    def _passed_over(self, head: Entry, record: CheckpointRecord | None) -> tuple[PassedOver, ...]:
        """Say what is newer than a checkpoint and was not taken."""
        if self._generation is not None:
            unread = [self._damage] if self._damage and record is None else []  # it may be what was asked for
            return (*self._tried.values(), *unread)
        newer = [other for other in head.log.live if record is None or other.sequence > record.sequence]
        known = {
            other.sequence: PassedOver(
                other.sequence, other.generation, objection_to(other, head.log.epoch) or "damaged"
            )
            for other in newer
        }
        known |= {passed.sequence: passed for passed in self._tried.values()}
        if self._damage is not None:
            known[self._damage.sequence] = self._damage
        return tuple(known[number] for number in sorted(known, reverse=True))

    def _check_nothing(self, head: Entry) -> None:
        """Go on where there is nothing to load.

        Raises:
            CorruptDataError: there is, and it is damaged.
        """
        passed = self._passed_over(head, None)
        if passed:
            reasons = "; ".join(f"{one.sequence} (generation {one.generation}): {one.reason}" for one in passed)
            raise CorruptDataError(
                f"No checkpoint of {self._log.place.experiment!r} can be loaded, and none is overwritten: {reasons}"
            )
