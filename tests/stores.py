"""Stores of a test's own, with nothing else of a storage, and files to put into them."""

from pathlib import Path

import numpy as np

import morphml_ray as mr
from morphml_ray.artifacts.node_actors import open_artifacts
from morphml_ray.artifacts.store import artifact_settings
from morphml_ray.rpc.deploy import stop_actor

MB = 1024 * 1024


def open_store(url: str, namespace: str, name: str = "test") -> mr.ArtifactStore:
    return mr.ArtifactStore.over(open_artifacts(artifact_settings(mr.StorageConfig(artifacts=url)), name, namespace))


def end(store: mr.ArtifactStore) -> None:
    for handle in store.actors.running().values():
        stop_actor(handle, 10)


def write_file(path: Path, size_bytes: int) -> bytes:
    data = np.random.default_rng(size_bytes).bytes(size_bytes)
    path.write_bytes(data)
    return data
