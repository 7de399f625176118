"""What downloads to a file leave beside it: of writers that are killed, and of several at once."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from morphml_ray.artifacts.file_io import remove_abandoned, replaced_target
from morphml_ray.errors import ConflictError

WRITER = """
import os, sys
from morphml_ray.artifacts.file_io import replaced_target
with replaced_target(sys.argv[1], sync=False) as fd:
    os.write(fd, b"by another process")
    print("ready", flush=True)
    sys.stdin.read()
"""

Start = Callable[[Path], "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that starts a process that has written half of a file when it returns."""
    with ExitStack() as stack:

        def one(target: Path) -> "subprocess.Popen[bytes]":
            command = [sys.executable, "-c", WRITER, str(target)]
            writer = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            stack.callback(writer.kill)
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            return writer

        yield one


def write(target: Path, content: bytes) -> None:
    with replaced_target(target, sync=False) as fd:
        os.write(fd, content)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_killed_downloads_left_goes_with_the_next_one(tmp_path: Path, start: Start) -> None:
    target, other = tmp_path / "target", tmp_path / "other"
    killed = [start(target), start(target)]
    living = start(other)
    assert len(names_in(tmp_path)) == 3
    write(target, b"mine")
    assert len(names_in(tmp_path)) == 4
    for writer in killed:
        writer.kill()
        writer.wait()
    write(target, b"mine again")
    part, name = names_in(tmp_path)
    assert (part.startswith(".morphml-"), part.endswith(".part"), name) == (True, True, "target")
    living.communicate()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "target": b"mine again",
        "other": b"by another process",
    }


def no_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def begin(target: Path) -> tuple[ExitStack, int]:
    stack = ExitStack()
    return stack, stack.enter_context(replaced_target(target, sync=False))


@pytest.mark.parametrize("flock", [fcntl.flock, no_locks])
@pytest.mark.parametrize("last", [0, 1])
def test_of_two_downloads_at_once_the_last_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int, flock: Callable[[int, int], None]
) -> None:
    monkeypatch.setattr(fcntl, "flock", flock)
    target = tmp_path / "target"
    both = [begin(target), begin(target)]
    for number in (1 - last, last):
        stack, fd = both[number]
        os.write(fd, b"number %d" % number)
        stack.close()
        assert target.read_bytes() == b"number %d" % number
    assert names_in(tmp_path) == ["target"]


def test_a_host_that_sees_no_locks_of_another_replaces_nothing_with_half_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    target = tmp_path / "target"
    (first, first_fd), (second, second_fd) = begin(target), begin(target)
    os.write(first_fd, b"first")
    os.write(second_fd, b"se")
    with pytest.raises(ConflictError, match="another host"):
        first.close()
    assert not target.exists()
    os.write(second_fd, b"cond")
    second.close()
    assert target.read_bytes() == b"second"
    assert names_in(tmp_path) == ["target"]


def test_what_changes_its_name_meanwhile_is_not_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part, target = tmp_path / "part", tmp_path / "target"
    part.write_text("complete")
    flock = fcntl.flock

    def finish(fd: int, how: int) -> None:
        part.replace(target)
        part.write_text("of the next one")
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", finish)
    assert not remove_abandoned(part)
    assert (part.read_text(), target.read_text()) == ("of the next one", "complete")


def test_a_file_that_was_removed_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def clean(fd: int, how: int) -> None:
        monkeypatch.undo()
        flock(fd, how)
        for path in tmp_path.iterdir():
            path.unlink()

    monkeypatch.setattr(fcntl, "flock", clean)
    write(tmp_path / "target", b"mine")
    assert (names_in(tmp_path), (tmp_path / "target").read_bytes()) == (["target"], b"mine")
