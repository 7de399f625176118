"""A cluster of two nodes on this machine, for what a session with one node cannot show; a program of its own."""

import sys
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

import morphml_ray as mr

# A lost node is noticed within seconds.
IMPATIENT = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}


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


def main(url: str, folder: Path) -> None:
    """Run it all."""
    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 2**27, "_system_config": IMPATIENT}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        ray.init(cluster.address, namespace="test", log_to_driver=False)
        second = cluster.add_node(num_cpus=1, resources={"second": 1}, object_store_memory=2**27)
        cluster.wait_for_nodes()
        storage = try_directory(folder)
        store = try_bucket(url, folder)
        cluster.remove_node(second, allow_graceful=False)
        give_up_at = time.monotonic() + 30
        while len(store.actors.running()) > 1:
            assert time.monotonic() < give_up_at
            time.sleep(0.2)
        assert store.download_bytes("second") == b"from the second node"
        assert [*storage.status()["artifacts"]] == [storage.artifacts.channel.node_id[:16]]
        storage.shutdown()
        for handle in store.actors.running().values():
            ray.kill(handle)
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]  # Ray's


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
