"""Many files of ``morphml://`` at once: few calls, and fsspec's own rules for what goes where."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]  # fsspec carries no type information
import numpy as np
import pytest
from fsspec.callbacks import Callback  # type: ignore[import-untyped]  # the same
from near_actor import NearChannel

import morphml_ray as mr
from morphml_ray.integrations.fsspec import bulk
from morphml_ray.integrations.fsspec.filesystem import MorphmlFileSystem
from morphml_ray.rpc.call import Call

COUNT = 150


@pytest.fixture
def files(near_store: mr.ArtifactStore) -> MorphmlFileSystem:
    """The file system over an actor in this process."""
    found = MorphmlFileSystem("near", skip_instance_cache=True)
    found._found = near_store.channel.node_id, near_store
    return found


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each method of the actor is called."""
    counted: Counter[str] = Counter()
    send = NearChannel._send

    def count(self: NearChannel, prepared: Call[Any], **options: Any) -> Any:
        counted[prepared.method] += 1
        return send(self, prepared, **options)

    monkeypatch.setattr(NearChannel, "_send", count)
    return counted


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory of small files."""
    for number in range(COUNT):
        path = tmp_path / "source" / str(number % 5) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(str(number).encode() * 10)
    return tmp_path / "source"


def held(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_case_23_many_small_files_take_few_calls(
    files: MorphmlFileSystem, calls: Counter[str], source: Path, tmp_path: Path
) -> None:
    files.put(str(source), "many", recursive=True)
    files.get("many", str(tmp_path / "fetched"), recursive=True)
    assert held(tmp_path / "fetched") == held(source)
    files.copy("many", "copied", recursive=True)
    files.mv("copied", "moved", recursive=True)
    assert {name.removeprefix("moved/"): files.cat_file(name) for name in files.find("moved")} == held(source)
    calls.clear()
    names = files.find("many")
    assert files.du("many") == sum(map(len, held(source).values()))
    assert files.cat_ranges(names, 1, 3) == [held(source)[name.removeprefix("many/")][1:3] for name in names]
    assert len(list(files.walk("many"))) == 6
    assert calls.total() < 15, calls


def test_case_23_a_put_a_get_and_a_copy_look_once(
    files: MorphmlFileSystem, calls: Counter[str], source: Path, tmp_path: Path
) -> None:
    files.put(str(source), "many", recursive=True)
    assert calls.total() < 10, calls
    calls.clear()
    files.get("many", str(tmp_path / "fetched"), recursive=True)
    assert calls.total() < 10, calls
    calls.clear()
    files.copy("many", "copied", recursive=True)
    assert calls.total() < 15, calls
    calls.clear()
    files.get("many/1/*", str(tmp_path / "some"))
    assert calls.total() < 10, calls


def test_a_directory_is_listed_without_what_is_below(files: MorphmlFileSystem, calls: Counter[str]) -> None:
    files.pipe({f"a/{number}/x": b"1" for number in range(20)} | {"a/y": b"2", "a/1": b"3"})
    assert files.ls("a", detail=False)[:3] == ["a/0", "a/1", "a/1"]
    assert [entry["type"] for entry in files.ls("a")[:3]] == ["directory", "file", "directory"]
    assert files.find("a", maxdepth=1) == ["a/1", "a/y"]
    assert calls["list_objects"] == 0


def test_each_file_that_fails_in_a_batch_is_named(files: MorphmlFileSystem, tmp_path: Path) -> None:
    files.pipe({"a": b"1", "c": b"3"})
    with pytest.raises(FileNotFoundError, match="b"):
        files.get(["a", "b", "c"], [str(tmp_path / "out" / name) for name in "abc"])
    assert held(tmp_path / "out") == {"a": b"1", "c": b"3"}
    with pytest.raises(FileNotFoundError, match="b"):
        files.copy(["a", "b"], ["x", "y"])
    files.copy(["a", "b"], ["x", "y"], on_error="ignore")
    assert files.cat(["x"]) == {"x": b"1"}
    found = files.cat_ranges(["a", "b", "c"], [0, 0, -1], [1, 1, None])
    assert [found[0], found[2], type(found[1])] == [b"1", b"3", FileNotFoundError]
    with pytest.raises(FileNotFoundError):
        files.cat_ranges(["b"], 0, 1, on_error="raise")
    with pytest.raises(ValueError, match=r"zip\(\)"):
        files.cat_ranges(["a"], [0, 1], [1, 2])


def test_large_ones_go_singly_and_all_are_told(
    files: MorphmlFileSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bulk, "FIRST_READ_BYTES", 100)
    contents = {f"{size:03}": bytes(size) for size in (0, 50, 99, 100, 101, 500)}
    for name, data in contents.items():
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    told: list[tuple[int, int]] = []
    files.put(str(tmp_path / "in"), "many", recursive=True, callback=Callback(hooks={"x": lambda *at: told.append(at)}))
    assert told[-1] == (7, 7)  # the directory too
    files.get("many", str(tmp_path / "out"), recursive=True)
    assert held(tmp_path / "out") == contents


@pytest.fixture(params=[1, 300, 10_000])
def opened(request: pytest.FixtureRequest, files: MorphmlFileSystem) -> Iterator[tuple[Any, bytes]]:
    """An open file whose ranges are that long at most, and what is in it."""
    data = np.random.default_rng(0).bytes(5_000)
    files.pipe_file("x", data)
    with files.open("x", "rb", block_size=request.param) as file:
        yield file, data


def test_case_24_what_is_read_ahead_is_what_is_there(opened: tuple[Any, bytes]) -> None:
    file, data = opened
    read = b""
    while part := file.read(700):
        read += part
    assert read == data
    for start, length in [(10, 5), (0, 1), (4_990, 100), (15, 3_000), (3_015, 1_000), (4_015, 985), (5_000, 1)]:
        file.seek(start)
        assert file.read(length) == data[start : start + length]


def test_case_24_a_file_read_through_is_asked_for_ahead(
    files: MorphmlFileSystem, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    begin = MorphmlFileSystem.begin_fetch

    def note(self: MorphmlFileSystem, path: str, offset: int, length: int, version: str | None) -> Any:
        asked.append((offset, length))
        return begin(self, path, offset, length, version)

    monkeypatch.setattr(MorphmlFileSystem, "begin_fetch", note)
    array = np.arange(1_000_000)
    with files.open("a.npy", "wb") as file:
        np.save(file, array)
    calls.clear()
    with files.open("a.npy", "rb", block_size=2**20) as file:
        assert np.array_equal(np.load(file), array)
    assert calls["get"] == 8
    assert len(asked) == 7
    asked.clear()
    with files.open("a.npy", "rb") as file:
        for place in (7_000_000, 3_000_000, 5_000_000):
            file.seek(place)
            file.read(10)
    assert asked == []


def test_what_was_asked_for_ahead_of_a_file_that_is_replaced_is_no_mixture(files: MorphmlFileSystem) -> None:
    files.pipe_file("x", bytes(4 * 2**20))
    with files.open("x", "rb", block_size=2**20) as file:
        file.read(2**20 + 1)
        files.pipe_file("x", b"1" * 4 * 2**20)
        with pytest.raises(OSError, match="replaced"):
            file.read()


def test_a_cache_that_is_stated_is_taken(files: MorphmlFileSystem) -> None:
    files.pipe_file("x", b"123")
    with files.open("x", "rb", cache_type="all") as file:
        assert file.cache.name == "all"
        assert file.read() == b"123"
    assert fsspec.caching.caches["morphml"].name == "morphml"
