"""Many small objects in one call."""

import array
import os
import random

import pytest
import ray

import morphml_ray as mr
from morphml_ray.artifacts.actor.batches import FIRST_READ_BYTES, deal


def test_many_go_and_come_in_one_call(store: mr.ArtifactStore) -> None:
    objects = {f"many/{number}": random.Random(number).randbytes(number * 1000) for number in range(40)}  # noqa: S311 - data
    objects["many/large"] = os.urandom(3 * FIRST_READ_BYTES + 1)
    objects["many/exactly"] = os.urandom(FIRST_READ_BYTES)
    assert store.upload_multiple(objects) == list(objects)
    wanted = ["many/missing", *reversed(objects)]
    found = store.download_multiple(wanted)
    assert list(found) == wanted[1:]
    assert found == objects
    assert ray.get(store.download_multiple.remote(["many/1", "none"])) == {"many/1": objects["many/1"]}
    assert ray.get(store.upload_multiple.remote({})) == []
    assert store.download_multiple([]) == {}


def test_a_batch_works_inside_a_task(store: mr.ArtifactStore) -> None:
    @ray.remote(num_cpus=0)
    def work(store: mr.ArtifactStore) -> dict[str, bytes]:
        store.upload_multiple({"array": array.array("q", range(3)), "view": bytearray(b"12")})
        return store.download_multiple(["array", "view"])

    assert ray.get(work.remote(store)) == {"array": array.array("q", range(3)).tobytes(), "view": b"12"}


def test_nothing_of_a_batch_that_is_wrong_is_stored(local_store: mr.ArtifactStore) -> None:
    for wrong in ({"a": b"1", "b": "text"}, {"a": b"1", "../b": b"1"}, [b"1"]):
        with pytest.raises(mr.ValidationError):
            local_store.upload_multiple(wrong)  # type: ignore[arg-type]  # that it is wrong is the point
    assert local_store.list_keys() == []
    with pytest.raises(mr.ValidationError, match="one text"):
        local_store.download_multiple("a")


def test_one_that_fails_leaves_the_others(local_store: mr.ArtifactStore) -> None:
    long = "/".join(["x" * 100] * 12)  # longer than the names that a store takes
    with pytest.raises(mr.ValidationError):
        local_store.upload_multiple({"a": b"1", long: b"2"})
    local_store.upload_multiple({"a": b"1", "b": b"2"})
    local_store.upload_multiple({"b": b"3"})
    assert local_store.download_multiple(["a", "b"]) == {"a": b"1", "b": b"3"}


@pytest.mark.parametrize(("number", "hands"), [(0, 8), (3, 8), (8, 8), (19, 8)])
def test_items_are_dealt_out_evenly(number: int, hands: int) -> None:
    dealt = deal(range(number), hands)
    assert sorted(item for hand in dealt for item in hand) == list(range(number))
    assert {len(hand) for hand in dealt} <= {number // hands, number // hands + 1}
    assert all(dealt)
