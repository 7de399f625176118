"""Private files: whole or not there, and nobody else's to read."""

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from morphml_ray.config.private_files import create_private_file, lend_private_file, put_private_file

Write = Callable[[Path, str], object]


def lend(path: Path, text: str) -> None:
    with lend_private_file(path, text):
        pass


WRITES = pytest.mark.parametrize("write", [put_private_file, create_private_file, lend])


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_a_file_is_private_whatever_the_umask_is(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        put_private_file(tmp_path / "put", "1")
        create_private_file(tmp_path / "created", "1")
        with lend_private_file(tmp_path / "lent", "1"):
            assert {path.name: mode(path) for path in tmp_path.iterdir()} == dict.fromkeys(
                ("put", "created", "lent"), 0o600
            )
    assert names(tmp_path) == ["created", "put"]


def test_put_replaces_a_file_and_its_mode_and_not_what_a_link_leads_to(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("old")
    path.chmod(0o644)
    link.symlink_to(path)
    put_private_file(link, "linked")
    assert (link.is_symlink(), path.read_text()) == (False, "old")
    put_private_file(path, "naïve \udcff")
    assert (path.read_bytes(), mode(path)) == ("naïve ".encode() + b"\xff", 0o600)
    assert names(tmp_path) == ["file", "link"]


def test_put_goes_where_the_descriptor_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    folder_fd = os.open(there, os.O_RDONLY)
    try:
        put_private_file(Path("file"), "1", dir_fd=folder_fd)
        os.fstat(folder_fd)  # it is still open
    finally:
        os.close(folder_fd)
    assert (names(here), names(there)) == ([], ["file"])


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    texts = {letter * 300_000 for letter in "ab"}
    put_private_file(path, max(texts))
    is_over = threading.Event()

    def read() -> set[str]:
        seen = set()
        while not is_over.is_set():
            seen.add(path.read_text())
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for _ in range(20):
                for text in texts:
                    put_private_file(path, text)
        finally:
            is_over.set()
        assert all(reader.result() <= texts for reader in readers)
    assert names(tmp_path) == ["file"]


def test_of_racing_creators_one_wins_and_all_read_its_text(tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def create(number: int) -> tuple[bool, str]:
        start.wait(timeout=10)
        is_ours = create_private_file(tmp_path / "file", str(number) * 100_000)
        return is_ours, (tmp_path / "file").read_text()[:1]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(create, range(8)))
    [winner] = [number for number, (is_ours, _) in enumerate(answers) if is_ours]
    assert {text for _, text in answers} == {str(winner)}
    assert names(tmp_path) == ["file"]


def test_a_lent_file_replaces_one_that_was_left_and_goes_with_the_block(tmp_path: Path) -> None:
    path, victim = tmp_path / "file", tmp_path / "victim"
    victim.write_text("untouched")
    path.symlink_to(victim)
    with pytest.raises(KeyError), lend_private_file(path, "1") as lent:
        assert (lent, path.read_text(), path.is_symlink()) == (path, "1", False)
        raise KeyError
    assert (names(tmp_path), victim.read_text()) == (["victim"], "untouched")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_can_be_made_for_somebody_else(tmp_path: Path) -> None:
    put_private_file(tmp_path / "put", "1", owner=(65534, 65533))
    with lend_private_file(tmp_path / "lent", "1", owner=(65534, 65533)):
        owners = {(path.stat().st_uid, path.stat().st_gid, mode(path)) for path in tmp_path.iterdir()}
    assert owners == {(65534, 65533, 0o600)}


# What goes wrong


@WRITES
def test_a_failed_write_leaves_nothing_but_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    (tmp_path / "kept").write_text("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for name in ("kept", "new") if write is put_private_file else ("new",):
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path / name, "1")
    assert (names(tmp_path), (tmp_path / "kept").read_text()) == (["kept"], "old")


@WRITES
def test_a_place_that_holds_no_file_is_an_error(tmp_path: Path, write: Write) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        write(tmp_path / "file" / "name", "1")
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "absent" / "name", "1")
    assert names(tmp_path) == ["file"]


def test_a_directory_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "name" / "below").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        put_private_file(tmp_path / "name", "1")
    assert not create_private_file(tmp_path / "name", "1")
    with pytest.raises(OSError, match="name"):
        lend(tmp_path / "name", "1")
    assert (names(tmp_path), names(tmp_path / "name")) == (["name"], ["below"])


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_only_a_file_system_without_the_call_may_not_sync_its_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    sync = os.fsync

    def fails(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(number, os.strerror(number))
        sync(fd)

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="Input/output") if number == errno.EIO else contextlib.nullcontext():
        assert create_private_file(tmp_path / "file", "1")
    assert (tmp_path / "file").read_text() == "1"
