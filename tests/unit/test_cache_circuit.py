"""The circuit breaker, and what it lets be forgotten."""

import logging

import pytest

from morphml_ray.cache.redis import lost_writes
from morphml_ray.cache.redis.circuit import Admission, Circuit
from morphml_ray.cache.redis.lost_writes import LostBatch, LostWrites
from morphml_ray.errors import BackendUnavailable

USUAL, PROBE, REFUSED = Admission.USUAL, Admission.PROBE, Admission.REFUSED


class Watched:
    """A circuit and its time."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.circuit = Circuit(
            "redis://here", failures_to_open=3, pause_s=1.0, max_pause_s=5.0, clock=lambda: self.now_s
        )

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            self.circuit.fail(self.circuit.admit(), "silence")


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_it_opens_after_failures_in_a_row_only(watched: Watched) -> None:
    watched.fail(2)
    watched.circuit.succeed(watched.circuit.admit())
    watched.fail(2)
    assert watched.circuit.is_closed
    watched.fail()
    assert not watched.circuit.is_closed
    assert watched.circuit.admit() is REFUSED


def test_one_probe_goes_through_and_closes_it(watched: Watched) -> None:
    watched.fail(3)
    watched.now_s = 0.99
    assert watched.circuit.admit() is REFUSED
    watched.now_s = 1.0
    assert [watched.circuit.admit() for _ in range(3)] == [PROBE, REFUSED, REFUSED]
    watched.circuit.succeed(PROBE)
    assert watched.circuit.is_closed
    watched.fail(2)
    assert watched.circuit.is_closed


def test_pauses_grow_up_to_the_longest_and_begin_anew(watched: Watched) -> None:
    watched.fail(3)
    for pause_s in (1.0, 2.0, 4.0, 5.0, 5.0):
        watched.now_s += pause_s - 0.25
        assert watched.circuit.admit() is REFUSED
        watched.now_s += 0.25
        assert watched.circuit.admit() is PROBE
        watched.circuit.fail(PROBE, "silence")
    watched.now_s += 5
    watched.circuit.succeed(watched.circuit.admit())
    watched.fail(3)
    watched.now_s += 1
    assert watched.circuit.admit() is PROBE


def test_calls_from_before_the_outage_change_nothing(watched: Watched) -> None:
    early = [watched.circuit.admit() for _ in range(2)]
    watched.fail(3)
    watched.circuit.succeed(early[0])
    watched.circuit.fail(early[1], "silence")
    assert not watched.circuit.is_closed
    watched.now_s = 1.0
    assert watched.circuit.admit() is PROBE
    watched.circuit.succeed(USUAL)
    watched.circuit.fail(USUAL, "silence")
    assert watched.circuit.admit() is REFUSED


def test_an_outage_is_one_warning(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        watched.circuit.open("refused")
        watched.circuit.open("refused")
        watched.fail(5)
        watched.now_s += 1
        watched.circuit.fail(watched.circuit.admit(), "silence")
        watched.now_s += 2
        watched.circuit.succeed(watched.circuit.admit())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 2
    assert caplog.messages[:2] == [
        "redis://here is unavailable: reads find nothing and writes are dropped until it is back (refused)",
        "redis://here is back after 3.0 s",
    ]
    assert watched.circuit.outages == 2


def taken(lost: LostWrites) -> list[LostBatch]:
    """Settle it, and give what there was to delete."""
    batches: list[LostBatch] = []

    def delete(batch: LostBatch) -> bool:
        batches.append(batch)
        assert lost  # until it is done
        return True

    assert lost.settle(delete, 0.01)
    return batches


def test_lost_writes_are_taken_once() -> None:
    lost = LostWrites(b"p:*")
    assert not lost
    lost.add([b"p:a", b"p:b"], [b"p:x*"])
    lost.add([b"p:a"])
    assert lost
    assert taken(lost) == [({b"p:a", b"p:b"}, {b"p:x*"})]
    assert not lost
    assert taken(lost) == []


def test_lost_writes_are_kept_until_they_are_deleted() -> None:
    lost = LostWrites(b"p:*")

    def fail(_: LostBatch) -> bool:
        lost.add([b"p:b"])
        raise BackendUnavailable("unavailable")

    lost.add([b"p:a"], [b"p:x*"])
    assert lost.settle(lambda _: False, 1) is False
    with pytest.raises(BackendUnavailable, match="unavailable"):
        lost.settle(fail, 1)
    assert taken(lost) == [({b"p:a", b"p:b"}, {b"p:x*"})]


def test_lost_writes_are_deleted_by_one_caller_at_a_time() -> None:
    lost = LostWrites(b"p:*")

    def come_second(_: LostBatch) -> bool:
        with pytest.raises(BackendUnavailable, match="still being deleted"):
            taken(lost)
        return True

    lost.add([b"p:a"])
    assert lost.settle(come_second, 0.01)
    assert not lost


def test_too_many_lost_writes_are_all_of_them() -> None:
    lost = LostWrites(b"p:*")
    lost.add(b"p:%d" % number for number in range(lost_writes.MAX_KEYS + 1))
    assert taken(lost) == [(set(), {b"p:*"})]
    lost.add(patterns=[b"p:%d*" % number for number in range(lost_writes.MAX_PATTERNS + 1)])
    lost.add([b"p:a"])
    assert taken(lost) == [(set(), {b"p:*"})]
