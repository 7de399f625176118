"""The artifacts that users store, through a real Ray, in a directory and on SeaweedFS."""

import asyncio
import pickle
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import ray
from stores import MB, end, open_store, write_file

import morphml_ray as mr
from morphml_ray.actors.deploy import find_actors, stop_actor
from morphml_ray.client.artifacts import artifact_settings
from morphml_ray.client.database import DEFAULT_NAMESPACE
from morphml_ray.client.remote_method import RemoteMethod
from morphml_ray.devstack import SeaweedServer


def test_every_method_blocks_and_has_remote_with_the_same_value(store: mr.ArtifactStore, tmp_path: Path) -> None:
    write_file(tmp_path / "file", 1000)
    is_local = "file:" in repr(store)
    calls: dict[str, tuple[Any, ...]] = {
        "upload_file": (tmp_path / "file", "a/file"),
        "upload_bytes": (b"data", "a/bytes", {"name": "значение"}),
        "download_file": ("a/file", tmp_path / "copy"),
        "download_bytes": ("a/bytes",),
        "exists": ("a/bytes",),
        "delete": ("missing",),
        "list_objects": ("a/",),
        "list_keys": (),
        "get_metadata": ("a/bytes",),
        "get_presigned_url": ("a/bytes",),
        "copy": ("a/bytes", "b/bytes"),
        "delete_prefix": ("missing",),
        "get_total_size": ("a/",),
    }
    methods = {name for name, value in vars(mr.ArtifactStore).items() if isinstance(value, RemoteMethod)}
    assert methods == set(calls)
    for name, arguments in calls.items():
        if name == "get_presigned_url":
            continue
        method = getattr(store, name)
        blocking, remote = method(*arguments), ray.get(method.remote(*arguments))
        assert blocking == remote, name
        assert type(blocking) is type(remote), name
    if is_local:
        with pytest.raises(mr.ConfigurationError, match="not supported"):
            store.get_presigned_url("a/bytes")
    else:
        assert store.get_presigned_url("a/bytes").partition("?")[0].endswith("a/bytes")

    async def awaited() -> Any:
        return await store.download_bytes.remote("a/bytes")

    assert asyncio.run(awaited()) == b"data"
    store.close()
    assert store.exists("a/bytes")


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


def test_lesson_29_only_reading_and_writing_is_presigned(artifacts_url: str, namespace: str) -> None:
    store = open_store(artifacts_url, namespace)
    store.upload_bytes(b"data", "a b")
    with urllib.request.urlopen(store.get_presigned_url("a b", 60), timeout=10) as answer:  # noqa: S310 - of our server
        assert answer.read() == b"data"
    for method in ("delete_object", "list_objects_v2", "get_bucket_acl"):
        with pytest.raises(mr.ValidationError, match="get_object and put_object"):
            store.get_presigned_url("a b", 60, method)  # type: ignore[arg-type]  # that it is wrong is the point
    for expiration in (0, -1, 8 * 24 * 3600):
        with pytest.raises(mr.ValidationError, match="expires"):
            store.get_presigned_url("a b", expiration)
    end(store)


def test_lesson_48_tasks_use_it_and_look_nothing_up(store: mr.ArtifactStore, tmp_path: Path) -> None:
    @ray.remote(num_cpus=0)
    def work(store: mr.ArtifactStore, number: int, folder: Path) -> bytes:
        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("looked up by name")

        with mock.patch.object(ray, "get_actor", refuse):
            (folder / f"in {number}").write_bytes(b"%d" % number)
            store.upload_file(folder / f"in {number}", f"task/{number}")
            store.upload_bytes(bytes([number]) * MB, f"array/{number}")
            return store.download_bytes(f"task/{number}")

    answers = ray.get([work.remote(store, number, tmp_path) for number in range(4)])
    assert answers == [b"0", b"1", b"2", b"3"]
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


@pytest.fixture
def alone(namespace: str) -> Iterator[None]:
    """Ends the artifact actors of stores that stand alone, refused ones too."""
    del namespace
    yield
    for handle in find_actors("artifacts:", DEFAULT_NAMESPACE).values():
        stop_actor(handle, 10)


@pytest.mark.usefixtures("alone")
def test_a_store_alone(s3_server: SeaweedServer, artifacts_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = artifacts_url.removeprefix("s3://morphml/").partition("?")[0]
    access, secret = s3_server.exports()["AWS_ACCESS_KEY_ID"], s3_server.exports()["AWS_SECRET_ACCESS_KEY"]
    endpoint = s3_server.endpoint_url
    with pytest.raises(mr.ConfigurationError) as caught:
        mr.ArtifactStore("morphml", endpoint, access, "wrong+secret/", prefix=prefix)
    assert "wrong" not in str(caught.value)
    store = mr.ArtifactStore("morphml", endpoint, access, secret, "us-east-1", prefix=prefix)
    store.upload_bytes(b"1", "a")
    assert secret not in repr(store) + repr(vars(store)) + repr(pickle.dumps(store.actors.settings))
    same = mr.ArtifactStore.from_url(artifacts_url)
    assert same.list_keys() == ["a"]
    assert same.channel.handle == store.channel.handle
    end(store)
    monkeypatch.setenv("MY_SECRET", secret)
    with pytest.raises(mr.ConfigurationError, match="MY_SECRET"):  # which the actor does not have
        mr.ArtifactStore("morphml", endpoint, access, "env:MY_SECRET", prefix=prefix)


@pytest.mark.usefixtures("alone")
def test_a_store_that_cannot_be_is_refused(s3_server: SeaweedServer) -> None:
    exports = s3_server.exports()
    keys = exports["AWS_ACCESS_KEY_ID"], exports["AWS_SECRET_ACCESS_KEY"]
    with pytest.raises(mr.ConfigurationError, match="no bucket missing-bucket"):
        mr.ArtifactStore("missing-bucket", s3_server.endpoint_url, *keys, create_bucket=False)
    for wrong in ("UPPER", "a", "a@b"):
        with pytest.raises(mr.ConfigurationError, match="bucket"):
            mr.ArtifactStore(wrong)
    with pytest.raises(mr.ConfigurationError, match="endpoint_url"):
        mr.ArtifactStore("abc", "host:80")
    with pytest.raises(mr.ConfigurationError, match="prefix"):
        mr.ArtifactStore("abc", prefix="a//b")
    with pytest.raises(mr.ConfigurationError, match="together"):
        mr.ArtifactStore("abc", aws_access_key=keys[0])


@pytest.mark.usefixtures("namespace")
def test_a_directory_may_be_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_ARTIFACTS", f"file://{tmp_path}/one")
    settings = artifact_settings(mr.StorageConfig(artifacts="env:MY_ARTIFACTS"))
    assert settings.home_node == ray.get_runtime_context().get_node_id()
    settings = artifact_settings(mr.StorageConfig(artifacts="env:UNKNOWN_ARTIFACTS"))
    assert settings.home_node is None
