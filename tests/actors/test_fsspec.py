"""The artifacts as ``morphml://``: fsspec's own tests, pandas, and Ray tasks."""

import io
import os
import pickle
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]  # fsspec carries no type information
import pandas as pd
import pytest
import ray
from fsspec.callbacks import Callback  # type: ignore[import-untyped]  # the same
from fsspec.tests import abstract  # type: ignore[import-untyped]  # the same

import morphml_ray as mr
from morphml_ray.integrations.fsspec import open_file
from morphml_ray.integrations.fsspec.filesystem import MorphmlFileSystem
from morphml_ray.rpc.deploy import stop_actor


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory of the storage."""
    return str(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def place(cluster: None, root: str) -> Iterator[str]:
    """The Ray namespace of a storage for all tests here: each of fsspec's makes a few calls only."""
    del cluster
    namespace = f"files_{secrets.token_hex(4)}"
    storage = mr.connect(root=root, namespace=namespace)
    yield namespace
    MorphmlFileSystem.clear_instance_cache()
    storage.shutdown()


@pytest.fixture
def files(place: str) -> Iterator[MorphmlFileSystem]:
    """The file system; a test leaves no files."""
    found = fsspec.filesystem("morphml", namespace=place)
    assert isinstance(found, MorphmlFileSystem)
    yield found
    for name in found.find(""):
        found.rm_file(name)


@pytest.fixture
def near_files(near_store: mr.ArtifactStore) -> MorphmlFileSystem:
    """The file system over an actor in this process."""
    found = MorphmlFileSystem("near", skip_instance_cache=True)
    found._found = near_store.channel.node_id, near_store
    return found


class MorphmlFixtures(abstract.AbstractFixtures):  # type: ignore[misc]  # fsspec carries no type information
    """What fsspec's tests need to know."""

    @pytest.fixture
    def fs(self, request: pytest.FixtureRequest, cluster: None) -> Any:
        del cluster
        # Of each way to write a glob fsspec tests four variants, 75 calls: over Ray they take longer than all the rest.
        is_glob_case = "glob_edge_cases" in request.node.name
        return request.getfixturevalue("near_files" if is_glob_case else "files")

    @pytest.fixture
    def fs_path(self) -> str:
        return "shared/tests"

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestCopy(abstract.AbstractCopyTests, MorphmlFixtures):  # type: ignore[misc]  # the same
    """Copying inside the store."""


class TestGet(abstract.AbstractGetTests, MorphmlFixtures):  # type: ignore[misc]  # the same
    """From the store to local files."""


class TestPut(abstract.AbstractPutTests, MorphmlFixtures):  # type: ignore[misc]  # the same
    """From local files to the store."""


class TestPipe(abstract.AbstractPipeTests, MorphmlFixtures):  # type: ignore[misc]  # the same
    """Values."""


class TestOpen(abstract.AbstractOpenTests, MorphmlFixtures):  # type: ignore[misc]  # the same
    """Open files."""


def test_what_is_stored_is_seen_as_a_tree(files: MorphmlFileSystem) -> None:
    files.pipe({"a/b/c.txt": b"123", "a/d.txt": b"12345", "e.txt": b"1"})
    assert files.ls("", detail=False) == ["a", "e.txt"]
    assert [(entry["name"], entry["type"]) for entry in files.ls("morphml://a/")] == [
        ("a/b", "directory"),
        ("a/d.txt", "file"),
    ]
    assert files.find("") == ["a/b/c.txt", "a/d.txt", "e.txt"]
    assert files.find("a", maxdepth=1, withdirs=True) == ["a", "a/b", "a/d.txt"]
    assert files.glob("a/**/*.txt") == ["a/b/c.txt", "a/d.txt"]
    assert files.du("a") == 8
    assert [name for name, _, _ in files.walk("a")] == ["a", "a/b"]
    assert files.info("a/d.txt")["size"] == 5
    assert files.modified("a/d.txt").tzinfo is not None
    assert files.exists("a/b/")
    assert not files.exists("a//b")


def test_ranges_are_those_of_slices(files: MorphmlFileSystem) -> None:
    data = bytes(range(100))
    files.pipe_file("x", data)
    for start, end in [(None, None), (10, 20), (-10, None), (None, -90), (-20, -10), (90, 200), (20, 10), (0, 0)]:
        assert files.cat_file("x", start, end) == data[start:end]
    with files.open("x", "rb", block_size=16) as file:
        file.seek(40)
        assert file.read(5) == data[40:45]
        file.seek(-3, io.SEEK_END)
        assert file.read() == data[-3:]


def test_many_are_read_and_written_at_once(files: MorphmlFileSystem) -> None:
    many = {f"many/{number}/x": str(number).encode() for number in range(40)}
    files.pipe(many)
    assert files.cat("many", recursive=True) == many
    assert files.cat(["many/1/x", "gone"], on_error="omit") == {"many/1/x": b"1"}
    assert isinstance(files.cat(["many/1/x", "gone"], on_error="return")["gone"], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        files.cat(["many/1/x", "gone"])


def test_a_large_file_is_spilled_and_streamed(files: MorphmlFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_file, "SPILL_BYTES", 1000)
    data = os.urandom(10_500)
    with files.open("large", "wb") as file:
        for offset in range(0, len(data), 700):
            file.write(data[offset : offset + 700])
        assert not files.exists("large")
    assert files.cat("large") == data


def test_a_file_appears_in_whole_or_not_at_all(files: MorphmlFileSystem) -> None:
    files.pipe_file("x", b"before")
    with pytest.raises(ZeroDivisionError), files.open("x", "wb") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert files.cat("x") == b"before"
    with pytest.raises(ZeroDivisionError), files.transaction:
        files.pipe_file("x", b"in a transaction")
        raise ZeroDivisionError
    assert files.cat("x") == b"before"
    with files.transaction:
        files.pipe_file("x", b"in a transaction")
        assert files.cat("x") == b"before"
    assert files.cat("x") == b"in a transaction"


def test_two_exclusive_writers_cannot_both_win(files: MorphmlFileSystem) -> None:
    first, second = files.open("x", "xb"), files.open("x", "xb")
    first.write(b"first")
    second.write(b"second")
    first.close()
    with pytest.raises(FileExistsError):
        second.close()
    assert files.cat("x") == b"first"


@pytest.mark.parametrize("mode", ["ab", "r+b", "a"])
def test_nothing_is_changed_in_place(files: MorphmlFileSystem, mode: str) -> None:
    with pytest.raises(io.UnsupportedOperation, match="written in whole"):
        files.open("x", mode)


def test_errors_are_pythons_own(files: MorphmlFileSystem) -> None:
    files.pipe_file("folder/x", b"1")
    for ask in (files.cat_file, files.info, files.ls, files.open, files.rm, files.rm_file, files.modified):
        with pytest.raises(FileNotFoundError):
            ask("gone")
    for ask in (files.open, files.rm, files.modified):
        with pytest.raises(IsADirectoryError):
            ask("folder")
    with pytest.raises(OSError, match="not empty"):
        files.rmdir("folder")
    with pytest.raises(mr.ValidationError, match="everything"):
        files.rm("", recursive=True)
    with pytest.raises(mr.ValidationError):
        files.open("../x", "wb")
    assert files.find("") == ["folder/x"]


@pytest.mark.parametrize("broken", ["get_metadata", "list_objects"])
def test_lesson_25_an_outage_is_no_false(
    files: MorphmlFileSystem, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def away(*_: object) -> None:
        raise mr.BackendUnavailable("the store is unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(mr.ArtifactStore, broken, away)
        for ask in (files.exists, files.isfile, files.isdir, files.info, files.ls, files.find, files.modified):
            with pytest.raises(mr.BackendUnavailable, match="unavailable"):
                ask("folder/missing")
    for see in (files.exists, files.isfile, files.isdir):
        assert see("folder/missing") is False


def test_moving_and_deleting_respect_the_border(files: MorphmlFileSystem) -> None:
    files.pipe({"exp1/a": b"1", "exp1/b/c": b"2", "exp10/a": b"3"})
    files.mv("exp1", "moved", recursive=True)
    assert files.find("") == ["exp10/a", "moved/a", "moved/b/c"]
    files.rm("moved/", recursive=True)
    assert files.find("") == ["exp10/a"]


def test_progress_is_told(files: MorphmlFileSystem, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 5000)
    up, down = Callback(), Callback()
    files.put_file(str(source), "x", callback=up)
    files.get_file("x", str(tmp_path / "copy"), callback=down)
    assert (up.size, up.value, down.value) == (5000, 5000, 5000)
    assert (tmp_path / "copy").read_bytes() == b"x" * 5000


def test_pandas_reads_and_writes_urls(place: str, files: MorphmlFileSystem) -> None:
    table = pd.DataFrame({"accuracy": [0.5, 0.75], "name": ["ä", "b"]})
    for url in ("morphml://tables/plain.csv", "morphml://tables/packed.csv.gz"):
        table.to_csv(url, index=False, storage_options={"namespace": place})
        pd.testing.assert_frame_equal(pd.read_csv(url, storage_options={"namespace": place}), table)
    assert files.ls("tables", detail=False) == ["tables/packed.csv.gz", "tables/plain.csv"]


def test_a_task_reads_and_writes_by_url_and_by_a_pickled_file_system(place: str, files: MorphmlFileSystem) -> None:
    files.pipe_file("in.csv", b"a,b\n1,2\n3,4\n")

    @ray.remote(num_cpus=0)
    def work(url: str, passed: MorphmlFileSystem, namespace: str) -> int:
        table = pd.read_csv(url, storage_options={"namespace": namespace})
        with passed.open("out.txt", "w") as file:
            file.write("from the task")
        return int(table["b"].sum())

    assert ray.get(work.remote("morphml://in.csv", files, place)) == 6
    assert files.cat("out.txt") == b"from the task"
    assert pickle.loads(pickle.dumps(files)).fsid == files.fsid  # noqa: S301 - our own, from the line itself


def test_a_storage_started_anew_is_found(files: MorphmlFileSystem, place: str, root: str) -> None:
    files.pipe_file("x", b"1")
    for handle in files.store.actors.running().values():
        stop_actor(handle, 10)
    with pytest.raises(mr.NotFoundError, match="no storage"):
        files.cat("x")
    mr.connect(root=root, namespace=place)
    assert files.cat("x") == b"1"
    for handle in files.store.actors.running().values():
        stop_actor(handle, 10)
    mr.connect(root=root, namespace=place)
    assert files.cat("x") == b"1"


def test_where_no_storage_runs_none_is_started(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del place
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mr.NotFoundError, match="no storage 'other'"):
        MorphmlFileSystem("other", skip_instance_cache=True).exists("x")
    assert not list(tmp_path.iterdir())
