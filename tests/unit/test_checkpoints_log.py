"""The protocol in single scenes, each named after what went wrong somewhere."""

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import pytest
from checkpoint_store import KEY, PLACE, Process, Store, content, stamp

from morphml_ray.checkpoints.changes import Stamp, dropped, pinned
from morphml_ray.checkpoints.commit_log import MAX_ATTEMPTS, CommitLog
from morphml_ray.checkpoints.loading import load
from morphml_ray.checkpoints.manifest import MAX_LIVE, CheckpointRecord, Entry, Kind, LogState
from morphml_ray.checkpoints.names import place_of
from morphml_ray.checkpoints.requests import Delete, Get, List, Put, PutAnswer, Request, Upload, UploadTable, drive
from morphml_ray.checkpoints.retention import LatestN
from morphml_ray.checkpoints.saving import Save, save
from morphml_ray.checkpoints.sealing import MAX_ENTRY_BYTES, seal
from morphml_ray.errors import (
    BackendUnavailable,
    ConflictError,
    CorruptDataError,
    NotFoundError,
    OutcomeUnknownError,
    StaleEpochError,
    ValidationError,
)

IDS = count()


def fresh() -> Stamp:
    return stamp(f"s{next(IDS)}")


def saved(store: Store, *chunks: int, generation: int = 0, log: CommitLog | None = None, **more: Any) -> int:
    request = Save(more.pop("stamp", None) or fresh(), content(*chunks), generation, **more)
    number: int = store.run(save(log or CommitLog(PLACE, KEY), request)).sequence
    return number


def live(store: Store) -> list[int]:
    head: Entry = store.run(CommitLog(PLACE, KEY).newest())
    return [record.sequence for record in head.log.live]


def watched(
    store: Store, requests: list[Request], answer: Callable[[Request], Any] | None = None
) -> Callable[..., Any]:
    """What performs requests, notes them, and answers some differently."""

    def perform(request: Request) -> Any:
        requests.append(request)
        given = answer(request) if answer else None
        return store.perform(request) if given is None else given

    return perform


def until(process: Process, kind: type[Request]) -> None:
    while not isinstance(process._request, kind):
        process.step()


@pytest.mark.parametrize(
    ("answers", "is_written", "puts"),
    [
        ([PutAnswer.CREATED], True, 1),
        ([PutAnswer.EXISTS], True, 1),  # lesson 31: 412 against our own object
        ([PutAnswer.UNKNOWN], True, 1),  # the answer was lost: read back
        ([PutAnswer.UNKNOWN, PutAnswer.CREATED], False, 2),  # it did not happen: again
        ([PutAnswer.AGAIN, PutAnswer.AGAIN, PutAnswer.CREATED], False, 3),  # 409
        ([PutAnswer.AGAIN, PutAnswer.EXISTS], True, 2),
    ],
)
def test_lesson_31_a_lost_answer_is_a_success(answers: list[PutAnswer], is_written: bool, puts: int) -> None:
    store, requests = Store(), list[Request]()
    left = list(answers)

    def answer(request: Request) -> PutAnswer | None:
        if not isinstance(request, Put):
            return None
        if is_written or left[0] is PutAnswer.CREATED:
            store.put(request.key, request.data, request.write_id, if_absent=True)
        return left.pop(0)

    done = drive(save(CommitLog(PLACE, KEY), Save(fresh(), content(1), 0)), watched(store, requests, answer))
    assert (done.sequence, live(store)) == (1, [1])
    made = [request for request in requests if isinstance(request, Put)]
    assert len(made) == puts
    assert len(set(made)) == 1


@pytest.mark.parametrize("lost", [PutAnswer.UNKNOWN, PutAnswer.EXISTS])
def test_an_entry_of_another_under_the_number_is_followed(lost: PutAnswer) -> None:
    store, requests = Store(), list[Request]()
    log = CommitLog(PLACE, KEY)
    saved(store, 1, log=log, generation=1)
    store.run(CommitLog(PLACE, KEY).append(fresh(), partial(pinned, generation=1, pinned=True)))
    answers = watched(store, requests, lambda request: lost if request == requests[0] else None)
    epoch = store.entry(1).log.epoch
    done = drive(save(log, Save(fresh(), content(), 2, epoch=epoch)), answers)
    assert (done.sequence, live(store)) == (3, [1, 3])
    assert store.entry(3).log.live[0].pinned


def test_lesson_61_an_unknown_outcome_deletes_nothing_and_the_same_save_again_finds_it() -> None:
    store, requests = Store(), list[Request]()
    once = fresh()

    def no_answer(request: Request) -> Any:
        if isinstance(request, Put):
            store.perform(request)
            return PutAnswer.UNKNOWN
        if isinstance(request, Get) and request.key == PLACE.entry_key(1):
            raise BackendUnavailable("the store does not answer")
        return None

    with pytest.raises(OutcomeUnknownError):
        drive(save(CommitLog(PLACE, KEY), Save(once, content(1), 5)), watched(store, requests, no_answer))
    assert not any(isinstance(request, Delete) for request in requests)
    assert live(store) == [1]
    assert saved(store, 1, generation=5, stamp=once) == 1
    assert (store.numbers(), live(store)) == ([1], [1])


def test_a_server_that_never_tells_is_an_unknown_outcome() -> None:
    answers = watched(Store(), [], lambda request: PutAnswer.AGAIN if isinstance(request, Put) else None)
    with pytest.raises(OutcomeUnknownError):
        drive(save(CommitLog(PLACE, KEY), Save(fresh(), content(), 0)), answers)


def test_lesson_34_a_saver_that_slept_over_a_deleted_number_is_void() -> None:
    store = Store()
    slow = CommitLog(PLACE, KEY)
    epoch = store.entry(saved(store, 1, log=slow)).log.epoch
    asleep = Process(store, save(slow, Save(fresh(), content(2), 1, epoch=epoch)))
    until(asleep, Put)
    for number in range(3):  # a newer driver; number 2, which the sleeper wants, is deleted
        saved(store, 3, generation=number, policy=LatestN(1))
    log = CommitLog(PLACE, KEY)
    keys = store.run(log.void_keys(store.run(log.newest())))
    store.perform(Delete(keys))
    assert store.numbers() == [4]
    asleep.step()
    assert store.numbers() == [2, 4]
    with pytest.raises(StaleEpochError, match="resume"):
        while not asleep.is_done or asleep.result():
            asleep.step()
    assert store.numbers() == [4]
    assert live(store) == [4]


def test_lesson_34_two_drivers_do_not_interleave() -> None:
    store = Store()
    first, second = CommitLog(PLACE, KEY), CommitLog(PLACE, KEY)
    one = store.entry(saved(store, log=first)).log.epoch
    two = store.entry(saved(store, log=second)).log.epoch
    assert two > one
    with pytest.raises(StaleEpochError):
        saved(store, log=first, epoch=one)
    assert saved(store, log=second, epoch=two) == 3
    assert live(store) == [1, 2, 3]


def test_lesson_34_a_late_older_save_does_not_move_latest_back() -> None:
    store, policy = Store(), LatestN(1)
    epoch = store.entry(saved(store, turn=1)).log.epoch
    once = fresh()
    saved(store, epoch=epoch, turn=3, generation=3, stamp=once)
    with pytest.raises(ConflictError, match="save 2"):
        saved(store, epoch=epoch, turn=2, generation=2)
    saved(store, epoch=epoch, turn=4, generation=4, policy=policy)
    assert saved(store, epoch=epoch, turn=3, generation=3, stamp=once) == 2  # it was committed, and was dropped since
    assert store.run(load(CommitLog(PLACE, KEY), fresh)).record.generation == 4
    assert saved(store, turn=1, generation=1) == 4  # another driver counts anew


def test_lesson_33_a_generation_saved_after_a_roll_back_is_the_latest() -> None:
    store = Store()
    for generation in (90, 100, 10):
        saved(store, generation=generation, policy=LatestN(2))
    found = store.run(load(CommitLog(PLACE, KEY), fresh))
    assert found.record.generation == 10
    assert store.run(load(CommitLog(PLACE, KEY), fresh, 90)) is None


def test_a_generation_that_is_saved_again_is_loaded_as_it_was_saved_last() -> None:
    store = Store()
    for chunk in (1, 2):
        saved(store, chunk, generation=10, policy=LatestN(5))
    assert store.run(load(CommitLog(PLACE, KEY), fresh, 10)).record.sequence == 2
    assert live(store) == [2]


def test_lesson_36_number_1000000_comes_after_999999() -> None:
    store = Store()
    record = CheckpointRecord(sequence=999_999, write_id="w", generation=7, epoch=1, created_at=fresh().created_at)
    state = store.entry(saved(store)).state
    before = Entry(
        sequence=999_999,
        experiment=PLACE.experiment,
        kind=Kind.CHECKPOINT,
        write_id="w",
        created_at=record.created_at,
        log=LogState(epoch=1, live=(record,)),
        state=state,
    )
    store.objects[PLACE.entry_key(999_999)] = store.objects[PLACE.entry_key(1)]._replace(data=seal(before, PLACE, KEY))
    assert saved(store, generation=8) == 1_000_000
    assert store.run(load(CommitLog(PLACE, KEY), fresh)).record.sequence == 1_000_000


def test_lessons_38_and_43_objects_of_others_are_neither_read_nor_touched() -> None:
    store = Store()
    other = Store(place_of("search "))
    saved(store, 1)
    strays = ["log/latest", "log/00000000000000000009.tmp", "chunks/x", "notes", "search/b/log/" + "9" * 20]
    keys = [PLACE.prefix + name for name in strays] + [other.place.entry_key(5), other.place.chunk_prefix + "0/x"]
    for key in keys:
        store.objects[key] = store.objects[PLACE.entry_key(1)]
    assert saved(store, 2, policy=LatestN(1)) == 2
    log = CommitLog(PLACE, KEY)
    assert store.run(log.void_keys(store.run(log.newest()))) == (PLACE.entry_key(1),)
    assert set(keys) <= set(store.objects)


def test_lesson_55_a_save_that_failed_is_counted_nowhere() -> None:
    store = Store()
    saved(store, 1, generation=1)
    failing = Process(store, save(CommitLog(PLACE, KEY), Save(fresh(), content(2, 3), 2, policy=LatestN(1))))
    until(failing, Upload)
    failing.step()
    failing.step("down")
    with pytest.raises(BackendUnavailable):
        failing.result()
    assert live(store) == [1]
    assert saved(store, 2, 3, generation=2, policy=LatestN(1)) == 2


def test_lesson_56_nothing_is_given_up_before_the_commit_and_nothing_deleted_by_it() -> None:
    store, requests = Store(), list[Request]()
    saved(store, 1)
    perform = watched(store, requests)
    drive(save(CommitLog(PLACE, KEY), Save(fresh(), content(2), 1, policy=LatestN(1))), perform)
    kinds = [type(request) for request in requests]
    assert kinds.index(Upload) < kinds.index(Put)
    assert Delete not in kinds
    assert store.missing(store.entry(1)) == []


def test_what_is_there_is_not_uploaded_again() -> None:
    store, requests = Store(), list[Request]()
    saved(store, 1, 2, 2)
    drive(save(CommitLog(PLACE, KEY), Save(fresh(), content(2, 1, 3, 3), 1)), watched(store, requests))
    assert [len(request.names) for request in requests if isinstance(request, Upload)] == [1]
    assert store.entry(2).log.live[1].size_bytes == 9
    log = CommitLog(PLACE, KEY)
    requests.clear()
    drive(save(log, Save(fresh(), content(), 2)), watched(store, requests))
    assert [type(request) for request in requests] == [List, Get, Put, List]  # inline: one PUT, no listing of chunks
    requests.clear()
    drive(save(log, Save(fresh(), content(), 3)), watched(store, requests))
    assert [type(request) for request in requests] == [Put, List]


def test_a_chunk_that_was_lost_is_uploaded_again() -> None:
    store = Store()
    saved(store, 1, 2)
    lost = min(key for key in store.objects if key.startswith(PLACE.chunk_prefix))
    store.delete(lost)
    saved(store, 1, 2)
    assert store.missing(store.entry(2)) == []


def test_lesson_62_a_large_table_leaves_the_manifest_small() -> None:
    store, requests = Store(), list[Request]()
    numbers = [number % 256 for number in range(40_000)]
    drive(save(CommitLog(PLACE, KEY), Save(fresh(), content(*numbers), 0)), watched(store, requests))
    puts = [request for request in requests if isinstance(request, Put)]
    assert [len(put.data) < 10_000 < MAX_ENTRY_BYTES for put in puts] == [True]
    assert sum(isinstance(request, UploadTable) for request in requests) == 1
    found = store.run(load(CommitLog(PLACE, KEY), fresh))
    assert len(found.entry.state.table.chunks) == 40_000
    table = PLACE.chunk_key(found.entry.state.table_chunks[0].name)
    store.objects[table] = store.objects[table]._replace(data=b"x")
    with pytest.raises(CorruptDataError):
        store.run(load(CommitLog(PLACE, KEY), fresh, 0))
    store.delete(table)
    with pytest.raises(CorruptDataError, match="of the table is not there"):
        store.run(load(CommitLog(PLACE, KEY), fresh, 0))


def test_more_checkpoints_than_a_log_can_name_are_refused() -> None:
    store = Store()
    head = store.entry(saved(store))
    records = tuple(
        CheckpointRecord(sequence=n, write_id="w", generation=n, epoch=1, created_at=head.created_at)
        for n in range(1, MAX_LIVE + 2)
    )
    with pytest.raises(ValidationError, match="cannot be written"):
        store.run(CommitLog(PLACE, KEY).append(fresh(), lambda head, stamp: changed(head, stamp, records)))
    assert store.numbers() == [1]


def changed(head: Entry, stamp: Stamp, records: tuple[CheckpointRecord, ...]) -> Entry:
    log = LogState(live=records)
    return Entry(
        sequence=head.sequence + 1,
        experiment=head.experiment,
        kind=Kind.CHANGE,
        write_id=stamp.write_id,
        created_at=stamp.created_at,
        log=log,
    )


def test_a_pin_holds_whatever_the_policy_says_until_it_is_taken_off() -> None:
    store = Store()
    saved(store, generation=1)
    log = CommitLog(PLACE, KEY)
    with pytest.raises(NotFoundError):
        store.run(log.append(fresh(), partial(pinned, generation=9, pinned=True)))
    store.run(log.append(fresh(), partial(pinned, generation=1, pinned=True)))
    saved(store, generation=2, policy=LatestN(1))
    saved(store, generation=1, policy=LatestN(1))
    assert live(store) == [1, 4]
    store.run(log.append(fresh(), partial(pinned, generation=1, pinned=False)))
    saved(store, generation=3, policy=LatestN(1))
    assert live(store) == [6]


def test_numbers_never_begin_again_when_all_checkpoints_are_dropped() -> None:
    store = Store()
    saved(store, generation=1)
    log = CommitLog(PLACE, KEY)
    store.run(log.append(fresh(), partial(dropped, is_dropped=lambda _: True)))
    with pytest.raises(NotFoundError):
        store.run(log.append(fresh(), partial(dropped, is_dropped=lambda _: True)))
    store.perform(Delete(store.run(log.void_keys(store.run(log.newest())))))
    assert store.run(load(log, fresh)) is None
    assert (store.numbers(), saved(store)) == ([2], 3)


@pytest.mark.parametrize("what", ["save", "pin"])
def test_a_writer_that_is_always_overtaken_gives_up(what: str) -> None:
    store = Store()
    saved(store, generation=1)

    def overtaken(request: Request) -> None:
        if isinstance(request, Put):
            store.run(CommitLog(PLACE, KEY).append(fresh(), partial(pinned, generation=1, pinned=True)))

    log, requests = CommitLog(PLACE, KEY), list[Request]()
    steps: Any = save(log, Save(fresh(), content(), 2))
    if what == "pin":
        steps = log.append(fresh(), partial(pinned, generation=1, pinned=False))
    with pytest.raises(ConflictError):
        drive(steps, watched(store, requests, overtaken))
    assert sum(isinstance(request, Put) for request in requests) == MAX_ATTEMPTS


def test_a_store_that_lists_what_it_does_not_find_is_an_outage() -> None:
    store = Store()
    saved(store)
    nothing = watched(store, [], lambda request: Missing if isinstance(request, Get) else None)
    with pytest.raises(BackendUnavailable):
        drive(
            CommitLog(PLACE, KEY).newest(),
            lambda request: None if nothing(request) is Missing else store.perform(request),
        )


class Missing:
    """Stands for an answer of None."""


def test_somebody_who_deletes_the_newest_entry_is_noticed() -> None:
    store = Store()

    def deleted(request: Request) -> PutAnswer | None:
        return PutAnswer.CREATED if isinstance(request, Put) else None

    with pytest.raises(OutcomeUnknownError, match="somebody else"):
        drive(save(CommitLog(PLACE, KEY), Save(fresh(), content(), 0)), watched(store, [], deleted))
