"""Fixtures for what users call."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from caches import open_cache
from near_actor import NearChannel
from stores import end, open_store

import morphml_ray as mr
from morphml_ray.artifacts import file_transfers
from morphml_ray.artifacts.actor.actor import ArtifactSettings
from morphml_ray.artifacts.node_actors import ArtifactActors
from morphml_ray.config import BackendUrl
from morphml_ray.rpc.cluster import this_node
from morphml_ray.rpc.deploy import stop_actor


@pytest.fixture(params=["memory", "valkey"])
def any_cache_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty cache, once on each technology."""
    found: str = "memory://" if request.param == "memory" else request.getfixturevalue("cache_url")
    return found


@pytest.fixture
def cache(any_cache_url: str, namespace: str) -> Iterator[mr.DistributedCache]:
    """A cache of the test's own."""
    found = open_cache(any_cache_url, "morphml", namespace)
    yield found
    stop_actor(found.channel.handle, 10)


@pytest.fixture
def valkey_cache(cache_url: str, namespace: str) -> Iterator[mr.DistributedCache]:
    """A cache of the test's own on Valkey."""
    found = open_cache(cache_url, "morphml", namespace)
    yield found
    stop_actor(found.channel.handle, 10)


@pytest.fixture(params=["local", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, once on each technology."""
    if request.param == "local":
        return f"file://{tmp_path}/artifacts"
    found: str = request.getfixturevalue("artifacts_url")
    return found


@pytest.fixture
def store(store_url: str, namespace: str) -> Iterator[mr.ArtifactStore]:
    """A store of the test's own."""
    found = open_store(store_url, namespace)
    yield found
    end(found)


@pytest.fixture
def local_store(tmp_path: Path, namespace: str) -> Iterator[mr.ArtifactStore]:
    """A store of the test's own in a directory."""
    found = open_store(f"file://{tmp_path}/artifacts", namespace)
    yield found
    end(found)


@pytest.fixture
def near_store(cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[mr.ArtifactStore]:
    """A store of the test's own in a directory, whose actor is a plain object of this process."""
    del cluster
    monkeypatch.setattr(file_transfers, "_is_done", lambda _: True)
    settings = ArtifactSettings(BackendUrl(f"file://{tmp_path}/near"), 10, this_node())
    with contextlib.closing(NearChannel(settings)) as channel:
        yield mr.ArtifactStore.over(ArtifactActors(settings, "near", "near", channel))
