"""Files of users that become artifacts, and the other way round: in place, and in chunks."""

import dataclasses
import os
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import ray
from stores import MB, write_file

import morphml_ray as mr
from morphml_ray.artifacts.actor.file_proof import FileProof


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system of the caller's own: the actor finds none of its files."""
    look = FileProof.of

    def of(path: Path, *, is_written: bool = False) -> FileProof:
        return dataclasses.replace(look(path, is_written=is_written), inode=0)

    monkeypatch.setattr(FileProof, "of", of)


def test_files_are_read_and_written_in_place(
    store: mr.ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_file(tmp_path / "file", 20 * MB)
    monkeypatch.chdir(tmp_path)
    told: list[int] = []
    with mock.patch("morphml_ray.artifacts.file_transfers.upload_in_chunks", side_effect=AssertionError):
        assert store.upload_file("file", "a/file", {"a": "b"}, progress=told.append) == "a/file"
    assert told == sorted(set(told))
    assert told[-1] == len(data)
    told.clear()
    with mock.patch("morphml_ray.artifacts.file_transfers.download_in_chunks", side_effect=AssertionError):
        assert store.download_file("a/file", "new/copy", progress=told.append) == str(tmp_path / "new/copy")
    assert told[-1] == len(data)
    assert Path("new/copy").read_bytes() == data
    assert [path.name for path in Path("new").iterdir()] == ["copy"]
    assert ray.get(store.upload_file.remote("file", "b")) == "b"
    assert ray.get(store.download_file.remote("b", "new/copy")) == str(tmp_path / "new/copy")
    with pytest.raises(mr.ValidationError, match="progress"):
        store.upload_file.remote("file", "b", progress=told.append)


@pytest.mark.usefixtures("unseen")
@pytest.mark.parametrize("size_bytes", [0, 10, 8 * MB, 8 * MB + 1, 43 * MB])
def test_files_that_the_actor_does_not_see_travel_in_chunks(
    store: mr.ArtifactStore, tmp_path: Path, size_bytes: int
) -> None:
    data = write_file(tmp_path / "file", size_bytes)
    told: list[int] = []
    with mock.patch("morphml_ray.artifacts.file_transfers._watch", side_effect=AssertionError):
        assert store.upload_file(tmp_path / "file", "a", {"a": "ä"}, progress=told.append) == "a"
        assert told[-1:] == ([size_bytes] if size_bytes else [])
        assert len(told) == -(-size_bytes // (8 * MB))
        told.clear()
        assert store.download_file("a", tmp_path / "new/copy", progress=told.append) == str(tmp_path / "new/copy")
        assert told[-1:] == ([size_bytes] if size_bytes else [])
    assert (tmp_path / "new/copy").read_bytes() == data
    assert (store.get_metadata("a") or {})["metadata"] == {"a": "ä"}
    assert store.download_bytes("a") == data
    assert ray.get(store.upload_file.remote(tmp_path / "file", "b")) == "b"
    assert ray.get(store.download_file.remote("b", tmp_path / "copy")) == str(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    with pytest.raises(mr.NotFoundError):
        store.download_file("missing", tmp_path / "missing")
    with pytest.raises(mr.AlreadyExistsError):
        store.upload_file(tmp_path / "file", "a", if_absent=True)
    assert {path.name for path in tmp_path.iterdir()} - {"artifacts", "home"} == {"copy", "file", "new"}


@pytest.mark.usefixtures("unseen")
def test_a_file_that_changes_while_it_is_sent_is_refused(store: mr.ArtifactStore, tmp_path: Path) -> None:
    write_file(tmp_path / "file", 40 * MB)

    def change(_: int) -> None:
        with (tmp_path / "file").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"changed")

    with pytest.raises(mr.ConflictError, match="changed"):
        store.upload_file(tmp_path / "file", "a", progress=change)
    with pytest.raises(mr.ConflictError, match="cut off"):
        store.upload_file(tmp_path / "file", "a", progress=lambda _: os.truncate(tmp_path / "file", 10))
    assert not store.exists("a")


@pytest.mark.usefixtures("unseen")
def test_an_object_that_is_replaced_while_it_is_fetched_is_fetched_again(
    store: mr.ArtifactStore, tmp_path: Path
) -> None:
    old, new = (np.random.default_rng(seed).bytes(40 * MB) for seed in (1, 2))
    store.upload_bytes(old, "a")
    replaced: list[str] = []

    def replace(_: int) -> None:
        if not replaced:
            replaced.append(store.upload_bytes(new, "a"))

    store.download_file("a", tmp_path / "file", progress=replace)
    assert (tmp_path / "file").read_bytes() == new


def test_errors_of_files_are_pythons_own(local_store: mr.ArtifactStore, tmp_path: Path) -> None:
    local_store.upload_bytes(b"1", "a")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        local_store.download_file("a", tmp_path / "file" / "below")
    with pytest.raises(mr.ValidationError, match="regular file"):
        local_store.download_file("a", tmp_path)
    with pytest.raises(mr.ValidationError, match="regular file"):
        local_store.upload_file(tmp_path, "b")
    with pytest.raises(mr.ValidationError, match="path"):
        local_store.upload_file(5, "b")  # type: ignore[arg-type]  # that it is wrong is the point


def test_a_large_file_gets_a_bar(local_store: mr.ArtifactStore, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(200 * MB)
    with (
        mock.patch("morphml_ray.artifacts.file_transfers.POLL_S", 0.01),
        mock.patch("morphml_ray.artifacts.progress.tqdm_ray.tqdm") as bar,
    ):
        local_store.upload_file(tmp_path / "file", "a")
        local_store.download_file("a", tmp_path / "copy")
    assert [call.kwargs["total"] for call in bar.call_args_list] == [200 * MB] * 2
    assert sum(call.args[0] for call in bar.return_value.update.call_args_list) == 400 * MB
    assert bar.return_value.close.call_count == 2
