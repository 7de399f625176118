"""Killing and hanging the artifacts' server while files move."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from outages import At, artifact_health, check_nothing_is_left, connect, unfinished_uploads
from stores import MB, write_file
from waiting import wait_until

import morphml_ray as mr
from morphml_ray.devstack import SeaweedServer

DEADLINE_S = 2.0
# What a call may take beyond its deadline: the last attempt, and what a busy machine adds.
SLACK_S = 30.0


def test_lesson_26_seaweedfs_is_killed_in_the_middle_of_an_upload_and_comes_back(
    namespace: str, tmp_path: Path, seaweed: SeaweedServer
) -> None:
    url = seaweed.bucket_url("morphml", "chaos", with_credentials=True)
    storage = connect(namespace, tmp_path, artifacts=url)
    data = write_file(tmp_path / "file", 200 * MB)

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


class Outage:
    """A server that does not answer, from ``begin`` to ``end``.

    Args:
        server: which.
        is_hung: it keeps its connections and is silent; otherwise it is killed.
    """

    def __init__(self, server: SeaweedServer, *, is_hung: bool) -> None:
        self._server = server
        self._hung = psutil.Process(server.pid) if is_hung else None
        self.begun_at = 0.0

    def begin(self) -> None:
        self.begun_at = time.monotonic()
        if self._hung is not None:
            self._hung.suspend()
        else:
            self._server.kill()

    def end(self) -> None:
        if self._hung is not None:
            self._hung.resume()
        else:
            self._server.start()

    def close(self) -> None:
        """Whatever the test did: a hung server cannot be stopped."""
        if self._hung is not None:
            self._hung.resume()


@pytest.mark.parametrize("is_hung", [False, True], ids=["killed", "hung"])
def test_lessons_25_26_an_outage_past_the_deadline_is_our_error_and_leaves_no_object(
    namespace: str, tmp_path: Path, seaweed: SeaweedServer, is_hung: bool
) -> None:
    url = seaweed.bucket_url("morphml", "chaos", with_credentials=True)
    storage = connect(namespace, tmp_path, DEADLINE_S, artifacts=url)
    store = storage.artifacts
    store.upload_bytes(b"old", "a")
    data = write_file(tmp_path / "file", 200 * MB)
    with closing(Outage(seaweed, is_hung=is_hung)) as outage:
        cut = At(16 * MB, outage.begin)
        with pytest.raises(mr.BackendUnavailable) as caught:
            store.upload_file(tmp_path / "file", "a", progress=cut)
        assert type(caught.value) is mr.BackendUnavailable
        cut.check_middle(len(data))
        check_every_call_fails(store)
        assert time.monotonic() - outage.begun_at < 2 * (DEADLINE_S + SLACK_S)
        assert "127.0.0.1" in artifact_health(storage)["outage"]
        outage.end()
    assert store.download_bytes("a") == b"old"
    if is_hung:  # what a hung server was sent it does later
        assert store.upload_bytes(b"1", "b") == "b"
        store.delete("b")
    # The answer after the outage made the actor tidy up.
    wait_until(lambda: not unfinished_uploads(url), 20)
    check_nothing_is_left(url, ["a"])
    storage.shutdown()


def check_every_call_fails(store: mr.ArtifactStore) -> None:
    calls = (
        lambda: store.upload_bytes(b"1", "b"),
        lambda: store.download_bytes("a"),
        lambda: store.exists("a"),  # lesson 25: no answer is no False
        store.list_keys,
        lambda: store.copy("a", "b"),
    )
    with ThreadPoolExecutor(len(calls)) as threads:
        answers = [threads.submit(call) for call in calls]
        assert [type(answer.exception()) for answer in answers] == [mr.BackendUnavailable] * len(calls)


def test_lesson_26_an_outage_during_a_download_leaves_the_old_file_and_no_other(
    namespace: str, tmp_path: Path, seaweed: SeaweedServer
) -> None:
    url = seaweed.bucket_url("morphml", "chaos", with_credentials=True)
    storage = connect(namespace, tmp_path, DEADLINE_S, artifacts=url)
    data = write_file(tmp_path / "file", 200 * MB)
    storage.artifacts.upload_file(tmp_path / "file", "a")
    target = tmp_path / "target" / "a"
    target.parent.mkdir()
    target.write_bytes(b"old")
    cut = At(16 * MB, seaweed.kill)
    with pytest.raises(mr.BackendUnavailable) as caught:
        storage.artifacts.download_file("a", target, progress=cut)
    assert type(caught.value) is mr.BackendUnavailable
    cut.check_middle(len(data))
    assert target.read_bytes() == b"old"
    assert [*target.parent.iterdir()] == [target]
    seaweed.start()
    storage.artifacts.download_file("a", target)
    assert target.read_bytes() == data
    assert [*target.parent.iterdir()] == [target]
    storage.shutdown()


def test_a_store_that_is_away_at_the_beginning_is_our_error_until_it_is_there(
    namespace: str, tmp_path: Path, seaweed: SeaweedServer
) -> None:
    url = seaweed.bucket_url("morphml", "chaos", with_credentials=True)
    seaweed.kill()
    begun = time.monotonic()
    with pytest.raises(mr.BackendUnavailable, match=r"s3://morphml/chaos") as caught:
        connect(namespace, tmp_path, DEADLINE_S, artifacts=url)
    assert type(caught.value) is mr.BackendUnavailable
    assert time.monotonic() - begun < DEADLINE_S + SLACK_S
    seaweed.start()
    storage = connect(namespace, tmp_path, DEADLINE_S, artifacts=url)
    storage.artifacts.upload_bytes(b"1", "a")
    assert storage.artifacts.list_keys() == ["a"]
    storage.shutdown()
