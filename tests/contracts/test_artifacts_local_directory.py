"""What a directory does that a bucket does not: links, damage, leftovers, several processes."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from morphml_ray.artifacts.local import LocalArtifactBackend
from morphml_ray.artifacts.local.staging import Staging
from morphml_ray.config import BackendUrl
from morphml_ray.errors import ConfigurationError, CorruptDataError, MorphMLRayError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> Iterator[LocalArtifactBackend]:
    backend = LocalArtifactBackend(BackendUrl(f"file://{root}"))
    with closing(backend):
        backend.open()
        yield backend


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


# Links


def test_no_key_follows_a_link_out_of_the_root(store: LocalArtifactBackend, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    store.put("here/key", b"1")
    (root / "folder+").symlink_to(outside)
    (root / "link").symlink_to(outside / "file")
    (root / "here+" / "sub+").symlink_to(outside)
    calls: list[Callable[[], Any]] = [
        lambda: store.get("folder/file"),
        lambda: store.head("here/sub/file"),
        lambda: store.put("folder/new", b"1"),
        lambda: store.put("here/sub/new", b"1", if_absent=True),
        lambda: store.delete("folder/file"),
        lambda: store.get("link"),
        lambda: list(store.list("folder/")),
        lambda: store.delete_prefix("folder"),
        lambda: store.copy("here/key", "folder/new"),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match="symbolic link"):
            call()
    assert [info.key for info in store.list()] == ["here/key"]
    assert store.delete_prefix("here") == 1
    # A write replaces a link, it does not go through it.
    store.put("link", b"2")
    assert store.get("link") == b"2"
    assert files_below(outside) == ["file"]
    assert (outside / "file").read_text() == "mine"


def test_what_is_no_object_is_not_touched(store: LocalArtifactBackend, root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "notes").mkdir()
    (root / "notes" / "todo").write_text("mine")
    (root / "bad%zz").write_text("mine")
    (root / "bad%2Fslash").write_text("mine")
    for name in ("pipe", "notes"):
        with pytest.raises(ConfigurationError, match=r"(?i)directory stands"):
            store.get(name)
    assert [info.key for info in store.list()] == []
    assert store.delete_prefix("notes/") == 0
    with pytest.raises(ConfigurationError, match="a directory stands"):
        store.delete_prefix("notes")
    assert files_below(root) == ["bad%2Fslash", "bad%zz", "notes/todo", "pipe"]


# Damage


@pytest.mark.parametrize("left", [0, 1, 10, 15, 100, -1, -17])
def test_a_cut_off_file_is_damage(store: LocalArtifactBackend, root: Path, left: int, tmp_path: Path) -> None:
    store.put("key", bytes(200), {"a": "b" * 2000})
    file = root / "key"
    os.truncate(file, left if left >= 0 else file.stat().st_size + left)
    calls: list[Callable[[], Any]] = [
        lambda: store.get("key"),
        lambda: store.get("key", 0, 1),
        lambda: store.head("key"),
        lambda: store.exists("key"),
        lambda: store.get_file("key", tmp_path / "file"),
        lambda: store.copy("key", "copy"),
    ]
    for call in calls:
        with pytest.raises(CorruptDataError, match="key is damaged"):
            call()
    assert [info.key for info in store.list()] == ["key"]
    assert store.delete("key") is True


def test_damage_is_not_copied(store: LocalArtifactBackend, root: Path) -> None:
    store.put("key", b"precious")
    with (root / "key").open("r+b") as file:
        file.write(b"P")
    with pytest.raises(CorruptDataError, match="damaged"):
        store.copy("key", "copy")
    assert not store.exists("copy")


def test_a_flipped_byte_in_the_metadata_is_damage(store: LocalArtifactBackend, root: Path) -> None:
    store.put("key", b"data", {"name": "value"})
    content = (root / "key").read_bytes()
    (root / "key").write_bytes(content.replace(b"value", b"Value"))
    with pytest.raises(CorruptDataError, match="damaged"):
        store.head("key")


# Processes

WRITER = """
import sys
from morphml_ray.artifacts.local import LocalArtifactBackend
from morphml_ray.config import BackendUrl
store = LocalArtifactBackend(BackendUrl(sys.argv[1]))
store.open()
upload = store.begin_upload("unfinished")
store.upload_chunk(upload, 0, b"1")
print("ready", flush=True)
for turn in range(40):
    store.put(f"shared/{turn}", sys.argv[2].encode() * 1000)
    store.delete_prefix("shared/1")
sys.stdin.read()
"""


def test_processes_share_a_directory_and_what_the_dead_leave_is_freed(root: Path) -> None:
    url = f"file://{root}"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for name in "ab"
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
        store = LocalArtifactBackend(BackendUrl(url))
        with closing(store):
            store.open()
            # Their uploads are alive: nobody else frees them.
            assert store.purge_uploads(0) == 0
            for writer in writers:
                writer.kill()
                writer.wait()
            assert store.purge_uploads(3600) >= 2
            for info in store.list():
                assert store.get(info.key) in (b"a" * 1000, b"b" * 1000)
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert list((root / "%staging").iterdir()) == []


def test_opening_frees_what_crashed_writers_left(root: Path) -> None:
    (root / "%staging").mkdir(parents=True)
    (root / "%staging" / "0123").write_bytes(b"half an object")
    with closing(LocalArtifactBackend(BackendUrl(f"file://{root}"))) as store:
        store.open()
        assert list(store.list()) == []
        assert list((root / "%staging").iterdir()) == []


def test_empty_directories_go_with_their_last_object(store: LocalArtifactBackend, root: Path) -> None:
    store.put("a/b/c/d", b"1")
    store.put("a/x", b"2")
    store.delete("a/b/c/d")
    assert files_below(root) == ["a+/x"]
    assert not (root / "a+" / "b+").exists()
    store.delete("a/x")
    assert [path.name for path in root.iterdir()] == ["%staging"]


# File systems


def test_names_are_kept_apart_where_upper_and_lower_case_are_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Staging, "is_folding_case", lambda _: True)
    keys = ["Model", "model", "MODEL/é", "model/e\u0301", "x" * 300 + "/Y", "a+/B+"]
    with closing(LocalArtifactBackend(BackendUrl(f"file://{root}"))) as store:
        store.open()
        for key in keys:
            store.put(key, key.encode())
        assert [info.key for info in store.list()] == sorted(keys, key=str.encode)
        assert [store.get(key) for key in keys] == [key.encode() for key in keys]
        names = [name for path in root.rglob("*") for name in [path.name]]
        assert all(name == name.lower() or "%" in name for name in names)
        assert len({name.lower() for name in files_below(root)}) == len(keys)


def test_a_root_that_cannot_be_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="MORPHML_ARTIFACTS_URL"):
        LocalArtifactBackend(BackendUrl(f"file://{tmp_path}/file/below")).open()


def test_a_directory_has_no_presigned_urls(store: LocalArtifactBackend) -> None:
    with pytest.raises(ConfigurationError, match="presigned URLs are not supported"):
        store.presign("key", 60)


def test_a_reference_leads_to_the_directory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_URL", f"file://{root}")
    with closing(LocalArtifactBackend(BackendUrl("env:TEST_URL"))) as store:
        store.open()
        store.put("key", b"1")
    assert files_below(root) == ["key"]
    monkeypatch.setenv("TEST_URL", "s3://bucket")
    with pytest.raises(MorphMLRayError, match="env:TEST_URL"):
        LocalArtifactBackend(BackendUrl("env:TEST_URL")).open()
