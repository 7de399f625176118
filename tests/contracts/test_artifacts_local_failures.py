"""What comes out when the file system refuses, or is full."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from morphml_ray.artifacts.local import LocalArtifactBackend
from morphml_ray.config import BackendUrl
from morphml_ray.errors import BackendUnavailable, ConfigurationError, MorphMLRayError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> Iterator[LocalArtifactBackend]:
    backend = LocalArtifactBackend(BackendUrl(f"file://{root}"))
    with closing(backend):
        backend.open()
        yield backend


@pytest.mark.parametrize(("number", "error"), [(errno.EACCES, ConfigurationError), (errno.EIO, BackendUnavailable)])
def test_lesson_25_a_refusal_is_no_false(
    store: LocalArtifactBackend, monkeypatch: pytest.MonkeyPatch, number: int, error: type[MorphMLRayError]
) -> None:
    store.put("a/b", b"1")

    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    calls: list[Callable[[str], Any]] = [store.exists, store.head, store.get, lambda key: list(store.list(key))]
    with monkeypatch.context() as refusing:
        refusing.setattr("os.open", refuse)
        for call in calls:
            with pytest.raises(error):
                call("a/b")
    assert store.exists("a/b")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_directory_that_cannot_be_written_is_a_configuration_error(store: LocalArtifactBackend, root: Path) -> None:
    store.put("a/b", b"1")
    (root / "a+").chmod(0o500)
    try:
        with pytest.raises(ConfigurationError, match="this user may not use it"):
            store.put("a/c", b"1")
    finally:
        (root / "a+").chmod(0o700)


def refuse_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("function", ["pwrite", "fsync", "ftruncate"])
@pytest.mark.parametrize("way", ["put", "put_file", "finish_upload", "copy"])
def test_a_full_disk_changes_nothing(
    store: LocalArtifactBackend, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, way: str
) -> None:
    store.put("key", b"old")
    store.put("source", b"new")
    (tmp_path / "file").write_bytes(b"new")
    upload = store.begin_upload("key")
    store.upload_chunk(upload, 0, b"new")
    calls: dict[str, Callable[[], Any]] = {
        "put": lambda: store.put("key", b"new"),
        "put_file": lambda: store.put_file("key", tmp_path / "file"),
        "finish_upload": lambda: store.finish_upload(upload),
        "copy": lambda: store.copy("source", "key"),
    }
    with monkeypatch.context() as full:
        full.setattr(f"os.{function}", refuse_space)
        with pytest.raises(BackendUnavailable, match="the disk is full"):
            calls[way]()
        assert store.get("key") == b"old"
    calls[way]()
    assert store.get("key") == b"new"
    store.abort_upload(upload)
    assert [*(root / "%staging").iterdir()] == []


@pytest.mark.parametrize("function", ["pwrite", "fsync"])
def test_a_full_disk_keeps_the_file_that_a_download_replaces(
    store: LocalArtifactBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    store.put("key", b"new")
    target = tmp_path / "below" / "target"
    target.parent.mkdir()
    target.write_bytes(b"old")
    with monkeypatch.context() as full:
        full.setattr(f"os.{function}", refuse_space)
        with pytest.raises(OSError, match="No space left"):
            store.get_file("key", target)
    assert [*target.parent.iterdir()] == [target]
    assert target.read_bytes() == b"old"
    store.get_file("key", target)
    assert target.read_bytes() == b"new"
