"""Killing the artifact actor, and the workers that use it, while files move."""

import itertools
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import ray
from outages import At, artifact_health, check_nothing_is_left, connect, purge
from stores import MB, write_file
from waiting import wait_until

import morphml_ray as mr
from morphml_ray.artifacts.write_id import new_write_id
from morphml_ray.rpc.deploy import MAX_TASK_RETRIES

# Workers cannot import tests.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]  # Ray leaves it untyped


def test_lesson_49_the_artifact_actor_is_killed_under_uploads(
    namespace: str, tmp_path: Path, artifacts_url: str
) -> None:
    storage = connect(namespace, tmp_path, artifacts=artifacts_url)
    store = storage.artifacts
    large = write_file(tmp_path / "file", 200 * MB)
    pid = artifact_health(storage)["pid"]

    @ray.remote(num_cpus=0)
    def work(store: mr.ArtifactStore, worker: int, over: Path) -> dict[str, bytes]:
        written: dict[str, bytes] = {}
        while not over.exists():
            key = f"{worker}/{len(written)}"
            data = os.urandom(100_000)
            store.upload_bytes(data, key, if_absent=True)
            written[key] = data
        return written

    workers = [work.remote(store, worker, tmp_path / "over") for worker in range(2)]
    wait_until(lambda: len(store.list_keys()) > 10, 60)
    with ThreadPoolExecutor(1) as threads:
        cut = At(16 * MB, lambda: os.kill(pid, 9))
        upload = threads.submit(store.upload_file, tmp_path / "file", "large", if_absent=True, progress=cut)
        assert upload.result(120) == "large"
        (tmp_path / "over").touch()
        written = {key: data for answer in ray.get(workers, timeout=120) for key, data in answer.items()}
    cut.check_middle(len(large))
    health = artifact_health(storage)
    assert (health["restarts"], health["pid"] != pid) == (1, True)
    assert store.download_bytes("large") == large
    assert {one["key"] for one in store.list_objects()} == {"large", *written}
    for key, data in written.items():
        assert store.download_bytes(key) == data
    # What the killed process had begun nobody can end but by its age.
    purge(store)
    check_nothing_is_left(artifacts_url, sorted({"large", *written}))
    storage.shutdown()


def test_the_artifact_actor_is_killed_under_a_file_in_chunks(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = connect(namespace, tmp_path)
    data = write_file(tmp_path / "file", 60 * MB)
    monkeypatch.setattr("morphml_ray.artifacts.file_transfers._sees_folder", lambda *_: False)
    monkeypatch.setattr("morphml_ray.artifacts.file_transfers._sees_file", lambda *_: False)
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


class Sender:
    """A worker that sends until it is killed, in a container of its own: its actor does not see its files."""

    def send_a_file(self, store: mr.ArtifactStore, path: Path, sent: Path) -> None:
        def stay(moved_bytes: int) -> None:
            if moved_bytes >= 16 * MB:
                sent.touch()
                time.sleep(600)

        with mock.patch("morphml_ray.artifacts.file_transfers._sees_file", return_value=False):
            store.upload_file(path, "file", progress=stay)

    def send_bytes(self, store: mr.ArtifactStore, path: Path, sent: Path) -> None:
        data = path.read_bytes()[: 8 * MB]
        for number in itertools.count():
            store.upload_bytes(data, f"bytes/{number}")
            sent.touch()


@pytest.mark.parametrize("technology", ["local", "s3"])
def test_a_killed_worker_leaves_nothing_half_done(
    namespace: str, tmp_path: Path, technology: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("artifacts_url") if technology == "s3" else f"file://{tmp_path}/artifacts"
    storage = connect(namespace, tmp_path, artifacts=url)
    store = storage.artifacts
    data = write_file(tmp_path / "file", 60 * MB)
    senders: list[Any] = [ray.remote(num_cpus=0)(Sender).remote() for _ in range(2)]
    marks = [tmp_path / "file-is-sent", tmp_path / "bytes-are-sent"]
    senders[0].send_a_file.remote(store, tmp_path / "file", marks[0])
    senders[1].send_bytes.remote(store, tmp_path / "file", marks[1])
    wait_until(lambda: all(mark.exists() for mark in marks), 60)
    for sender in senders:
        ray.kill(sender)
    wait_until(lambda: not artifact_health(storage)["transfers"], 30)
    health = artifact_health(storage)
    assert (health["waiting"], health["held_bytes"], health["restarts"]) == (0, 0, 0)
    keys = store.list_keys()
    # Of bytes all arrive or none; of the file nothing is seen.
    assert keys
    assert all(key.startswith("bytes/") for key in keys)
    assert all(store.download_bytes(key) == data[: 8 * MB] for key in keys)
    assert purge(store) == 1
    assert (store.upload_file(tmp_path / "file", "file"), store.get_total_size("file")) == ("file", len(data))
    if technology == "s3":
        check_nothing_is_left(url, [*keys, "file"])
    else:
        assert [*(tmp_path / "artifacts/%staging").iterdir()] == []
    storage.shutdown()


def die_after(verb: str, data: bytes) -> None:
    """Let the actor's process end right after it has done something, and somebody else has written there since."""
    from morphml_ray.artifacts.local import LocalArtifactBackend

    done, put = getattr(LocalArtifactBackend, verb), LocalArtifactBackend.put

    def do_and_die(self: LocalArtifactBackend, key: str, *arguments: Any, **named: Any) -> None:
        done(self, key, *arguments, **named)
        put(self, key, data, write_id=new_write_id())
        os._exit(1)

    setattr(LocalArtifactBackend, verb, do_and_die)


@pytest.mark.parametrize("verb", ["put", "put_file", "delete"])
def test_case_53_a_call_that_ray_repeats_leaves_what_was_written_meanwhile(
    namespace: str, tmp_path: Path, verb: str
) -> None:
    storage = connect(namespace, tmp_path)
    store = storage.artifacts
    (tmp_path / "file").write_bytes(b"older")
    store.upload_bytes(b"old", "key")
    ray.get(store.channel.handle.__ray_call__.remote(lambda _: die_after(verb, b"newer")))
    if verb == "put":
        assert store.upload_bytes(b"older", "key") == "key"
    elif verb == "put_file":
        assert store.upload_file(tmp_path / "file", "key") == "key"
    else:
        assert ray.get(store.delete.remote("key")) is True
    assert artifact_health(storage)["restarts"] == 1
    assert store.download_bytes("key") == b"newer"
    storage.shutdown()


def test_case_55_a_call_that_kills_its_actor_is_not_repeated_for_ever(namespace: str, tmp_path: Path) -> None:
    storage = connect(namespace, tmp_path)
    store, tries = storage.artifacts, tmp_path / "tries"
    store.upload_bytes(b"1", "key")

    def kill(_: Any) -> None:
        with tries.open("a") as file:
            file.write("x")
        os._exit(1)

    ref = store.channel.handle.__ray_call__.remote(kill)
    with pytest.raises(mr.BackendUnavailable, match="ended each time it worked on this call"):
        store.channel.result_within(ref, 120)
    assert len(tries.read_text()) == 1 + MAX_TASK_RETRIES
    # It is back, for everybody else.
    assert store.download_bytes("key") == b"1"
    assert artifact_health(storage)["restarts"] == 1 + MAX_TASK_RETRIES
    storage.shutdown()
