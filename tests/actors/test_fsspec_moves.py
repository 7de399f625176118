"""Moves and deletions that must lose nothing."""

from typing import Any

import numpy as np
import pytest

import morphml_ray as mr
from morphml_ray.errors import ValidationError
from morphml_ray.integrations.fsspec import many_files
from morphml_ray.integrations.fsspec.filesystem import MorphmlFileSystem


@pytest.fixture
def files(near_store: mr.ArtifactStore) -> MorphmlFileSystem:
    """A file system over a store of the test's own."""
    found = MorphmlFileSystem("near", skip_instance_cache=True)
    found._found = near_store.channel.node_id, near_store
    return found


def held(files: MorphmlFileSystem) -> dict[str, bytes]:
    store = files.store
    return {key: store.download_bytes(key) for key in store.list_keys()}


def test_case_5_a_move_onto_itself_does_nothing(files: MorphmlFileSystem) -> None:
    files.pipe({"m/a": b"1", "m/b": b"2", "d/x": b"3", "d/y/z": b"4"})
    before = held(files)
    files.mv("morphml://m/a", "m/a")
    files.mv("m/a", "m/")
    files.mv("m/*", "m/")
    files.mv("d", "morphml://d", recursive=True)
    files.mv("d", "d/", recursive=True)
    assert held(files) == before


@pytest.mark.parametrize("dest", ["d/new", "morphml://d/y"])
def test_case_5_a_move_into_itself_is_an_error(files: MorphmlFileSystem, dest: str) -> None:
    files.pipe({"d/x": b"3", "d/y/z": b"4"})
    before = held(files)
    with pytest.raises(OSError, match="into itself"):
        files.mv("d", dest, recursive=True)
    assert held(files) == before


def test_case_5_nothing_is_deleted_before_its_copy_stands(
    files: MorphmlFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.pipe({f"d/{number}": b"%d" % number for number in range(4)})
    before = held(files)
    copy = MorphmlFileSystem.cp_file

    def break_off(self: MorphmlFileSystem, path1: str, path2: str) -> None:
        if path1.endswith("2"):
            raise ConnectionError("the server went")
        copy(self, path1, path2)

    with monkeypatch.context() as patched:
        patched.setattr(many_files, "copy_each", lambda _, pairs: ((pair, False) for pair in pairs))  # the batch failed
        patched.setattr(MorphmlFileSystem, "cp_file", break_off)
        with pytest.raises(ConnectionError):
            files.mv("d", "e", recursive=True)
    assert held(files).items() >= before.items()
    files.mv("d", "f", recursive=True)
    assert {key for key in held(files) if not key.startswith("e/")} == {"f/0", "f/1", "f/2", "f/3"}
    with pytest.raises(OSError, match="moved too"):
        files.mv(["f/0", "f/1"], ["f/1", "g"])


@pytest.mark.parametrize(("sources", "dest"), [(["a/x", "b/x"], "c/"), (["a/x", "b/x"], ["c", "c"])])
def test_case_5_two_that_would_move_onto_one_stay(files: MorphmlFileSystem, sources: list[str], dest: Any) -> None:
    files.pipe({"a/x": b"1", "b/x": b"2"})
    with pytest.raises(OSError, match="onto one"):
        files.mv(sources, dest)
    assert held(files) == {"a/x": b"1", "b/x": b"2"}


def test_case_5_a_path_that_exists_is_no_pattern(files: MorphmlFileSystem) -> None:
    files.pipe({"run[1]/a": b"1", "run1/a": b"2", "file*": b"3", "file1": b"4"})
    files.rm("run[1]", recursive=True)
    files.rm("file*")
    assert set(held(files)) == {"run1/a", "file1"}
    files.rm("run[1]", recursive=True)  # now it is a pattern, of run1
    assert set(held(files)) == {"file1"}


def test_case_6_addresses_of_objects_are_no_data(files: MorphmlFileSystem) -> None:
    objects: Any = np.array(["conv", "pool"], dtype=object)
    structured: Any = np.zeros(2, dtype=[("LOSS", "O"), ("n", "i4")])
    for data in (objects, structured):
        with pytest.raises(ValidationError, match="Python objects"):
            files.store.upload_bytes(data, "k")
        with pytest.raises(ValidationError, match="Python objects"), files.open("k", "wb") as file:
            file.write(data)
    numbers: Any = np.zeros(2, dtype=[("LOSS", "f4"), ("O", "i4")])
    files.store.upload_bytes(numbers, "k")
    assert held(files) == {"k": bytes(16)}
