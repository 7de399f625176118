"""``connect()``, and what it gives."""

import contextlib
import difflib
import logging
from collections.abc import Mapping
from typing import Any, NoReturn

import ray
from ray.actor import ActorHandle

from morphml_ray.artifacts.node_actors import ArtifactActors, find_artifacts, meet_artifacts
from morphml_ray.artifacts.store import ArtifactStore, artifact_settings
from morphml_ray.cache.actor import CacheActor, CacheSettings
from morphml_ray.cache.manager import DistributedCache, cache_address, cache_settings
from morphml_ray.config import DEFAULT_NAME, DEFAULT_NAMESPACE, DEFAULT_PREFIX, StorageConfig
from morphml_ray.database.actor import DatabaseActor, DatabaseSettings
from morphml_ray.database.contract import DatabaseWrites
from morphml_ray.database.encoding import encode_experiment
from morphml_ray.database.manager import DatabaseManager, database_address, database_settings
from morphml_ray.errors import BackendUnavailable, ConfigurationError, NotFoundError
from morphml_ray.experiments.experiment import Experiment
from morphml_ray.identity import Identity
from morphml_ray.model.arguments import text
from morphml_ray.model.records import ExperimentRecord
from morphml_ray.rpc.call import call
from morphml_ray.rpc.channel import Channel
from morphml_ray.rpc.cluster import require_ray
from morphml_ray.rpc.deploy import ask_beside, count_restarts
from morphml_ray.rpc.description import StorageActor
from morphml_ray.rpc.visit import Met, Visit

STATUS_TIMEOUT_S = 10.0
_NAMES_LOOKED_AT = 1_000


logger = logging.getLogger(__name__)


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
            objectives: metric -> "max" or "min"; the first one is the fitness. None takes what it has.
            config: whatever describes it. Used when it is created.
            identity: how architectures are told apart: "structural" (the default: renumbered graphs are equal),
                "exact", or a function from an architecture to the text or dict that identifies it.

        Raises:
            ConfigurationError: it exists with another identity, or with other objectives.
            ValidationError: an argument cannot be stored.
        """
        new = encode_experiment(name, config, objectives, "reuse", identity or "structural")
        experiment_id = self._channel.wait(call(DatabaseActor.write, DatabaseWrites.create_experiment, new))
        found = self.database.get_experiment(experiment_id)
        if found is None:
            raise NotFoundError(f"the experiment {name!r} was deleted just now")
        return self._opened(found, identity)

    def get_experiment(self, name: str, *, identity: Identity | None = None) -> Experiment:
        """Get an experiment that exists.

        Args:
            name: of the experiment.
            identity: the function by which its architectures are told apart, where it was created with one.

        Raises:
            NotFoundError: there is none of that name; the message offers names like it.
            ConfigurationError: it has another identity.
        """
        found = self.database.get_experiment_by_name(name)
        if found is None:
            raise NotFoundError(f"there is no experiment {name!r}{self._names_like(name)}")
        return self._opened(found, identity)

    def _opened(self, found: ExperimentRecord, identity: Identity | None) -> Experiment:
        return Experiment(self._channel, found.id, found.name, _check_identity(found.identity, identity, found.name))

    def _names_like(self, name: str) -> str:
        names = [found.name for found in self.database.list_experiments(limit=_NAMES_LOOKED_AT)]
        near = difflib.get_close_matches(name, names, n=3) or names[:5]
        return f"; there are: {', '.join(map(repr, near))}" if near else ""

    def status(self) -> dict[str, Any]:
        """Tell the status of the actors; answers while they are busy.

        Returns:
            Of each: place, pid, started_at (seconds since the epoch), restarts, and

            - "database": reads, pool (size, open, in_use), queue_rows, queue_bytes, queue_calls, commits,
              rows_committed, mean_batch_rows, last_batch_rows, largest_batch_rows, last_commit_at, refused_calls,
              unexpected_errors, outage (None, or what is wrong);
            - "cache": prefix, is_open, outage; ``cache.get_statistics()`` counts;
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
                artifacts[node] = _health(self.artifacts.actors.first, handle, asked[node])
        return {
            "database": _health(self._channel, handles["database"], asked["database"]),
            "cache": _health(self.cache.channel, handles["cache"], asked["cache"]),
            "artifacts": artifacts,
        }

    def flush(self) -> None:
        """Return when everything that the actors took is committed or uploaded."""
        self._channel.wait(call(DatabaseActor.flush))
        self.artifacts.actors.flush()

    def shutdown(self) -> None:
        """End the actors, for everybody: they finish what they took, and close all connections."""
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
    file and a directory of artifacts, and a cache in memory. ``root`` as an argument opens the embedded storage there,
    whatever variables and the file name. Of what nothing names, that which runs is taken.

    Args:
        config: settings, instead of the arguments.
        database: URL of the database.
        cache: URL of the cache.
        artifacts: URL of the artifacts.
        root: directory of the embedded storage.
        namespace: Ray namespace of the actors.
        name: of this storage; one cluster can have several.

    Raises:
        ConfigurationError: Ray is not initialized, a setting is wrong, or a server refuses the credentials.
        ValidationError: the name or the namespace is no text.
        ConflictError: the storage of this name serves other places, or has another version.
        BackendUnavailable: the database or the artifacts did not answer within the deadline.
    """
    require_ray()
    stated = {"database": database, "cache": cache, "artifacts": artifacts, "root": root}
    if config is not None and any(value is not None for value in stated.values()):
        raise ConfigurationError("give connect() either config= or single settings, not both")
    # Plain ones, for no other process need have the class of an Enum of texts.
    name, namespace = text(name, "name"), text(namespace, "namespace")
    with Visit() as visit:
        return _connect(visit, config or StorageConfig(**stated), name, namespace)


def _connect(visit: Visit, settings: StorageConfig, name: str, namespace: str) -> Storage:
    # Whoever makes the database's actor makes the storage; others learn that they want another one before they make
    # anything. Where all are new they come up side by side: none is waited for before all are made.
    results = _meet_database(visit, settings, name, namespace)
    large = meet_artifacts(
        visit,
        lambda: artifact_settings(settings),
        name,
        namespace,
        is_stated=settings.are_artifacts_stated or settings.is_root_stated,
        is_new=results.is_new,
    )
    values = _meet_cache(visit, settings, name, namespace)
    database, cache = visit.open(results, results.channel()), visit.open(values, values.channel())
    _tell_outage(values.handle, cache)
    return Storage(database, cache, large.open(visit))


def find_storage(namespace: str = DEFAULT_NAMESPACE, name: str = DEFAULT_NAME) -> Storage:
    """Find the storage that runs, and wait for no backend; start nothing on a node that has its actors.

    Raises:
        NotFoundError: there is none of that name.
        ConfigurationError: Ray is not initialized.
    """
    name, namespace = text(name, "name"), text(namespace, "namespace")

    def refuse() -> NoReturn:
        raise NotFoundError(f"no storage {name!r} runs in the namespace {namespace!r} of this cluster")

    with Visit() as visit:
        database = visit.meet(DatabaseActor, database_address(name, namespace), refuse, is_stated=False)
        cache = visit.meet(CacheActor, cache_address(name, namespace), refuse, is_stated=False)
    artifacts = find_artifacts(name, namespace) or refuse()
    return Storage(database.channel(), cache.channel(), artifacts)


def _meet_database(visit: Visit, config: StorageConfig, name: str, namespace: str) -> Met[DatabaseSettings]:
    is_stated = config.is_database_stated or config.is_root_stated
    address = database_address(name, namespace)
    return visit.meet(DatabaseActor, address, lambda: database_settings(config), is_stated=is_stated)


def _meet_cache(visit: Visit, config: StorageConfig, name: str, namespace: str) -> Met[CacheSettings]:
    # Storages on one server have keys of their own.
    prefix = DEFAULT_PREFIX if name == DEFAULT_NAME else f"{DEFAULT_PREFIX}:{name}"
    address = cache_address(name, namespace)
    is_stated = config.is_cache_stated or config.is_root_stated
    return visit.meet(CacheActor, address, lambda: cache_settings(config, prefix), is_stated=is_stated)


def _tell_outage(handle: "ActorHandle[Any]", cache: Channel) -> None:
    """Log that a cache is unavailable: unlike other backends it keeps nobody waiting."""
    outage = cache.result_within(_ask_health(handle), STATUS_TIMEOUT_S)["outage"]
    if outage is not None:
        logger.warning("%s is unavailable, and goes on without being asked: %s", cache.place, outage)


def _ask_health(handle: "ActorHandle[Any]") -> "ray.ObjectRef[dict[str, Any]]":
    return ask_beside(handle, call(StorageActor.health))


def _health(channel: Channel, handle: "ActorHandle[Any]", asked: "ray.ObjectRef[dict[str, Any]]") -> dict[str, Any]:
    health = channel.result_within(asked, STATUS_TIMEOUT_S)
    return health | {"restarts": count_restarts(handle)}


def _check_identity(stored: str, wanted: Identity | None, name: str) -> Identity:
    if wanted is None and stored == "custom":
        raise ConfigurationError(f"the experiment {name!r} has an identity function: give it again, as identity=")
    stated = "custom" if callable(wanted) else wanted
    if stated not in (None, stored):
        raise ConfigurationError(f"the experiment {name!r} has the identity {stored!r}, not {stated!r}")
    return wanted if callable(wanted) else stored  # type: ignore[return-value]  # the two words, as checked when stored
