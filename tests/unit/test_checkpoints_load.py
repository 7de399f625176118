"""What a load gives when something is damaged, missing, foreign or in the way."""

from functools import partial
from itertools import count
from typing import Any

import pytest
from checkpoint_store import KEY, PLACE, Process, Store, content, stamp

from morphml_ray.checkpoints.changes import Stamp, pinned
from morphml_ray.checkpoints.collection import CollectionTerms, collect, tidy
from morphml_ray.checkpoints.commit_log import CommitLog
from morphml_ray.checkpoints.loading import confirm_read, load, resume, verify
from morphml_ray.checkpoints.requests import Fetch, Get, List, Put, Request, drive
from morphml_ray.checkpoints.retention import LatestN
from morphml_ray.checkpoints.saving import Save, save
from morphml_ray.errors import (
    BackendUnavailable,
    ConfigurationError,
    CorruptDataError,
    StaleEpochError,
    UntrustedDataError,
)
from morphml_ray.serde import SigningKey

IDS = count()


def fresh() -> Stamp:
    return stamp(f"s{next(IDS)}")


def log() -> CommitLog:
    return CommitLog(PLACE, KEY)


def store_with(*generations: int) -> Store:
    """A store with checkpoints, each of a chunk of its own."""
    store = Store()
    for generation in generations:
        store.run(save(log(), Save(fresh(), content(generation), generation)))
    return store


def damage(store: Store, number: int, data: bytes | None = None) -> None:
    """Damage the chunk of a checkpoint, or take it away."""
    state = store.entry(number).state
    assert state is not None
    key = PLACE.chunk_key(state.chunks[0].name)
    if data is None:
        store.delete(key)
    else:
        store.objects[key] = store.objects[key]._replace(data=data)


def damage_entry(store: Store, number: int) -> None:
    key = PLACE.entry_key(number)
    store.objects[key] = store.objects[key]._replace(data=store.objects[key].data[:-7])


@pytest.mark.parametrize("data", [None, b"", b"\x02\x02", b"\x02\x02\x01"])
def test_lesson_37_a_damaged_generation_is_quarantined_and_the_one_before_it_taken(data: bytes | None) -> None:
    store = store_with(1, 2)
    damage(store, 2, data)
    found = store.run(load(log(), fresh))
    assert found.record.generation == 1
    assert [(passed.sequence, passed.generation) for passed in found.passed_over] == [(2, 2)]
    head = store.run(log().newest())
    assert [bool(record.damage) for record in head.log.live] == [False, True]
    again = store.run(load(log(), fresh))  # not tried again, and still said
    assert again.passed_over[0].reason == head.log.live[1].damage
    assert store.run(log().newest()).sequence == head.sequence


def test_lesson_37_none_unreachable_and_all_damaged_are_three_answers() -> None:
    assert Store().run(load(log(), fresh)) is None
    store = store_with(1, 2)
    process = Process(store, load(log(), fresh))
    process.step("down")
    with pytest.raises(BackendUnavailable):
        process.result()
    damage(store, 1)
    damage(store, 2)
    for _ in range(2):
        with pytest.raises(CorruptDataError, match=r"none is overwritten: .*generation 2.*generation 1"):
            store.run(load(log(), fresh))


def test_a_generation_that_is_asked_for_is_tried_whatever_is_known_against_it() -> None:
    store = store_with(1, 2)
    key = PLACE.chunk_key(store.entry(2).state.chunks[0].name)  # type: ignore[union-attr]  # it has one
    good = store.objects[key]
    damage(store, 2)
    with pytest.raises(CorruptDataError, match="generation 2"):
        store.run(load(log(), fresh, 2))
    store.run(load(log(), fresh))
    store.objects[key] = good
    assert store.run(load(log(), fresh)).record.generation == 1
    assert store.run(load(log(), fresh, 2)).record.generation == 2
    assert store.run(load(log(), fresh, 3)) is None


def test_an_older_commit_of_a_generation_is_not_taken_without_a_word() -> None:
    store = store_with(1)
    change = partial(pinned, generation=1, pinned=True)
    store.run(log().append(fresh(), change))
    store.run(save(log(), Save(fresh(), content(2), 1, policy=LatestN(1))))
    damage(store, 3)
    found = store.run(load(log(), fresh, 1))
    assert (found.record.sequence, [passed.sequence for passed in found.passed_over]) == (1, [3])


def test_a_verification_notes_damage_and_takes_the_note_away() -> None:
    store = store_with(1, 2, 3)
    key = PLACE.chunk_key(store.entry(2).state.chunks[0].name)  # type: ignore[union-attr]  # it has one
    good = store.objects[key]
    damage(store, 2)
    found = store.run(verify(log(), fresh))
    assert [(one.record.generation, one.damage is None) for one in found] == [(3, True), (2, False), (1, True)]
    assert store.run(log().newest()).log.live[1].damage
    store.objects[key] = good
    assert [one.damage for one in store.run(verify(log(), fresh, 2))] == [None]
    assert store.run(log().newest()).log.live[1].damage is None


def test_a_missing_or_foreign_manifest_is_damage_of_that_checkpoint() -> None:
    store = store_with(1, 2, 3)
    store.delete(PLACE.entry_key(2))
    damage(store, 3)
    assert store.run(load(log(), fresh)).record.generation == 1


def test_a_damaged_newest_entry_is_passed_over_and_not_written_over_by_a_save() -> None:
    store = store_with(1, 2)
    damage_entry(store, 2)
    found = store.run(load(log(), fresh))
    assert (found.record.generation, found.passed_over[0][:2]) == (1, (2, None))
    with pytest.raises(CorruptDataError):
        store.run(load(log(), fresh, 2))
    with pytest.raises(CorruptDataError):
        store.run(save(log(), Save(fresh(), content(), 2, epoch=1)))
    resumed = store.run(resume(log(), fresh))
    assert (resumed.epoch, resumed.loaded.record.generation) == (3, 1)
    assert resumed.loaded.passed_over[0][:2] == (2, None)
    assert store.run(save(log(), Save(fresh(), content(9), 2, epoch=3))).sequence == 4
    assert [record.sequence for record in store.run(log().newest()).log.live] == [1, 4]


def test_several_damaged_entries_are_passed_over() -> None:
    store = store_with(1, 2, 3)
    damage_entry(store, 2)
    damage_entry(store, 3)
    assert store.run(load(log(), fresh)).record.generation == 1
    assert store.run(resume(log(), fresh)).epoch == 4


def test_what_another_driver_made_above_a_damaged_entry_is_not_dropped() -> None:
    store = store_with(1, 2)
    damage_entry(store, 2)
    slow = Process(store, resume(log(), fresh))
    while not isinstance(slow._request, Get):
        slow.step()
    slow.step()  # it has read the damaged one, and knows no more
    store.run(resume(log(), fresh))
    store.run(save(log(), Save(fresh(), content(9), 9, epoch=3)))
    while not slow.is_done:
        slow.step()
    assert slow.result().loaded.record.generation == 9


def test_a_newest_entry_that_came_badly_once_is_not_dropped() -> None:
    store = store_with(1, 2)
    answers = iter([CorruptDataError("the checksum differs")])

    def perform(request: Request) -> Any:
        if isinstance(request, Get) and (error := next(answers, None)):
            raise error
        return store.perform(request)

    found = drive(resume(log(), fresh), perform)
    assert found.loaded is not None
    assert (found.loaded.record.generation, found.loaded.passed_over) == (2, ())


def test_where_no_entry_can_be_read_nothing_begins_anew() -> None:
    store = store_with(1)
    damage_entry(store, 1)
    for steps in (load(log(), fresh), resume(log(), fresh), save(log(), Save(fresh(), content(), 0))):
        with pytest.raises(CorruptDataError):
            store.run(steps)
    assert store.numbers() == [1]


def test_lesson_17_another_signing_key_is_no_damage_and_nothing_older_is_taken() -> None:
    store = store_with(1, 2)
    for steps in (load, resume):
        with pytest.raises(UntrustedDataError, match="MORPHML_SIGNING_KEY"):
            store.run(steps(CommitLog(PLACE, SigningKey("another key of the tests, 32 more")), fresh))
    assert store.numbers() == [1, 2]


def refusing(store: Store) -> Any:
    def perform(request: Request) -> Any:
        if isinstance(request, Put):
            raise ConfigurationError("no right to write")
        return store.perform(request)

    return perform


def test_a_reader_without_the_right_to_write_loads_all_the_same() -> None:
    store = store_with(1, 2)
    damage(store, 2)
    found = drive(load(log(), fresh), refusing(store))
    assert found is not None
    assert (found.record.generation, found.passed_over[0].sequence) == (1, 2)


def test_a_checkpoint_that_is_dropped_while_it_is_read_is_not_damaged() -> None:
    store = store_with(1)
    reading = Process(store, load(log(), fresh))
    while not isinstance(reading._request, Fetch):
        reading.step()
    store.run(save(log(), Save(fresh(), content(2), 2, policy=LatestN(1))))
    store.run(collect(log(), fresh(), None, CollectionTerms(0, 0)))
    assert len(store.chunk_names()) == 1
    while not reading.is_done:
        reading.step()
    assert (reading.result().record.generation, reading.result().passed_over) == (2, ())
    assert all(record.damage is None for record in store.run(log().newest()).log.live)


def test_an_entry_that_goes_while_it_is_looked_for_is_looked_for_again() -> None:
    store = store_with(1)
    reading = Process(store, log().newest())
    while isinstance(reading._request, List):
        reading.step()
    store.run(save(log(), Save(fresh(), content(2), 2, policy=LatestN(1))))
    store.run(tidy(log()))
    while not reading.is_done:
        reading.step()
    assert reading.result().sequence == 2


def test_a_checkpoint_that_crashed_its_readers_twice_is_passed_over() -> None:
    store = store_with(1, 2)
    for _ in range(2):  # each resumes, and dies while it builds what it got
        assert store.run(resume(log(), fresh)).loaded.record.generation == 2
        assert store.run(load(log(), fresh)).record.generation == 2  # a mere reader is not misled meanwhile
    third = store.run(resume(log(), fresh))
    assert third.loaded.record.generation == 1
    assert "did not survive" in third.loaded.passed_over[0].reason
    assert store.run(load(log(), fresh, 2)).record.generation == 2
    store.run(verify(log(), fresh))
    assert store.run(load(log(), fresh)).record.generation == 2


def test_reads_that_ended_well_are_forgotten() -> None:
    store = store_with(1, 2)
    for _ in range(5):
        resumed = store.run(resume(log(), fresh))
        assert resumed.loaded.record.generation == 2
        store.run(confirm_read(log(), fresh(), resumed.epoch, resumed.loaded.record))
    store.run(resume(log(), fresh))
    with pytest.raises(StaleEpochError):
        store.run(confirm_read(log(), fresh(), resumed.epoch, resumed.loaded.record))


def test_a_resume_that_is_repeated_is_one_and_its_read_is_counted_once() -> None:
    store = store_with(1)
    stamps = [fresh()] * 3
    epochs = {store.run(resume(log(), lambda: stamps[0])).epoch for _ in range(3)}
    assert epochs == {2}
    assert store.run(log().newest()).log.live[0].unfinished_reads == 1


def test_a_resume_that_falls_back_counts_the_read_of_what_it_takes() -> None:
    store = store_with(1, 2)
    damage(store, 2)
    resumed = store.run(resume(log(), fresh))
    assert resumed.loaded.record.generation == 1
    assert [record.unfinished_reads for record in store.run(log().newest()).log.live] == [1, 1]


def test_a_resume_of_nothing_takes_the_log_over() -> None:
    store = Store()
    first = store.run(resume(log(), fresh))
    second = store.run(resume(log(), fresh))
    assert (first.epoch, second.epoch, second.loaded) == (1, 2, None)
    with pytest.raises(StaleEpochError):
        store.run(save(log(), Save(fresh(), content(), 0, epoch=first.epoch)))


def test_a_resume_that_is_overtaken_while_it_reads_says_so() -> None:
    store = store_with(1)
    first = Process(store, resume(log(), fresh))
    while not isinstance(first._request, Fetch):
        first.step()
    damage(store, 1)
    store.run(save(log(), Save(fresh(), content(2), 2)))
    with pytest.raises(StaleEpochError):
        while not first.is_done or first.result():
            first.step()
