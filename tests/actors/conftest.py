"""Fixtures for what users call."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from near_actor import NearChannel
from outages import purge
from stores import end, open_store

import morphml_ray as mr
from morphml_ray.artifacts import file_transfers
from morphml_ray.artifacts.actor.actor import ArtifactSettings
from morphml_ray.artifacts.node_actors import ArtifactActors
from morphml_ray.config import BackendUrl
from morphml_ray.devstack import PostgresServer, ValkeyServer
from morphml_ray.rpc.cluster import this_node


@pytest.fixture(scope="session")
def shared_namespace(cluster: None) -> str:
    """The Ray namespace of the two storages that tests share, where they end and count no actors.

    Three processes a storage take six seconds of computing to start.
    """
    del cluster
    return "shared"


@pytest.fixture(scope="session")
def files_storage(shared_namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[mr.Storage]:
    """A storage of the session, on SQLite, in memory and in a directory."""
    storage = mr.connect(root=str(tmp_path_factory.mktemp("shared")), namespace=shared_namespace)
    yield storage
    storage.shutdown()


@pytest.fixture(scope="session")
def shared_postgres_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """The URL of the database of ``servers_storage``."""
    yield postgres_server.create_database("shared", template=migrated_template)
    postgres_server.drop_database("shared")


@pytest.fixture(scope="session")
def servers_storage(
    shared_namespace: str,
    shared_postgres_url: str,
    valkey_server: ValkeyServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[mr.Storage]:
    """A storage of the session, on PostgreSQL, on Valkey and in a directory."""
    storage = mr.connect(
        database=shared_postgres_url,
        cache=valkey_server.url,
        root=str(tmp_path_factory.mktemp("servers")),
        namespace=shared_namespace,
        name="servers",
    )
    yield storage
    storage.shutdown()


@pytest.fixture
def shared_sqlite_storage(files_storage: mr.Storage) -> Iterator[mr.Storage]:
    """A storage on SQLite without experiments."""
    yield files_storage
    delete_experiments(files_storage)


@pytest.fixture
def shared_postgres_storage(servers_storage: mr.Storage) -> Iterator[mr.Storage]:
    """A storage on PostgreSQL without experiments."""
    yield servers_storage
    delete_experiments(servers_storage)


@pytest.fixture(params=["sqlite", "postgres"])
def shared_storage(request: pytest.FixtureRequest, cluster: None) -> mr.Storage:
    """A storage without experiments, on each technology."""
    del cluster
    found: mr.Storage = request.getfixturevalue(f"shared_{request.param}_storage")
    return found


def delete_experiments(storage: mr.Storage) -> None:
    for experiment in storage.database.list_experiments():
        storage.database.delete_experiment(experiment.id)


@pytest.fixture(params=["memory", "valkey"])
def any_cache_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty cache, once on each technology."""
    found: str = "memory://" if request.param == "memory" else request.getfixturevalue("cache_url")
    return found


@pytest.fixture(params=["memory", "valkey"])
def cache(request: pytest.FixtureRequest, cluster: None) -> Iterator[mr.DistributedCache]:
    """A cache that is empty, once on each technology."""
    del cluster
    if request.param == "valkey":
        yield request.getfixturevalue("valkey_cache")
        return
    storage: mr.Storage = request.getfixturevalue("files_storage")
    storage.cache.clear_all()
    yield storage.cache
    storage.cache.clear_all()


@pytest.fixture
def valkey_cache(cache_url: str, servers_storage: mr.Storage) -> mr.DistributedCache:
    """A cache on Valkey that is empty."""
    del cache_url  # empties it
    return servers_storage.cache


@pytest.fixture(params=["local", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, once on each technology."""
    if request.param == "local":
        return f"file://{tmp_path}/artifacts"
    found: str = request.getfixturevalue("artifacts_url")
    return found


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, cluster: None) -> mr.ArtifactStore:
    """A store that is empty, once on each technology."""
    del cluster
    found: mr.ArtifactStore = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture
def local_store(files_storage: mr.Storage) -> Iterator[mr.ArtifactStore]:
    """A store in a directory that is empty; no unfinished upload may be left there."""
    store = files_storage.artifacts
    yield store
    ray.get([store.delete.remote(key) for key in store.list_keys()])
    assert purge(store) == 0, "the test left unfinished uploads behind"


@pytest.fixture
def s3_store(artifacts_url: str, namespace: str) -> Iterator[mr.ArtifactStore]:
    """A store of the test's own: on SeaweedFS a key "a" fails for a while after "a/b" was deleted."""
    found = open_store(artifacts_url, namespace)
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
