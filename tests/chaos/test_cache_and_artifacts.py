"""Killing the cache's server, the artifacts' server and the artifact actor while they work."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from servers import opened_store
from waiting import wait_until

import morphml_ray as mr
from morphml_ray.client.channel import Call
from morphml_ray.devstack import SeaweedServer, ValkeyServer

MB = 1024 * 1024
# What a cache's silent server costs at most: two time-outs of a second, and what a busy machine adds.
SLACK_S = 8.0


@pytest.fixture
def valkey(server_directory: Path) -> Iterator[ValkeyServer]:
    """A cache server that the test may kill."""
    server = ValkeyServer(server_directory)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def seaweed(server_directory: Path) -> Iterator[SeaweedServer]:
    """An S3 server that the test may kill."""
    server = SeaweedServer(server_directory)
    server.start()
    yield server
    server.stop()


def connect(namespace: str, tmp_path: Path, deadline_s: float = 30, **urls: str) -> mr.Storage:
    return mr.connect(mr.StorageConfig(root=tmp_path / "store", deadline_s=deadline_s, **urls), namespace=namespace)


def artifact_health(storage: mr.Storage) -> dict[str, Any]:
    (health,) = storage.status()["artifacts"].values()
    return dict(health)


def write_file(path: Path, size_bytes: int) -> bytes:
    data = np.random.default_rng(size_bytes).bytes(size_bytes)
    path.write_bytes(data)
    return data


class At:
    """A progress callback that does something once, when so many bytes have passed.

    Attributes:
        done_at: how many had, then.
    """

    def __init__(self, moved_bytes: int, act: Any) -> None:
        self.moved_bytes = moved_bytes
        self.act = act
        self.done_at: int | None = None

    def __call__(self, moved_bytes: int) -> None:
        if moved_bytes >= self.moved_bytes and self.done_at is None:
            self.done_at = moved_bytes
            self.act()

    def check_middle(self, size_bytes: int) -> None:
        assert self.done_at is not None
        assert self.moved_bytes <= self.done_at < size_bytes


@pytest.fixture(autouse=True)
def _watched_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is told often enough to act in the middle of a file."""
    monkeypatch.setattr("morphml_ray.client.file_transfers.POLL_S", 0.02)


def test_lesson_22_an_evaluation_never_notices_that_valkey_is_away(
    namespace: str, tmp_path: Path, valkey: ValkeyServer
) -> None:
    storage = connect(namespace, tmp_path, cache=valkey.url)
    cache = storage.cache

    @ray.remote(num_cpus=0)
    def evaluate(storage: mr.Storage, number: int) -> float:
        key = f"g1:{number % 5}"
        found = storage.cache.get_architecture_result(key)
        if found is None:
            found = {"accuracy": number % 5 / 10}
            storage.cache.cache_architecture_result(key, found)
        storage.cache.increment("evaluations")
        storage.experiment("one").record({"number": number}, found["accuracy"])
        return float(found["accuracy"])

    expected = [number % 5 / 10 for number in range(20)]
    assert ray.get([evaluate.remote(storage, number) for number in range(20)]) == expected
    assert cache.get_architecture_result("g1:3") == {"accuracy": 0.3}
    valkey.kill()
    begun = time.monotonic()
    assert ray.get([evaluate.remote(storage, number) for number in range(20, 40)], timeout=60) == expected
    missing = object()
    assert cache.get("evaluations", missing) is missing
    assert (cache.set("a", 1), cache.set_multiple({"a": 1, "b": 2}), cache.increment("evaluations")) == (0, 0, None)
    assert (cache.get_multiple(["a", "b"]), cache.exists("a"), cache.delete("a"), cache.clear_all()) == (
        {},
        False,
        0,
        0,
    )
    assert (cache.invalidate_experiment(1), cache.invalidate_pattern("*")) == (0, 0)
    assert time.monotonic() - begun < 60
    told = cache.get_statistics()
    assert (told["is_available"], told["outages"], told["num_keys"]) == (False, 1, None)
    assert told["dropped_writes"] >= 20 + 3
    assert storage.status()["cache"]["restarts"] == 0
    begun = time.monotonic()
    for _ in range(200):
        cache.get("a")
    assert time.monotonic() - begun < SLACK_S
    valkey.start()
    wait_until(lambda: cache.set("a", 1) == 1, 30)
    assert cache.get("a") == 1
    assert cache.get_statistics()["is_available"]
    assert storage.experiment("one").statistics()["num_evaluations"] == 40
    storage.shutdown()


def test_a_cache_that_is_away_at_the_beginning_keeps_nobody_from_connecting(
    namespace: str, tmp_path: Path, valkey: ValkeyServer
) -> None:
    valkey.stop()
    storage = connect(namespace, tmp_path, cache=valkey.url)
    assert storage.cache.get("a", "miss") == "miss"
    valkey.start()
    wait_until(lambda: storage.cache.set("a", 1) == 1, 30)
    storage.shutdown()


def test_lesson_26_seaweedfs_is_killed_in_the_middle_of_an_upload_and_comes_back(
    namespace: str, tmp_path: Path, seaweed: SeaweedServer
) -> None:
    url = seaweed.bucket_url("morphml", "chaos", with_credentials=True)
    storage = connect(namespace, tmp_path, artifacts=url)
    data = write_file(tmp_path / "file", 300 * MB)

    def kill() -> None:
        seaweed.kill()
        assert artifact_health(storage)["restarts"] == 0
        threading.Timer(2, seaweed.start).start()

    cut = At(16 * MB, kill)
    assert storage.artifacts.upload_file(tmp_path / "file", "a", progress=cut) == "a"
    cut.check_middle(len(data))
    assert storage.artifacts.download_bytes("a") == data
    assert artifact_health(storage)["outage"] is None
    check_nothing_is_left(url, ["a"])
    storage.shutdown()


def test_an_outage_past_the_deadline_is_our_error_and_leaves_no_object(
    namespace: str, tmp_path: Path, seaweed: SeaweedServer
) -> None:
    url = seaweed.bucket_url("morphml", "chaos", with_credentials=True)
    storage = connect(namespace, tmp_path, 3, artifacts=url)
    store = storage.artifacts
    store.upload_bytes(b"old", "a")
    write_file(tmp_path / "file", 300 * MB)
    begun: list[float] = []

    def kill() -> None:
        seaweed.kill()
        begun.append(time.monotonic())

    with pytest.raises(mr.BackendUnavailable) as caught:
        store.upload_file(tmp_path / "file", "a", progress=At(16 * MB, kill))
    assert type(caught.value) is mr.BackendUnavailable
    assert time.monotonic() - begun[0] < 3 + 30
    for call in (
        lambda: store.upload_bytes(b"1", "b"),
        lambda: store.download_bytes("a"),
        lambda: store.exists("a"),  # lesson 25: no answer is no False
        store.list_keys,
        lambda: store.delete("a"),
    ):
        with pytest.raises(mr.BackendUnavailable):
            call()
    assert "127.0.0.1" in artifact_health(storage)["outage"]
    seaweed.start()
    assert store.download_bytes("a") == b"old"
    assert store.list_keys() == ["a"]
    # The answer after the outage made the actor tidy up.
    wait_until(lambda: not unfinished_uploads(url), 20)
    check_nothing_is_left(url, ["a"])
    storage.shutdown()


def test_lesson_49_the_artifact_actor_is_killed_under_uploads(
    namespace: str, tmp_path: Path, artifacts_url: str
) -> None:
    storage = connect(namespace, tmp_path, artifacts=artifacts_url)
    store = storage.artifacts
    large = write_file(tmp_path / "file", 200 * MB)
    pid = artifact_health(storage)["pid"]

    @ray.remote(num_cpus=0)
    def work(store: mr.ArtifactStore, worker: int, seconds: float) -> dict[str, bytes]:
        written: dict[str, bytes] = {}
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            key = f"{worker}/{len(written)}"
            data = os.urandom(100_000)
            store.upload_bytes(data, key, if_absent=True)
            written[key] = data
        return written

    workers = [work.remote(store, worker, 8.0) for worker in range(2)]
    wait_until(lambda: len(store.list_keys()) > 10, 60)
    with ThreadPoolExecutor(1) as threads:
        cut = At(16 * MB, lambda: os.kill(pid, 9))
        upload = threads.submit(store.upload_file, tmp_path / "file", "large", if_absent=True, progress=cut)
        written = {key: data for answer in ray.get(workers, timeout=120) for key, data in answer.items()}
        assert upload.result(120) == "large"
    cut.check_middle(len(large))
    health = artifact_health(storage)
    assert (health["restarts"], health["pid"] != pid) == (1, True)
    assert store.download_bytes("large") == large
    assert {one["key"] for one in store.list_objects()} == {"large", *written}
    for key, data in written.items():
        assert store.download_bytes(key) == data
    # What the killed process had begun nobody can end but by its age.
    store.channel.wait(Call("call", ("purge_uploads", 0.0)))
    check_nothing_is_left(artifacts_url, sorted({"large", *written}))
    storage.shutdown()


def test_the_artifact_actor_is_killed_under_a_file_in_chunks(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = connect(namespace, tmp_path)
    data = write_file(tmp_path / "file", 60 * MB)
    monkeypatch.setattr("morphml_ray.client.file_transfers._sees_folder", lambda *_: False)
    monkeypatch.setattr("morphml_ray.client.file_transfers._sees_file", lambda *_: False)
    pid = artifact_health(storage)["pid"]
    cut = At(8 * MB, lambda: os.kill(pid, 9))
    assert storage.artifacts.upload_file(tmp_path / "file", "a", progress=cut) == "a"
    cut.check_middle(len(data))
    pid = artifact_health(storage)["pid"]
    cut = At(8 * MB, lambda: os.kill(pid, 9))
    storage.artifacts.download_file("a", tmp_path / "copy", progress=cut)
    cut.check_middle(len(data))
    assert (tmp_path / "copy").read_bytes() == data
    assert artifact_health(storage)["restarts"] == 2
    assert [*(tmp_path / "store/artifacts/%staging").iterdir()] == []
    storage.shutdown()


def unfinished_uploads(url: str) -> list[Any]:
    with opened_store(url) as store, store._bucket.working("looking") as client:
        return list(client.list_multipart_uploads(Bucket=store._bucket.name).get("Uploads", []))


def check_nothing_is_left(url: str, keys: list[str]) -> None:
    """Exactly these objects are there, and no upload is unfinished."""
    with opened_store(url) as store:
        assert sorted(info.key for info in store.list()) == keys
    assert unfinished_uploads(url) == []
