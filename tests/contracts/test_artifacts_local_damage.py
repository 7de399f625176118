"""Case 62: one bad file in a directory of artifacts hides no other, and is named."""

import errno
import json
import logging
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from morphml_ray.artifacts.crc32 import crc32
from morphml_ray.artifacts.local import LocalArtifactBackend, tree
from morphml_ray.config import BackendUrl
from morphml_ray.errors import BackendUnavailable, ConfigurationError, CorruptDataError

OURS = {"metadata": {"a": "b"}, "content_type": "text/plain", "crc32": 0, "write_id": "w"}
# Valid by mark, length and checksum, and yet not ours.
STRANGE = {
    "list": b"[]",
    "no-json": b"{",
    "deep": b"[" * 60_000,
    "no-fields": b"{}",
    **{
        f"wrong-{name}": json.dumps(OURS | {name: wrong}).encode()
        for name, wrong in {"metadata": [1], "content_type": 3, "crc32": "x", "write_id": None}.items()
    },
    "metadata-of-numbers": json.dumps(OURS | {"metadata": {"a": 1}}).encode(),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalArtifactBackend]:
    backend = LocalArtifactBackend(BackendUrl(f"file://{tmp_path}/root"))
    with closing(backend):
        backend.open()
        for name in ("a", "bad", "c"):
            backend.put(f"run/{name}", b"12345", {"m": "v"})
        yield backend


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return tmp_path / "root/run+/bad"


def with_trailer(text: bytes) -> bytes:
    return b"data" + text + struct.pack(">8sII", b"mrayobj1", len(text), crc32(text))


def check_others_are_listed(store: LocalArtifactBackend, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert [info.key for info in store.list("run/")] == ["run/a", "run/bad", "run/c"]
            assert [info.key for info in store.list_page().objects] == ["run/a", "run/bad", "run/c"]
        assert store.total_size("run/") >= 10
    assert [record.message.count("run/bad") for record in caplog.records] == [1]


@pytest.mark.parametrize("content", STRANGE.values(), ids=STRANGE)
def test_case_62_a_file_whose_metadata_are_not_ours(
    store: LocalArtifactBackend, bad: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    bad.write_bytes(with_trailer(content))
    check_others_are_listed(store, caplog)
    reads: list[Callable[[], Any]] = [
        lambda: store.get("run/bad"),
        lambda: store.get("run/bad", 0, 1),
        lambda: store.head("run/bad"),
        lambda: store.exists("run/bad"),
        lambda: store.copy("run/bad", "copy"),
    ]
    for read in reads:
        with pytest.raises(CorruptDataError, match="run/bad is damaged"):
            read()
    assert store.delete_prefix("run") == 3


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", bytes(5000)], ids=["empty", "foreign", "zeros"])
def test_case_62_a_file_that_is_none_of_ours(
    store: LocalArtifactBackend, bad: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    bad.write_bytes(content)
    check_others_are_listed(store, caplog)
    with pytest.raises(CorruptDataError, match="run/bad is damaged"):
        store.get("run/bad")
    store.put("run/bad", b"new")
    assert store.get("run/bad") == b"new"


@pytest.mark.parametrize(
    ("number", "error"), [(errno.EACCES, ConfigurationError), (errno.EIO, BackendUnavailable)], ids=["closed", "sector"]
)
def test_case_62_a_file_that_cannot_be_opened(
    store: LocalArtifactBackend,
    number: int,
    error: type[Exception],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Root may read everything, so the operating system's answer is given by hand."""
    opened = tree.open_regular

    def refuse(folder_fd: int, name: str) -> int:
        if name == "bad":
            raise OSError(number, os.strerror(number), name)
        return opened(folder_fd, name)

    monkeypatch.setattr(tree, "open_regular", refuse)
    check_others_are_listed(store, caplog)
    with pytest.raises(error, match="run/bad"):
        store.get("run/bad")
    assert store.delete_prefix("run") == 3


def test_case_62_a_directory_or_a_pipe_in_its_place(store: LocalArtifactBackend, bad: Path) -> None:
    makers: list[Callable[[], None]] = [bad.mkdir, lambda: os.mkfifo(bad)]
    for make in makers:
        bad.rmdir() if bad.is_dir() else bad.unlink()
        make()
        assert [info.key for info in store.list()] == ["run/a", "run/c"]
        with pytest.raises(ConfigurationError, match=r"run/bad.*a directory stands where an object must be"):
            store.get("run/bad")
    # A file where the directory of keys must be.
    bad.with_name("deep+").write_bytes(b"")
    assert [info.key for info in store.list()] == ["run/a", "run/c"]
    with pytest.raises(ConfigurationError, match=r"run/deep/x: a file .*deep\+"):
        store.put("run/deep/x", b"")


def test_case_62_a_time_that_no_calendar_has(store: LocalArtifactBackend, bad: Path) -> None:
    os.utime(bad, (0, 2**33 * 100))
    assert len(list(store.list())) == 3
    assert store.get("run/bad") == b"12345"


def test_case_62_a_directory_that_cannot_be_read_is_no_empty_one(
    store: LocalArtifactBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it holds nobody knows: a listing without it would be wrong."""
    entered = tree._enter

    def refuse(fd: int, name: str, *, create: bool) -> int:
        if name == "run+":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        return entered(fd, name, create=create)

    monkeypatch.setattr(tree, "_enter", refuse)
    with pytest.raises(ConfigurationError, match=r"may not use it \(run\+\)"):
        list(store.list())
