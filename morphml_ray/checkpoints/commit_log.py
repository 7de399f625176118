"""The log of one experiment: how its newest entry is found, and how the next one is made.

The store gives three things, and nothing else is asked of it: an object is seen in whole or not at all, a listing
shows what was there when it began, and of several conditional PUTs of one key one wins.

Why this is safe:

- Every entry takes the number above the newest, and the newest is never deleted. So the highest number in a listing
  is the head of the log, and its ``live`` says which older ones count.
- What the head does not name is void for ever: later entries name what the head before them named, and themselves.
  So anybody who has seen a head may delete what is below it and not named, whenever that happens.
- A writer that slept may create a number that was in use and deleted. It is below the head, which does not name it.
  So after each PUT the newest entry is looked at, and only what it names was committed.
- A driver may write as long as the epoch is the one it took. Taking one is an entry as well: all of an older driver's
  writes are either before it, or void.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from morphml_ray.checkpoints.changes import Stamp, check_epoch, empty
from morphml_ray.checkpoints.compression import restore
from morphml_ray.checkpoints.manifest import CheckpointRecord, Chunk, Entry, State
from morphml_ray.checkpoints.names import Place
from morphml_ray.checkpoints.requests import Delete, Put, PutAnswer, Steps, got, listed
from morphml_ray.checkpoints.sealing import decode_table, seal, unseal
from morphml_ray.errors import (
    BackendUnavailable,
    ConflictError,
    CorruptDataError,
    DeadlineExceeded,
    NotFoundError,
    OutcomeUnknownError,
)
from morphml_ray.serde.signing_key import SigningKey

MAX_ATTEMPTS = 32
"""How often in succession others may be faster before a write gives up."""

_MAX_READS = 16
_MAX_PUTS = 8
_OUTAGES = (BackendUnavailable, DeadlineExceeded, OutcomeUnknownError)


@dataclass(frozen=True)
class Attempt:
    """What came of a try to make an entry.

    Attributes:
        is_committed: whether it stands in the log. If not, it never will.
        head: the newest entry afterwards.
    """

    is_committed: bool
    head: Entry


@dataclass(frozen=True)
class Appended:
    """An entry that stands in the log.

    Attributes:
        sequence: its number.
        head: the newest entry afterwards.
    """

    sequence: int
    head: Entry


@dataclass(frozen=True)
class ReadableHead:
    """What can be read of a log, of which the newest entries may be damaged.

    Attributes:
        head: the newest one that is good, under the number of the newest: what follows it stands above all.
        damaged: the number of the newest, where it cannot be read; None: it is good.
        damage: why it cannot be read.
    """

    head: Entry
    damaged: int | None = None
    damage: str = ""


class CommitLog:
    """The log of one experiment, as one process sees it.

    What it remembers makes it faster, never different: it may be dropped at any time, and several processes may have
    one for the same log.

    Attributes:
        place: of the experiment.
    """

    def __init__(self, place: Place, key: SigningKey) -> None:
        self.place = place
        self._key = key
        self._head: Entry | None = None
        self._chunks: dict[tuple[int, str], tuple[Chunk, ...]] = {}

    @property
    def remembered(self) -> Entry | None:
        """The head as it was last seen; a save may begin from it, since its PUT then tells whether it is the newest."""
        return self._head

    def newest(self, own: Entry | None = None) -> Steps[Entry]:
        """Find the head of the log; number 0 where the log is empty.

        Args:
            own: an entry that was made just now: it need not be read.

        Raises:
            CorruptDataError: it is damaged.
            UntrustedDataError: it was signed by another key.
            BackendUnavailable: what is listed cannot be found, time and again.
        """
        for _ in range(_MAX_READS):
            top = max((yield from self._numbers()), default=0)
            known = next((entry for entry in (own, self._head) if entry and entry.sequence == top), None)
            if known is None:
                known = yield from self._read(top)
            if known is not None:  # else it was replaced by a newer one meanwhile
                return self._remember(known)
        raise BackendUnavailable(f"{self.place.log_prefix}: what the store lists it does not find")

    def newest_readable(self) -> Steps[ReadableHead]:
        """Find the head of the log, passing over damaged entries.

        Raises:
            CorruptDataError: there are entries, and all are damaged.
            UntrustedDataError: one was signed by another key.
        """
        try:
            return ReadableHead((yield from self.newest()))
        except CorruptDataError as error:
            damage = str(error)
        numbers = sorted((yield from self._numbers()), reverse=True)
        for number in numbers:  # the newest again: it may have come badly, or be another one by now
            try:
                found = yield from self._read(number)
            except CorruptDataError as error:
                damage = str(error)
                continue
            if found is not None and number == numbers[0]:
                return ReadableHead(self._remember(found))
            if found is not None:
                return ReadableHead(replace(found, sequence=numbers[0]), numbers[0], damage)
        raise CorruptDataError(f"No entry of the checkpoints of {self.place.experiment!r} can be read: {damage}")

    def append(
        self, stamp: Stamp, change: Callable[[Entry, Stamp], Entry], *, epoch: int | None = None, heals: bool = False
    ) -> Steps[Appended]:
        """Make the next entry, whatever others do meanwhile.

        Args:
            stamp: of this operation. Where it was done before, that is the answer.
            change: gives the next entry after a head; its errors are raised, nothing is written then.
            epoch: that the writer took; None: it may write in any.
            heals: write above damaged entries, which are dropped then. Only for what takes the log over.

        Raises:
            StaleEpochError: another driver took the log over.
            OutcomeUnknownError: whether it was made cannot be found out now. Nothing was deleted.
            ConflictError: others were faster, time and again.
            CorruptDataError: the newest entry is damaged, and ``heals`` is False.
        """
        head = (yield from self.newest_readable()).head if heals else (yield from self.newest())
        for _ in range(MAX_ATTEMPTS):
            done = head.find(stamp.write_id)
            if done is not None:
                return Appended(done, head)
            check_epoch(head, epoch)
            entry = change(head, stamp)
            attempt = yield from self.try_append(entry)
            if attempt.is_committed:
                return Appended(entry.sequence, attempt.head)
            head = attempt.head
        raise ConflictError(f"The checkpoints of {self.place.experiment!r}: {MAX_ATTEMPTS} others in succession wrote")

    def try_append(self, entry: Entry) -> Steps[Attempt]:
        """Make one entry under its number, if it is still free.

        Raises:
            OutcomeUnknownError: whether it was made cannot be found out now. Nothing was deleted.
            ValidationError: it is too large; nothing was written.
        """
        put = Put(self.place.entry_key(entry.sequence), seal(entry, self.place, self._key), entry.write_id)
        try:
            is_created = yield from self._put(put)
            head = yield from self.newest(entry if is_created else None)
        except (*_OUTAGES, CorruptDataError) as error:
            raise OutcomeUnknownError(
                f"Whether {put.key} was written for the checkpoints of {self.place.experiment!r} is not known: {error}"
            ) from error
        if head.holds(entry.sequence, entry.write_id):
            return Attempt(is_committed=True, head=head)
        if head.sequence < entry.sequence:
            raise OutcomeUnknownError(f"{put.key} was written, and is not there: somebody else deletes in this log")
        yield from self._discard(entry.sequence, head)
        return Attempt(is_committed=False, head=head)

    def entry_of(self, record: CheckpointRecord) -> Steps[Entry]:
        """Read the manifest of a live checkpoint, with its table.

        Raises:
            NotFoundError: it is not there, or its table is not.
            CorruptDataError: it is damaged, or its table is.
        """
        found = self._head if self._head and self._head.sequence == record.sequence else None
        if found is None:
            found = yield from self._read(record.sequence)
        if found is None or found.write_id != record.write_id or found.state is None:
            raise NotFoundError(f"{self.place.entry_key(record.sequence)}: the manifest is not there")
        state = yield from self._with_table(found.state)
        self._chunks[record.sequence, record.write_id] = state.chunks
        return replace(found, state=state)

    def chunks_of(self, record: CheckpointRecord) -> Steps[tuple[Chunk, ...]]:
        """Give all chunks that a live checkpoint names; the errors are those of ``entry_of``."""
        known = self._chunks.get((record.sequence, record.write_id))
        if known is None:
            state = (yield from self.entry_of(record)).state
            known = state.chunks if state else ()
        return known

    def void_keys(self, head: Entry) -> Steps[tuple[str, ...]]:
        """List the entries below a head that may be deleted, now and at any later time."""
        named = _named(head)
        numbers = yield from self._numbers()
        void = [number for number in sorted(numbers) if number < head.sequence and number not in named]
        return tuple(self.place.entry_key(number) for number in void)

    def _put(self, put: Put) -> Steps[bool]:
        """Write until there is an object under the key; gives whether it is known to be this write's."""
        for _ in range(_MAX_PUTS):
            answer: PutAnswer = yield put
            if answer is PutAnswer.CREATED:
                return True
            if answer is PutAnswer.EXISTS:
                return False
            if answer is PutAnswer.UNKNOWN and (yield from got(put.key)) is not None:
                return False
        raise OutcomeUnknownError("the store gives no answer that tells")

    def _discard(self, sequence: int, head: Entry) -> Steps[None]:
        """Delete what may be there of an entry that was not committed; if that fails, the next collection does it."""
        if sequence not in range(1, head.sequence) or sequence in _named(head):
            return
        try:
            yield Delete((self.place.entry_key(sequence),))
        except _OUTAGES:
            return

    def _numbers(self) -> Steps[list[int]]:
        found = yield from listed(self.place.log_prefix)
        numbers = (self.place.sequence_of(item.key) for item in found)
        return [number for number in numbers if number is not None]

    def _read(self, sequence: int) -> Steps[Entry | None]:
        if not sequence:
            return empty(self.place)
        data = yield from got(self.place.entry_key(sequence))
        return None if data is None else unseal(data, self.place, sequence, self._key)

    def _with_table(self, state: State) -> Steps[State]:
        if not state.table_chunks:
            return state
        parts: list[Any] = []
        for chunk in state.table_chunks:
            stored = yield from got(self.place.chunk_key(chunk.name))
            if stored is None:
                raise NotFoundError(f"{self.place.chunk_key(chunk.name)}: a chunk of the table is not there")
            parts.append(restore(chunk, stored))
        return replace(state, table=decode_table(b"".join(parts)))

    def _remember(self, head: Entry) -> Entry:
        self._head = head
        live = {(record.sequence, record.write_id) for record in head.log.live}
        self._chunks = {own: chunks for own, chunks in self._chunks.items() if own in live}
        return head


def _named(head: Entry) -> set[int]:
    """Give the numbers of older entries that stay; the last sweep's tells when that was."""
    return {head.log.era, *(record.sequence for record in head.log.live)}
