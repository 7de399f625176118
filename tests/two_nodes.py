"""A cluster of two nodes on this machine, for what a session with one node cannot show; a program of its own."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import ray
from outages import purge
from ray.cluster_utils import Cluster
from waiting import wait_until

import morphml_ray as mr

DEADLINE_S = 3.0
# What a call may take beyond that, at most.
SLACK_S = 20.0
SIZE_BYTES = 64 * 1024 * 1024
# A lost node is noticed within seconds.
IMPATIENT = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}
SECOND: dict[str, Any] = {"num_cpus": 1, "resources": {"second": 1}, "object_store_memory": 2**27}


@ray.remote(num_cpus=0, resources={"second": 0.1})
def use(store: mr.ArtifactStore, folder: Path) -> tuple[str, str, bytes, int]:
    """Read what the other node wrote, write what it will read."""
    (folder / "file").write_bytes(b"from the second node")
    store.upload_file(folder / "file", "second")
    here = ray.get_runtime_context().get_node_id()
    return here, store.channel.node_id, store.download_bytes("first"), len(store.actors.running())


@ray.remote(num_cpus=0, resources={"second": 0.1})
def find() -> tuple[str, bytes]:
    """Find the storage of the other node."""
    storage = mr.connect()
    return storage.artifacts.channel.node_id, storage.artifacts.download_bytes("first")


@ray.remote(num_cpus=0, resources={"second": 0.1})
def settle(root: str) -> tuple[mr.Storage, str]:
    """Make a storage that is on this node only, or find it again after the node was away."""
    storage = mr.connect(mr.StorageConfig(root=root, deadline_s=DEADLINE_S), name="away")
    if not storage.artifacts.exists("first"):
        storage.artifacts.upload_bytes(b"from the second node", "first")
    storage.experiment("one").record({"a": 1}, 0.25)
    return storage, storage.artifacts.download_bytes("first").decode()


@ray.remote(num_cpus=0, resources={"second": 0.1}, max_retries=0)
def send_half(store: mr.ArtifactStore, path: Path) -> None:
    """Begin to send a file that the actor does not see, and stop in the middle."""

    def stay(moved_bytes: int) -> None:
        if moved_bytes >= SIZE_BYTES // 4:
            path.with_suffix(".sent").touch()
            time.sleep(600)

    path.write_bytes(bytes(SIZE_BYTES))
    with mock.patch("morphml_ray.artifacts.file_transfers._sees_file", return_value=False):
        store.upload_file(path, "half", progress=stay)


def try_bucket(url: str, folder: Path) -> mr.ArtifactStore:
    """Each node has an actor of its own, from its first use on."""
    store = mr.ArtifactStore.from_url(url)
    store.upload_bytes(b"from the first node", "first")
    assert len(store.actors.running()) == 1
    for _ in range(2):
        here, serving, data, count = ray.get(use.remote(store, folder))
        assert (serving, data, count) == (here, b"from the first node", 2)
        assert here != store.channel.node_id
    assert store.download_bytes("second") == b"from the second node"
    return store


def try_directory(folder: Path) -> mr.Storage:
    """A directory is on one node only, whoever uses it."""
    storage = mr.connect(root=str(folder / "store"))
    storage.artifacts.upload_bytes(b"from the home node", "first")
    home = ray.get_runtime_context().get_node_id()
    assert ray.get(find.remote()) == (home, b"from the home node")
    _, serving, data, count = ray.get(use.remote(storage.artifacts, folder))
    assert (serving, data, count) == (home, b"from the home node", 1)
    return storage


def try_lost_home(storage: mr.Storage) -> None:
    """What was on the lost node only is unavailable, and says so in time."""
    calls: list[Callable[[], object]] = [
        lambda: storage.artifacts.download_bytes("first"),
        lambda: storage.artifacts.upload_bytes(b"1", "second"),
        lambda: storage.database.get_experiment("one"),
        lambda: storage.database.save_architecture("one", {"a": 2}, 1.0),
    ]
    for call in calls:
        begun = time.monotonic()
        with pytest.raises(mr.BackendUnavailable):
            call()
        assert time.monotonic() - begun < DEADLINE_S + SLACK_S


def try_returned_home(folder: Path) -> None:
    """The node is back, to Ray a new one: connecting there again finds all that is in its directory."""
    storage, first = ray.get(settle.remote(str(folder / "away")))
    assert first == "from the second node"
    assert storage.experiment("one").statistics()["num_evaluations"] == 1
    assert storage.artifacts.list_keys() == ["first"]
    storage.shutdown()


def try_lost_transfer(store: mr.ArtifactStore, half: "ray.ObjectRef[None]") -> None:
    """Of what the lost node was sending nothing is seen, and somebody else can free it."""
    with pytest.raises(ray.exceptions.RayError):
        ray.get(half, timeout=30)
    assert store.list_keys() == ["first", "second"]
    assert purge(store) == 1
    assert store.download_bytes("second") == b"from the second node"
    store.upload_bytes(b"again", "half")
    assert store.download_bytes("half") == b"again"


def main(url: str, folder: Path) -> None:
    """Run it all."""
    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 2**27, "_system_config": IMPATIENT}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        ray.init(cluster.address, namespace="test", log_to_driver=False)
        second = cluster.add_node(**SECOND)
        cluster.wait_for_nodes()
        storage = try_directory(folder)
        store = try_bucket(url, folder)
        away, _ = ray.get(settle.remote(str(folder / "away")))
        half = send_half.remote(store, folder / "half")
        wait_until((folder / "half.sent").exists, 30)
        cluster.remove_node(second, allow_graceful=False)
        wait_until(lambda: len(store.actors.running()) == 1, 30)
        try_lost_home(away)
        try_lost_transfer(store, half)
        cluster.add_node(**SECOND)
        try_returned_home(folder)
        assert [*storage.status()["artifacts"]] == [storage.artifacts.channel.node_id[:16]]
        storage.shutdown()
        for handle in store.actors.running().values():
            ray.kill(handle)
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]  # Ray's


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
