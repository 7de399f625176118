"""What goes, what stays, and who may take it away."""

from datetime import timedelta
from itertools import count

import pytest
from checkpoint_store import KEY, PLACE, START, Process, Store, content, stamp
from hypothesis import given
from hypothesis import strategies as st

from morphml_ray.checkpoints.changes import Stamp
from morphml_ray.checkpoints.collection import Collected, CollectionTerms, collect, garbage, is_due
from morphml_ray.checkpoints.commit_log import CommitLog
from morphml_ray.checkpoints.names import ChunkName, Codec, place_of
from morphml_ray.checkpoints.requests import Delete, Get, Listed, Put
from morphml_ray.checkpoints.retention import LatestN
from morphml_ray.checkpoints.saving import Save, save
from morphml_ray.errors import StaleEpochError

IDS = count()
NOW = CollectionTerms(grace_s=0, again_after_s=0, batch=2)


def fresh() -> Stamp:
    return stamp(f"s{next(IDS)}")


def log() -> CommitLog:
    return CommitLog(PLACE, KEY)


def saved(store: Store, *chunks: int, epoch: int | None = None) -> int:
    number: int = store.run(save(log(), Save(fresh(), content(*chunks), 0, epoch=epoch, policy=LatestN(1)))).epoch
    return number


def collected(store: Store, terms: CollectionTerms = NOW, epoch: int | None = None) -> Collected:
    found: Collected = store.run(collect(log(), fresh(), epoch, terms))
    return found


def contents(store: Store) -> set[bytes]:
    return {store.objects[key].data for key in store.objects if PLACE.chunk_of(key)}


def test_what_no_live_checkpoint_names_goes_entries_first() -> None:
    store = Store()
    saved(store, 1, 2, 3)
    saved(store, 3, 4)
    process = Process(store, collect(log(), fresh(), None, NOW))
    deleted: list[str] = []
    while not process.is_done:
        if isinstance(process._request, Delete) and not set(process._request.keys) <= set(deleted):
            deleted += process._request.keys
        process.step()
    assert process.result() == Collected(entries=1, chunks=2, freed_bytes=6)
    assert [PLACE.chunk_of(key) is None for key in deleted] == [True, False, False]
    assert contents(store) == {bytes([3] * 3), bytes([4] * 3)}


def test_lesson_59_an_interrupted_collection_voids_what_was_remembered() -> None:
    store = Store()
    epoch = saved(store, 1)
    mine = log()
    store.run(mine.newest())
    saving = Process(store, save(mine, Save(fresh(), content(7, 8), 1, epoch=epoch, policy=LatestN(1))))
    while not isinstance(saving._request, Put):
        saving.step()
    assert {name.era for name in store.chunk_names()} == {0}
    sweeping = Process(store, collect(log(), fresh(), epoch, NOW))
    while not (isinstance(sweeping._request, Delete) and PLACE.chunk_of(sweeping._request.keys[0])):
        sweeping.step()
    sweeping.step()  # one of both is gone; the collector dies, and its request arrives later
    rest = sweeping._parts[0]
    sweeping.crash()
    while not saving.is_done:
        saving.step()
    rest()
    entry = store.entry(saving.result().sequence)
    assert store.missing(entry) == []
    assert {chunk.era for chunk in entry.state.chunks} == {2}  # type: ignore[union-attr]  # it has one


def test_lesson_59_a_chunk_is_shared_across_eras_as_long_as_a_checkpoint_names_it() -> None:
    store = Store()
    saved(store, 1, 2)
    collected(store)
    saved(store, 2, 3)
    collected(store)
    saved(store, 2, 3, 4)
    collected(store)
    head = store.run(log().newest())
    entry = store.entry(head.log.live[0].sequence)
    assert store.missing(entry) == []
    assert sorted(chunk.era for chunk in entry.state.chunks) == [0, 2, 4]  # type: ignore[union-attr]  # it has one
    assert contents(store) == {bytes([number] * 3) for number in (2, 3, 4)}


def test_lesson_60_two_collectors_exclude_each_other() -> None:
    store = Store()
    saved(store, 1)
    saved(store, 2)
    both = [Process(store, collect(log(), fresh(), None, NOW)) for _ in range(2)]
    while not all(isinstance(one._request, Put) for one in both):
        for one in both:
            if not isinstance(one._request, Put):
                one.step()
    for one in both:
        while not one.is_done:
            one.step()
    assert [one.result().ended for one in both] == [None, "another collection began just now"]
    patient = CollectionTerms(grace_s=0, again_after_s=1000)
    saved(store, 3)
    assert collected(store, patient).ended
    assert "short while ago" in str(collected(store, patient).ended)
    store.seconds += 1000
    saved(store, 4)
    assert collected(store, patient).ended is None


def test_lesson_60_a_collector_that_was_overtaken_stops_between_two_batches() -> None:
    store = Store()
    epoch = saved(store, 1, 2, 3, 4, 5)
    saved(store, 6, epoch=epoch)
    slow = Process(store, collect(log(), fresh(), epoch, NOW))
    while not (isinstance(slow._request, Delete) and PLACE.chunk_of(slow._request.keys[0])):
        slow.step()
    saved(store, 7)  # a newer driver
    with pytest.raises(StaleEpochError):
        while not slow.is_done or slow.result():
            slow.step()
    assert len(contents(store)) == 5  # one batch went


def test_lesson_60_a_newer_collection_ends_an_older_one() -> None:
    store = Store()
    saved(store, 1, 2, 3, 4, 5)
    saved(store, 6)
    slow = Process(store, collect(log(), fresh(), None, NOW))
    while not (isinstance(slow._request, Delete) and PLACE.chunk_of(slow._request.keys[0])):
        slow.step()
    assert collected(store).ended is None
    while not slow.is_done:
        slow.step()
    assert slow.result() == Collected(1, 2, 6, "another collection began")


def test_lesson_60_only_the_clock_of_the_store_counts() -> None:
    store = Store()
    store.run(save(log(), Save(stamp("a", START - timedelta(days=900)), content(1), 0)))
    store.run(save(log(), Save(stamp("b", START + timedelta(days=900)), content(2), 0, policy=LatestN(1))))
    careful = CollectionTerms(grace_s=100, again_after_s=0)
    assert store.run(collect(log(), stamp("c", START + timedelta(days=900)), None, careful)).chunks == 0
    store.seconds += 100
    assert store.run(collect(log(), stamp("d", START - timedelta(days=900)), None, careful)).chunks == 1


@pytest.mark.parametrize("is_lost", [True, False])
def test_where_a_live_manifest_cannot_be_read_no_chunk_goes(is_lost: bool) -> None:
    store = Store()
    for chunk in (1, 2):
        store.run(save(log(), Save(fresh(), content(chunk), chunk)))
    saved(store)
    for chunk in (3, 4):
        store.run(save(log(), Save(fresh(), content(chunk), chunk)))
    key = PLACE.entry_key(4)
    if is_lost:
        store.delete(key)
    else:
        store.objects[key] = store.objects[key]._replace(data=b"")
    before = contents(store)
    assert "cannot be read" in str(collected(store).ended)
    assert contents(store) == before


def test_a_manifest_that_is_dropped_while_it_is_looked_for_is_not_missed() -> None:
    store = Store()
    for generation in (1, 2):
        store.run(save(log(), Save(fresh(), content(generation), generation)))
    sweeping = Process(store, collect(log(), fresh(), None, NOW))
    while sweeping._request != Get(PLACE.entry_key(1)):
        sweeping.step()
    store.run(save(log(), Save(fresh(), content(3), 3, policy=LatestN(2))))
    store.delete(PLACE.entry_key(1))
    while not sweeping.is_done:
        sweeping.step()
    assert sweeping.result().ended is None
    assert contents(store) == {bytes([number] * 3) for number in (2, 3)}


NAMES = st.builds(ChunkName, st.integers(0, 4), st.binary(min_size=32, max_size=32), st.sampled_from(list(Codec)))


@given(st.lists(st.tuples(NAMES, st.integers(0, 20)), max_size=8), st.data())
def test_lessons_38_and_43_only_dead_and_old_chunks_of_this_experiment_go(
    chunks: list[tuple[ChunkName, int]], data: st.DataObject
) -> None:
    named = data.draw(st.sets(st.sampled_from([name for name, _ in chunks]))) if chunks else set()
    other = place_of("search2")
    objects = [
        Listed(place.chunk_key(name), 3, START + timedelta(seconds=at))
        for name, at in chunks
        for place in (PLACE, other)
    ]
    objects += [Listed(f"{PLACE.chunk_prefix}{name}", 3, START) for name in ("0/x", "x", "01/" + "0" * 64)]
    gone = garbage(PLACE, objects, named, 3, START + timedelta(seconds=15), 5)
    may_go = {PLACE.chunk_key(name) for name, at in chunks if name not in named and name.era < 3 and at <= 10}
    assert {item.key for item in gone} <= may_go
    surely = {PLACE.chunk_key(name) for name, at in chunks if PLACE.chunk_key(name) in may_go}
    assert surely == {item.key for item in gone}


def test_a_collection_is_due_once_something_happened_since_the_last_one() -> None:
    store = Store()
    head = store.run(log().newest())
    assert not is_due(PLACE, head, [], 0)
    saved(store, 1)
    assert collected(store).ended is None
    head = store.run(log().newest())
    objects = [Listed(key, 1, one.modified_at) for key, one in store.objects.items()]
    assert not is_due(PLACE, head, objects, 1)
