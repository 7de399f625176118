"""The artifacts that users store, through a real Ray, in a directory and on SeaweedFS."""

import asyncio
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest import mock

import numpy as np
import pytest
import ray
from stores import MB, write_file

import morphml_ray as mr
from morphml_ray.rpc.remote_method import RemoteMethod


def every_call(mark: str, folder: Path) -> dict[str, tuple[tuple[Any, ...], Any]]:
    """Arguments of every method and what it gives, on keys of their own, ordered so that each has something to do."""
    size = 1000
    keys = [f"{mark}/{name}" for name in ("bytes", "copy", "old/1", "old/2", "old/file")]
    return {
        "upload_file": ((folder / "file", f"{mark}/old/file"), f"{mark}/old/file"),
        "upload_bytes": ((b"data", f"{mark}/bytes", {"name": "значение"}), f"{mark}/bytes"),
        "download_file": ((f"{mark}/old/file", folder / mark / "copy"), str(folder / mark / "copy")),
        "download_bytes": ((f"{mark}/bytes",), b"data"),
        "upload_multiple": (({f"{mark}/old/1": b"1", f"{mark}/old/2": b"2"},), [f"{mark}/old/1", f"{mark}/old/2"]),
        "download_multiple": (([f"{mark}/old/1", f"{mark}/missing"],), {f"{mark}/old/1": b"1"}),
        "exists": ((f"{mark}/bytes",), True),
        "copy": ((f"{mark}/bytes", f"{mark}/copy"), f"{mark}/copy"),
        "get_metadata": ((f"{mark}/copy",), {"name": "значение"}),
        "list_objects": ((f"{mark}/",), keys),
        "list_keys": ((f"{mark}/",), keys),
        "get_total_size": ((f"{mark}/",), size + 4 + 4 + 1 + 1),
        "delete": ((f"{mark}/bytes",), True),
        "delete_prefix": ((f"{mark}/old",), 3),
        "get_presigned_url": ((f"{mark}/copy",), None),
    }


@pytest.mark.parametrize("place", ["driver", "task"])
def test_every_method_works_blocking_and_by_remote(store: mr.ArtifactStore, tmp_path: Path, place: str) -> None:
    def ask(store: mr.ArtifactStore, calls: dict[str, tuple[tuple[Any, ...], Any]], form: str) -> dict[str, Any]:
        answers: dict[str, Any] = {}
        for name, (arguments, _) in calls.items():
            method = getattr(store, name)
            try:
                answers[name] = method(*arguments) if form == "blocking" else ray.get(method.remote(*arguments))
            except mr.ConfigurationError:
                answers[name] = "refused"
        return answers

    methods = {name for name, value in vars(mr.ArtifactStore).items() if isinstance(value, RemoteMethod)}
    assert set(every_call("", tmp_path)) == methods
    data = write_file(tmp_path / "file", 1000)
    for form in ("blocking", "remote"):
        calls = every_call(form, tmp_path)
        if place == "driver":
            answers = ask(store, calls, form)
        else:
            answers = ray.get(ray.remote(num_cpus=0)(ask).remote(store, calls, form))
        check_presigned(store, answers.pop("get_presigned_url"))
        answers["get_metadata"] = answers["get_metadata"]["metadata"]
        answers["list_objects"] = [found["key"] for found in answers["list_objects"]]
        assert answers == {name: expected for name, (_, expected) in calls.items() if name in answers}
        assert (tmp_path / form / "copy").read_bytes() == data
        assert store.list_keys(f"{form}/") == [f"{form}/copy"]
        assert store.download_bytes(f"{form}/copy") == b"data"
    store.close()
    assert store.exists("remote/copy")


def check_presigned(store: mr.ArtifactStore, answer: str) -> None:
    """A URL of a small object, but a directory has none."""
    if "file:" in repr(store):
        assert answer == "refused"
        return
    with urllib.request.urlopen(answer, timeout=10) as response:  # noqa: S310 - of our server
        assert response.read() == b"data"


@pytest.mark.parametrize("place", ["driver", "actor"])
def test_answers_can_be_awaited(store: mr.ArtifactStore, place: str) -> None:
    async def work(store: mr.ArtifactStore) -> tuple[Any, ...]:
        key = await store.upload_bytes.remote(b"data", "a")
        return key, await store.download_bytes.remote("a"), await store.list_keys.remote()

    class Worker:
        async def work(self, store: mr.ArtifactStore) -> tuple[Any, ...]:
            return await work(store)

    if place == "driver":
        answers = asyncio.run(work(store))
    else:
        worker: Any = ray.remote(num_cpus=0)(Worker).remote()
        answers = ray.get(worker.work.remote(store))
    assert answers == ("a", b"data", ["a"])


def test_a_task_with_a_file_system_of_its_own_sends_chunks(store: mr.ArtifactStore, tmp_path: Path) -> None:
    @ray.remote(num_cpus=0)
    def work(store: mr.ArtifactStore, folder: Path, form: str) -> None:
        with (
            mock.patch("morphml_ray.artifacts.file_transfers._sees_file", return_value=False),
            mock.patch("morphml_ray.artifacts.file_transfers._watch", side_effect=AssertionError),
        ):
            if form == "blocking":
                store.upload_file(folder / "file", form)
                store.download_file(form, folder / form)
            else:
                ray.get(store.upload_file.remote(folder / "file", form))
                ray.get(store.download_file.remote(form, folder / form))

    data = write_file(tmp_path / "file", 20 * MB)
    for form in ("blocking", "remote"):
        ray.get(work.remote(store, tmp_path, form))
        assert (tmp_path / form).read_bytes() == data
        assert store.download_bytes(form) == data


def test_what_is_told_of_objects(store: mr.ArtifactStore) -> None:
    assert store.upload_bytes(b"12345", "a/b", {"Ключ": "значение"}, content_type="text/plain") == "a/b"
    store.upload_bytes(b"1", "a")
    told = store.get_metadata("a/b")
    assert told is not None
    assert set(told) == {"size", "last_modified", "content_type", "metadata"}
    assert (told["size"], told["content_type"], told["metadata"]) == (5, "text/plain", {"Ключ": "значение"})
    assert told["last_modified"].tzinfo is not None
    (first, second) = store.list_objects()
    assert ([*first], first["key"], second["key"]) == (["key", "size", "last_modified"], "a", "a/b")
    assert second["last_modified"].tzinfo is not None
    assert [one["key"] for one in store.list_objects(max_keys=1)] == ["a"]
    assert store.list_keys("a/") == ["a/b"]
    assert (store.get_total_size(), store.get_total_size("a/"), store.get_total_size("x")) == (6, 5, 0)
    assert store.copy("a/b", "c") == "c"
    assert (store.get_metadata("c") or {})["metadata"] == {"Ключ": "значение"}


@pytest.mark.parametrize("size_bytes", [0, 1, MB - 1, MB, MB + 1, 20 * MB + 1])
def test_bytes_of_any_size_and_kind(store: mr.ArtifactStore, size_bytes: int) -> None:
    data = np.random.default_rng(0).bytes(size_bytes)
    kinds: list[Any] = [data, bytearray(data), memoryview(data), np.frombuffer(data, np.uint8)]
    for number, given in enumerate(kinds):
        store.upload_bytes(given, f"kind {number}")
    for number in range(4):
        found = store.download_bytes(f"kind {number}")
        assert type(found) is bytes
        assert found == data
    assert ray.get(store.download_bytes.remote("kind 0")) == data
    for offset, length in ((0, 10), (size_bytes // 2, None), (size_bytes // 2, 3 * MB), (size_bytes, 5), (0, 0)):
        end_at = None if length is None else offset + length
        assert store.download_bytes("kind 0", offset, length) == data[offset:end_at]


def test_what_is_no_buffer_or_key_is_refused_in_the_caller(local_store: mr.ArtifactStore) -> None:
    for wrong in ("text", 5, None, np.arange(10)[::2]):
        with pytest.raises(mr.ValidationError, match="data must be"):
            local_store.upload_bytes(wrong, "a")  # type: ignore[arg-type]  # that it is wrong is the point
    for key in ("", "/a", "a/", "../a", "a//b", "a\0b", 5):
        with pytest.raises(mr.ValidationError, match="key"):
            local_store.upload_bytes(b"", key)  # type: ignore[arg-type]  # the same
    with pytest.raises(mr.ValidationError, match="metadata"):
        local_store.upload_bytes(b"", "a", {"number": 5})  # type: ignore[dict-item]  # the same
    assert local_store.list_keys() == []


def test_what_is_missing(store: mr.ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(mr.NotFoundError, match="a/b"):
        store.download_bytes("a/b")
    with pytest.raises(mr.NotFoundError):
        store.download_bytes("a/b", 5)
    with pytest.raises(mr.NotFoundError):
        store.download_file("a/b", tmp_path / "file")
    assert not (tmp_path / "file").exists()
    with pytest.raises(mr.NotFoundError):
        store.copy("a/b", "c")
    assert (store.get_metadata("a/b"), store.exists("a/b"), store.delete("a/b")) == (None, False, False)
    with pytest.raises(FileNotFoundError) as caught:
        store.upload_file(tmp_path / "file", "a/b")
    assert type(caught.value) is FileNotFoundError


def test_conditional_writes(store: mr.ArtifactStore, tmp_path: Path) -> None:
    data = write_file(tmp_path / "file", 10)
    assert store.upload_bytes(b"first", "a", if_absent=True) == "a"
    with pytest.raises(mr.AlreadyExistsError):
        store.upload_bytes(b"second", "a", if_absent=True)
    with pytest.raises(mr.AlreadyExistsError):
        store.upload_file(tmp_path / "file", "a", if_absent=True)
    assert store.download_bytes("a") == b"first"
    store.upload_file(tmp_path / "file", "a")
    assert store.download_bytes("a") == data


def test_lesson_28_a_prefix_ends_at_a_slash_and_is_not_everything(store: mr.ArtifactStore) -> None:
    for key in ("exp1/a", "exp1/b/c", "exp10/a", "exp1"):
        store.upload_bytes(b"1", key)
    for everything in ("", "/"):
        with pytest.raises(mr.ValidationError, match="everything"):
            store.delete_prefix(everything)
    assert store.delete_prefix("exp1/") == 2
    assert store.list_keys() == ["exp1", "exp10/a"]
    assert store.delete_prefix("exp1") == 1
    assert store.list_keys() == ["exp10/a"]


def test_lesson_29_only_reading_and_writing_is_presigned(s3_store: mr.ArtifactStore) -> None:
    s3_store.upload_bytes(b"data", "a b")
    with urllib.request.urlopen(s3_store.get_presigned_url("a b", 60), timeout=10) as answer:  # noqa: S310 - of our server
        assert answer.read() == b"data"
    for method in ("delete_object", "list_objects_v2", "get_bucket_acl"):
        with pytest.raises(mr.ValidationError, match="get_object and put_object"):
            s3_store.get_presigned_url("a b", 60, method)  # type: ignore[arg-type]  # that it is wrong is the point
    for expiration in (0, -1, 8 * 24 * 3600):
        with pytest.raises(mr.ValidationError, match="expires"):
            s3_store.get_presigned_url("a b", expiration)


def test_lesson_48_tasks_use_it_and_only_the_first_of_a_process_looks_it_up(
    store: mr.ArtifactStore, tmp_path: Path
) -> None:
    @ray.remote(num_cpus=0)
    class Process:
        def work(self, store: mr.ArtifactStore, number: int, folder: Path) -> tuple[bytes, int]:
            with mock.patch.object(ray, "get_actor", side_effect=ray.get_actor) as look_up:
                (folder / f"in {number}").write_bytes(b"%d" % number)
                store.upload_file(folder / f"in {number}", f"task/{number}")
                store.upload_bytes(bytes([number]) * MB, f"array/{number}")
                return store.download_bytes(f"task/{number}"), look_up.call_count

    process = cast("Any", Process).remote()
    answers = ray.get([process.work.remote(store, number, tmp_path) for number in range(4)])
    assert [data for data, _ in answers] == [b"0", b"1", b"2", b"3"]
    assert [look_ups > 0 for _, look_ups in answers] == [True, False, False, False]
    ray.kill(process)
    assert store.get_total_size("array/") == 4 * MB
    assert [*store.actors.running()] == [store.channel.node_id[:16]]


def test_the_storage_has_them_all(namespace: str, tmp_path: Path, artifacts_url: str, cache_url: str) -> None:
    storage = mr.connect(root=str(tmp_path), artifacts=artifacts_url, cache=cache_url, namespace=namespace)
    storage.artifacts.upload_bytes(b"data", "a")
    storage.cache.set("a", 1)

    @ray.remote(num_cpus=0)
    def work(storage: mr.Storage, namespace: str) -> tuple[Any, ...]:
        found = mr.connect(namespace=namespace)
        return found.artifacts.download_bytes("a"), found.cache.get("a"), storage.artifacts.exists("a")

    assert ray.get(work.remote(storage, namespace)) == (b"data", 1, True)
    status = storage.status()
    assert [*status] == ["database", "cache", "artifacts"]
    (health,) = status["artifacts"].values()
    assert (health["outage"], health["transfers"], health["restarts"], health["is_open"]) == (None, 0, 0, True)
    assert health["pid"] not in (status["cache"]["pid"], status["database"]["pid"])
    for secret in (artifacts_url.rpartition("=")[2], cache_url.partition("//:")[2].partition("@")[0]):
        assert secret not in repr(status) + repr(storage) + repr(storage.artifacts.actors)
    with pytest.raises(mr.ConflictError, match="name="):
        mr.connect(artifacts=f"file://{tmp_path}/other", namespace=namespace)
    with pytest.raises(mr.ConflictError, match="name="):
        mr.connect(cache="memory://", namespace=namespace)
    pending = storage.artifacts.upload_bytes.remote(bytes(30 * MB), "large")
    storage.flush()
    assert ray.wait([pending], timeout=5)[0]
    storage.shutdown()
    for ask in (lambda: storage.artifacts.exists("a"), lambda: storage.cache.get("a")):
        with pytest.raises(mr.BackendUnavailable, match="connect"):
            ask()


def test_case_2_the_store_says_that_its_directory_is_gone(near_store: mr.ArtifactStore, tmp_path: Path) -> None:
    near_store.upload_bytes(b"1", "a")
    shutil.rmtree(tmp_path / "near")
    calls: list[Callable[[], Any]] = [
        lambda: near_store.upload_bytes(b"1", "a"),
        lambda: near_store.upload_multiple({"a": b"1"}),
        lambda: near_store.download_multiple(["a"]),
        lambda: near_store.exists("a"),
        near_store.list_keys,
        near_store.get_total_size,
    ]
    for each in calls:
        with pytest.raises(mr.CorruptDataError, match="moved or deleted while it was in use"):
            each()
    assert not (tmp_path / "near").exists()
