"""Case 2: the directory of the artifacts is moved, deleted or replaced while it is in use."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from morphml_ray.artifacts.checks import MIN_CHUNK_BYTES
from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.artifacts.local import LocalArtifactBackend
from morphml_ray.config import BackendUrl
from morphml_ray.errors import ConflictError, CorruptDataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "above" / "root"


@pytest.fixture
def store(root: Path) -> Iterator[LocalArtifactBackend]:
    backend = LocalArtifactBackend(BackendUrl(f"file://{root}"))
    with closing(backend):
        backend.open()
        backend.put("run/key", b"1")
        yield backend


def every_operation(store: ArtifactBackend, file: Path) -> list[Callable[[], Any]]:
    file.write_bytes(b"1")
    upload = store.begin_upload("chunks", chunk_bytes=MIN_CHUNK_BYTES)
    store.upload_chunk(upload, 0, b"1")
    return [
        lambda: store.put("new", b"1"),
        lambda: store.put("new", b"1", if_absent=True),
        lambda: store.put_file("new", file),
        lambda: store.copy("run/key", "new"),
        lambda: store.begin_upload("new"),
        lambda: store.upload_chunk(upload, 0, b"1"),
        lambda: store.finish_upload(upload),
        lambda: store.delete("run/key"),
        lambda: store.delete_prefix("run"),
        lambda: store.get("run/key"),
        lambda: store.get_into("run/key", bytearray(1)),
        lambda: store.get_file("run/key", file),
        lambda: store.head("run/key"),
        lambda: store.exists("run/key"),
        lambda: store.exists("missing"),
        lambda: list(store.list()),
        store.list_page,
        lambda: store.total_size("run/"),
    ]


@pytest.mark.parametrize("gone", ["deleted", "moved", "above"])
def test_case_2_a_directory_that_is_gone_is_told_of_by_all(
    store: LocalArtifactBackend, root: Path, tmp_path: Path, gone: str
) -> None:
    operations = every_operation(store, tmp_path / "file")
    if gone == "deleted":
        shutil.rmtree(root)
    else:
        (root if gone == "moved" else root.parent).rename(tmp_path / "elsewhere")
    for operation in operations:
        with pytest.raises(CorruptDataError, match="moved or deleted while it was in use; nothing is read or stored"):
            operation()
    assert not root.exists()
    assert [path.name for path in tmp_path.glob("elsewhere/**/new")] == []
    if gone == "moved":
        (tmp_path / "elsewhere").rename(root)
        assert store.get("run/key") == b"1"
        store.put("new", b"2")
        assert (root / "new").exists()


def test_case_2_another_directory_in_its_place_is_not_used(
    store: LocalArtifactBackend, root: Path, tmp_path: Path
) -> None:
    operations = every_operation(store, tmp_path / "file")
    shutil.copytree(root, tmp_path / "backup")
    root.rename(tmp_path / "old")
    (tmp_path / "backup").rename(root)
    for operation in operations:
        with pytest.raises(ConflictError, match="replaced by another directory while it was in use; nothing is"):
            operation()
    assert [path for folder in (root, tmp_path / "old") for path in folder.rglob("new")] == []


def test_case_2_a_directory_that_is_moved_during_a_write_acknowledges_nothing(
    store: LocalArtifactBackend, root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(3 * 1024 * 1024))

    def move(_: int) -> None:
        if root.exists():
            root.rename(tmp_path / "elsewhere")

    with pytest.raises(CorruptDataError, match="moved or deleted"):
        store.put_file("new", file, progress=move)
    assert not (tmp_path / "elsewhere/new").exists()
    assert list((tmp_path / "elsewhere/%staging").iterdir()) == []


def test_case_2_a_directory_that_was_emptied_takes_objects(store: LocalArtifactBackend, root: Path) -> None:
    for path in root.iterdir():
        shutil.rmtree(path)
    assert store.head("run/key") is None
    store.put("new", b"1")
    store.put_file("also", root / "new")
    assert [info.key for info in store.list()] == ["also", "new"]
    assert store.purge_uploads(0) == 0
