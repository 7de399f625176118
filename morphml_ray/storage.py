"""``connect()``, and what it gives."""

import contextlib
from collections.abc import Mapping
from typing import Any

import ray
from ray.actor import ActorHandle

from morphml_ray.artifacts.node_actors import ArtifactActors, artifact_prefix, find_artifacts, start_artifacts
from morphml_ray.artifacts.store import ArtifactStore, artifact_settings
from morphml_ray.cache.actor import CacheSettings
from morphml_ray.cache.manager import (
    DistributedCache,
    cache_actor_name,
    cache_settings,
    start_cache_actor,
)
from morphml_ray.config import DEFAULT_NAME, DEFAULT_NAMESPACE, DEFAULT_PREFIX, StorageConfig
from morphml_ray.database.actor import DatabaseActor, DatabaseSettings
from morphml_ray.database.contract import DatabaseWrites
from morphml_ray.database.encoding import encode_experiment
from morphml_ray.database.manager import (
    DatabaseManager,
    actor_name,
    database_settings,
    start_database_actor,
)
from morphml_ray.errors import BackendUnavailable, ConfigurationError, MorphMLRayError, NotFoundError
from morphml_ray.experiments.experiment import Experiment
from morphml_ray.identity import Identity
from morphml_ray.rpc.call import call
from morphml_ray.rpc.channel import Channel, open_channel
from morphml_ray.rpc.deploy import (
    ask_beside,
    count_restarts,
    find_actor,
    find_actors,
    require_ray,
    stop_actor,
)
from morphml_ray.rpc.description import StorageActor

STATUS_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0


class Storage:
    """All storage of a cluster, through its actors; ``connect()`` gives it.

    It pickles: pass it to tasks.

    Attributes:
        database: experiments and evaluations.
        cache: values that can be computed again.
        artifacts: large objects.
    """

    def __init__(self, database: Channel, cache: Channel, artifacts: ArtifactActors) -> None:
        self._channel = database
        self.database = DatabaseManager.over(database)
        self.cache = DistributedCache.over(cache)
        self.artifacts = ArtifactStore.over(artifacts)

    def __repr__(self) -> str:
        return f"Storage(database={self.database!r}, cache={self.cache!r}, artifacts={self.artifacts!r})"

    def experiment(
        self,
        name: str,
        *,
        objectives: Mapping[str, str] | None = None,
        config: Any = None,
        identity: Identity | None = None,
    ) -> Experiment:
        """Get or create an experiment.

        Args:
            name: unique.
            objectives: metric -> "max" or "min"; the first one is the fitness. Used when it is created.
            config: whatever describes it. Used when it is created.
            identity: how architectures are told apart: "structural" (the default: renumbered graphs are equal),
                "exact", or a function from an architecture to the text or dict that identifies it.

        Raises:
            ConfigurationError: it exists with another identity.
            ValidationError: an argument cannot be stored.
        """
        new = encode_experiment(name, config, objectives, "reuse", identity or "structural")
        experiment_id = self._channel.wait(call(DatabaseActor.write, DatabaseWrites.create_experiment, new))
        found = self.database.get_experiment(experiment_id)
        if found is None:
            raise NotFoundError(f"the experiment {name!r} was deleted just now")
        return Experiment(self._channel, found.id, found.name, _check_identity(found.identity, identity, name))

    def status(self) -> dict[str, Any]:
        """Tell the status of the actors; answers while they are busy.

        Returns:
            Of each: place, pid, started_at (seconds since the epoch), restarts, and

            - "database": reads, pool (size, open, in_use), queue_rows, queue_bytes, queue_calls, commits,
              rows_committed, mean_batch_rows, last_batch_rows, largest_batch_rows, last_commit_at, refused_calls,
              unexpected_errors, outage (None, or what is wrong);
            - "cache": prefix, is_open; ``cache.get_statistics()`` counts;
            - "artifacts", under the beginning of each node's id: is_open, outage, transfers, waiting, held_bytes,
              ended, refused.

        Raises:
            BackendUnavailable: an actor is gone.
            DeadlineExceeded: an actor did not answer within 10 seconds.
        """
        nodes = self.artifacts.actors.running()
        handles = {"database": self._channel.handle, "cache": self.cache.channel.handle, **nodes}
        asked = {name: _ask_health(handle) for name, handle in handles.items()}
        artifacts = {}
        for node, handle in nodes.items():
            with contextlib.suppress(BackendUnavailable):  # gone with its node
                artifacts[node] = _health(handle, f"the artifacts on node {node}", asked[node])
        return {
            "database": _health(self._channel.handle, self._channel.place, asked["database"]),
            "cache": _health(self.cache.channel.handle, self.cache.channel.place, asked["cache"]),
            "artifacts": artifacts,
        }

    def flush(self) -> None:
        """Return when everything that the actors took is committed or uploaded."""
        self._channel.wait(call(DatabaseActor.flush))
        self.artifacts.actors.flush()

    def shutdown(self) -> None:
        """End the actors, for everybody: they finish what they took, and let all connections go."""
        for facade in (self.artifacts, self.cache, self.database):
            facade.shutdown()


def connect(
    config: StorageConfig | None = None,
    *,
    database: str | None = None,
    cache: str | None = None,
    artifacts: str | None = None,
    root: str | None = None,
    namespace: str = DEFAULT_NAMESPACE,
    name: str = DEFAULT_NAME,
) -> Storage:
    """Find the storage of this cluster, or start it.

    Works in the driver, in tasks and actors, and in further drivers: all get the same actors. Settings come from the
    arguments, then ``MORPHML_*`` variables, then ``morphml.toml``, then defaults: below ``./morphml_storage`` a SQLite
    file and a directory of artifacts, and a cache in memory. Of what nothing names, that which runs is taken.

    Args:
        config: settings, instead of the arguments.
        database: URL of the database.
        cache: URL of the cache.
        artifacts: URL of the artifacts.
        root: directory of the embedded default.
        namespace: Ray namespace of the actors.
        name: of this storage; one cluster can have several.

    Raises:
        ConfigurationError: Ray is not initialized, a setting is wrong, or a server refuses the credentials.
        ConflictError: the storage of this name serves other places, or has another version.
        BackendUnavailable: the database or the artifacts did not answer within the deadline.
    """
    require_ray()
    stated = {"database": database, "cache": cache, "artifacts": artifacts, "root": root}
    if config is not None and any(value is not None for value in stated.values()):
        raise ConfigurationError("give connect() either config= or single settings, not both")
    settings = config or StorageConfig(**stated)
    before = _actors(name, namespace)
    try:
        return _connect(settings, name, namespace, is_new=not before)
    except MorphMLRayError:
        # What was started just now would be in the way of a call with other settings, and nobody holds it.
        for key, handle in _actors(name, namespace).items():
            if key not in before:
                stop_actor(handle, STOP_TIMEOUT_S)
        raise


def _connect(settings: StorageConfig, name: str, namespace: str, *, is_new: bool) -> Storage:
    # All are started before one is waited for: their processes come up side by side. The artifacts first: whoever
    # finds another actor of a storage, and none of these, knows that they are gone.
    is_stated = settings.are_artifacts_stated or "root" in settings.model_fields_set
    large = start_artifacts(artifact_settings(settings), name, namespace, is_stated=is_stated, is_new=is_new)
    results = _find_database(settings, name, namespace)
    values = _find_cache(settings, name, namespace)
    return Storage(open_channel(*results), open_channel(*values), large.open())


def _actors(name: str, namespace: str) -> "dict[str, ActorHandle[Any]]":
    """Find all actors of a storage that run."""
    found = {key: find_actor(key, namespace) for key in (actor_name(name), cache_actor_name(name))}
    return {key: handle for key, handle in found.items() if handle is not None} | find_actors(
        artifact_prefix(name), namespace
    )


def find_storage(namespace: str = DEFAULT_NAMESPACE, name: str = DEFAULT_NAME) -> Storage:
    """Find the storage that runs; start nothing on a node that has its actors.

    Raises:
        NotFoundError: there is none of that name.
        ConfigurationError: Ray is not initialized.
    """
    require_ray()
    database, cache = find_actor(actor_name(name), namespace), find_actor(cache_actor_name(name), namespace)
    artifacts = find_artifacts(name, namespace)
    if database is None or cache is None or artifacts is None:
        raise NotFoundError(f"no storage {name!r} runs in the namespace {namespace!r} of this cluster")
    return Storage(open_channel(database, None), open_channel(cache, None), artifacts)


def _find_database(
    config: StorageConfig, name: str, namespace: str
) -> "tuple[ActorHandle[Any], DatabaseSettings | None]":
    handle = find_actor(actor_name(name), namespace)
    if handle is not None and not (config.is_database_stated or "root" in config.model_fields_set):
        return handle, None
    wanted = database_settings(config)
    return handle or start_database_actor(wanted, name, namespace), wanted


def _find_cache(config: StorageConfig, name: str, namespace: str) -> "tuple[ActorHandle[Any], CacheSettings | None]":
    handle = find_actor(cache_actor_name(name), namespace)
    if handle is not None and not config.is_cache_stated:
        return handle, None
    # Storages on one server have keys of their own.
    wanted = cache_settings(config, DEFAULT_PREFIX if name == DEFAULT_NAME else f"{DEFAULT_PREFIX}:{name}")
    return handle or start_cache_actor(wanted, name, namespace), wanted


def _ask_health(handle: "ActorHandle[Any]") -> "ray.ObjectRef[dict[str, Any]]":
    return ask_beside(handle, call(StorageActor.health))


def _health(handle: "ActorHandle[Any]", place: str, asked: "ray.ObjectRef[dict[str, Any]]") -> dict[str, Any]:
    health = Channel(handle, place, STATUS_TIMEOUT_S).result(asked)
    return health | {"restarts": count_restarts(handle)}


def _check_identity(stored: str, wanted: Identity | None, name: str) -> Identity:
    if wanted is None and stored == "custom":
        raise ConfigurationError(f"the experiment {name!r} has an identity function: give it again, as identity=")
    stated = "custom" if callable(wanted) else wanted
    if stated not in (None, stored):
        raise ConfigurationError(f"the experiment {name!r} has the identity {stored!r}, not {stated!r}")
    return wanted if callable(wanted) else stored  # type: ignore[return-value]  # the two words, as checked when stored
