"""What is remembered of lost writes, beyond the process that lost them, and where nothing can be deleted."""

import os
import stat
from pathlib import Path

import pytest

from morphml_ray.cache.redis import barred_keys, lost_writes
from morphml_ray.cache.redis.barred_keys import BarredKeys
from morphml_ray.cache.redis.loss_journal import LossJournal
from morphml_ray.cache.redis.lost_writes import LostBatch, LostWrites
from morphml_ray.rpc.incarnation import Incarnation

FIRST, SECOND, THIRD = (Incarnation("actor", number) for number in range(3))
EVERYTHING = (set[bytes](), {b"p:*"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lost"


def begin(folder: Path, incarnation: Incarnation | None = None, place: str = "redis://here p") -> LostWrites:
    lost = LostWrites(b"p:*", LossJournal(place, incarnation or Incarnation.only(), folder))
    lost.open()
    return lost


def kill(lost: LostWrites) -> None:
    """Do what the system does for a process that is killed."""
    assert lost._journal is not None
    assert lost._journal._fd is not None
    os.close(lost._journal._fd)


def left(lost: LostWrites) -> LostBatch:
    """Settle it, and give what there was to delete."""
    batches = [LostBatch(set(), set())]

    def delete(batch: LostBatch) -> bool:
        batches.append(batch)
        return True

    assert lost.settle(delete, 0.01)
    return batches[-1]


def files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.iterdir()]


def test_case_59_who_comes_after_a_killed_process_knows_what_it_lost(folder: Path) -> None:
    killed = begin(folder, FIRST)
    killed.add([b"p:a", b"p:\n\0\xff"], [b"p:x*"])
    kill(killed)
    again = begin(folder, SECOND)
    kill(again)
    assert left(begin(folder, THIRD)) == ({b"p:a", b"p:\n\0\xff"}, {b"p:x*"})


def test_case_59_what_was_settled_is_forgotten(folder: Path) -> None:
    killed = begin(folder, FIRST)
    killed.add([b"p:a"])
    left(killed)
    kill(killed)
    again = begin(folder, SECOND)
    assert not again
    assert files(folder) == [b""]
    again.close()
    assert files(folder) == []


def test_case_59_what_is_lost_while_others_are_deleted_stays(folder: Path) -> None:
    killed = begin(folder, FIRST)

    def delete(_: LostBatch) -> bool:
        killed.add([b"p:b"])
        return True

    killed.add([b"p:a"])
    assert killed.settle(delete, 1)
    kill(killed)
    assert b"p:b" in left(begin(folder, SECOND)).names


def test_case_59_an_actor_that_comes_from_another_machine_knows_that_it_knows_nothing(folder: Path) -> None:
    kill(begin(folder / "one", FIRST))
    moved = begin(folder / "two", SECOND)
    assert left(moved) == EVERYTHING
    kill(moved)
    assert left(begin(folder / "two", Incarnation("other"))) == (set(), set())
    # What was left on this machine two lives ago says nothing of the last.
    assert left(begin(folder / "one", THIRD)) == EVERYTHING


def test_case_59_another_cluster_on_this_machine_takes_over(folder: Path) -> None:
    killed = begin(folder)
    killed.add([b"p:a"])
    elsewhere = begin(folder, place="redis://there p")
    elsewhere.add([b"p:b"])
    kill(killed)
    kill(elsewhere)
    taken = begin(folder)
    assert left(begin(folder)) == (set(), set())  # it has one owner
    assert left(taken) == ({b"p:a"}, set())


def test_case_59_what_a_living_process_lost_is_its_own(folder: Path) -> None:
    living = begin(folder)
    living.add([b"p:a"])
    assert left(begin(folder)) == (set(), set())
    assert left(living) == ({b"p:a"}, set())


def test_case_59_a_clean_end_leaves_what_was_not_settled(folder: Path) -> None:
    lost = begin(folder)
    lost.add([b"p:a"])
    lost.close()
    lost.add([b"p:late"])
    assert left(begin(folder)) == ({b"p:a", b"p:late"}, set())


def test_case_59_a_line_that_was_cut_off_had_been_told_nobody(folder: Path) -> None:
    killed = begin(folder, FIRST)
    killed.add([b"p:a"])
    assert killed._journal is not None
    assert killed._journal._fd is not None
    os.write(killed._journal._fd, b"ncDpi")
    kill(killed)
    again = begin(folder, SECOND)
    again.add([b"p:c"])
    kill(again)
    assert left(begin(folder, THIRD)) == ({b"p:a", b"p:c"}, set())


def test_case_59_the_file_is_bounded_and_private(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_writes, "MAX_BYTES", 1000)
    killed = begin(folder, FIRST)
    for _ in range(3):
        for number in range(500):
            killed.add([b"p:%d" % number])
        assert not killed.settle(lambda _: False, 1)
    (path,) = folder.iterdir()
    assert path.stat().st_size < 5000
    assert [stat.S_IMODE(one.stat().st_mode) for one in (folder, path)] == [0o700, 0o600]
    kill(killed)
    assert left(begin(folder, SECOND)).patterns == {b"p:*"}


def test_case_59_where_nothing_can_be_noted_a_restarted_actor_clears_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    lost = begin(tmp_path / "file" / "lost", FIRST)
    lost.add([b"p:a"])
    assert left(lost) == ({b"p:a"}, set())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert left(begin(tmp_path / "file" / "lost", SECOND)) == EVERYTHING


def test_case_59_a_disk_that_is_full_leaves_no_file_that_says_less(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    lost = begin(folder, FIRST)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail)
        lost.add([b"p:a"])
        lost.add([b"p:b"])
    assert files(folder) == []
    assert "No space left" in caplog.text
    assert left(begin(folder, SECOND)) == EVERYTHING
    assert left(lost).names == {b"p:a", b"p:b"}


# Where the user may not delete


def test_what_is_barred_is_found_again_once_it_is_renewed() -> None:
    barred = BarredKeys(b"p:*")
    assert not barred.hide(b"p:a")
    barred.add([b"p:a"], [b"p:x*"])
    assert [barred.hide(name) for name in (b"p:a", b"p:x1", b"p:b")] == [True, True, False]
    barred.renew([b"p:a", b"p:x1"])
    assert [barred.hide(name) for name in (b"p:a", b"p:x1", b"p:x2")] == [False, False, True]
    barred.add(patterns=[b"p:x*"])
    assert barred.hide(b"p:x1")
    barred.lift(b"p:x*")
    assert not barred.hide(b"p:x1")
    assert not barred


def test_too_much_that_is_barred_is_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barred_keys, "MAX_KEYS", 3)
    barred = BarredKeys(b"p:*")
    barred.add([b"p:%d" % number for number in range(4)])
    assert barred.hide(b"p:other")
    barred.renew([b"p:other"])
    assert not barred.hide(b"p:other")
    barred.add([b"p:other"])
    assert barred.hide(b"p:other")
    barred.lift(b"p:*")
    assert not barred
    barred.add(patterns=[b"p:%d*" % number for number in range(barred_keys.MAX_PATTERNS + 1)])
    assert barred.hide(b"p:other")


def test_what_is_barred_outlives_the_process(folder: Path) -> None:
    killed = begin(folder, FIRST)

    def refuse(batch: LostBatch) -> bool:
        killed.barred.add(*batch)
        return True

    killed.add([b"p:a"])
    assert killed.settle(refuse, 1)
    kill(killed)
    assert left(begin(folder, SECOND)) == ({b"p:a"}, set())
