"""``connect()``, and what it gives."""

from collections.abc import Mapping
from typing import Any

from morphml_ray.actors.deploy import (
    HEALTH,
    count_restarts,
    find_actor,
    require_ray,
    stop_actor,
)
from morphml_ray.client.channel import Call, Channel, open_channel
from morphml_ray.client.database import (
    DEFAULT_NAME,
    DEFAULT_NAMESPACE,
    DatabaseManager,
    actor_name,
    database_settings,
    start_database_actor,
)
from morphml_ray.client.encoding import encode_experiment
from morphml_ray.client.experiment import Experiment
from morphml_ray.config import StorageConfig
from morphml_ray.errors import ConfigurationError, NotFoundError
from morphml_ray.identity import Identity

STATUS_TIMEOUT_S = 10.0


class Storage:
    """All storage of a cluster, through its actors; ``connect()`` gives it.

    It pickles: pass it to tasks.

    Attributes:
        database: experiments and evaluations.
    """

    def __init__(self, database: Channel) -> None:
        self._channel = database
        self.database = DatabaseManager.over(database)

    def __repr__(self) -> str:
        return f"Storage(database={self._channel.place!r})"

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
        experiment_id = self._channel.wait(Call("write", ("create_experiment", new)))
        found = self.database.get_experiment(experiment_id)
        if found is None:
            raise NotFoundError(f"the experiment {name!r} was deleted just now")
        return Experiment(self._channel, found.id, found.name, _check_identity(found.identity, identity, name))

    def status(self) -> dict[str, Any]:
        """Tell how the actors do; answers while they are busy.

        Returns:
            "database": place, pid, started_at, restarts, reads, pool (size, open, in_use), queue_rows, queue_bytes,
            queue_calls, commits, rows_committed, mean_batch_rows, last_batch_rows, largest_batch_rows, last_commit_at
            (seconds since the epoch), refused_calls, unexpected_errors, outage (None, or what is wrong).

        Raises:
            BackendUnavailable: an actor is gone.
            DeadlineExceeded: an actor did not answer within 10 seconds.
        """
        handle = self._channel.handle
        asked = handle.health.options(concurrency_group=HEALTH).remote()
        health: dict[str, Any] = Channel(handle, self._channel.place, STATUS_TIMEOUT_S).result(asked)
        return {"database": health | {"restarts": count_restarts(handle)}}

    def flush(self) -> None:
        """Return when everything that the actors took is committed."""
        self._channel.wait(Call("flush"))

    def shutdown(self) -> None:
        """End the actors, for everybody: they finish what they took, and let all connections go."""
        stop_actor(self._channel.handle, self._channel.deadline_s)


def connect(
    config: StorageConfig | None = None,
    *,
    database: str | None = None,
    root: str | None = None,
    namespace: str = DEFAULT_NAMESPACE,
    name: str = DEFAULT_NAME,
) -> Storage:
    """Find the storage of this cluster, or start it.

    Works in the driver, in tasks and actors, and in further drivers: all get the same actors. Settings come from the
    arguments, then ``MORPHML_*`` variables, then ``morphml.toml``, then defaults: a SQLite file below
    ``./morphml_storage``. Where nothing names a database, the one that runs is taken.

    Args:
        config: settings, instead of the arguments.
        database: URL of the database.
        root: directory of the embedded default.
        namespace: Ray namespace of the actors.
        name: of this storage; one cluster can have several.

    Raises:
        ConfigurationError: Ray is not initialized, a setting is wrong, or the database refuses the connection.
        ConflictError: the storage of this name serves another database, or has another version.
        BackendUnavailable: the database did not answer within the deadline.
    """
    require_ray()
    if config is not None and (database is not None or root is not None):
        raise ConfigurationError("give connect() either config= or single settings, not both")
    settings = config or StorageConfig(database=database, root=root)
    handle = find_actor(actor_name(name), namespace)
    is_stated = settings.is_database_stated or "root" in settings.model_fields_set
    if handle is not None and not is_stated:
        return Storage(open_channel(handle, None))
    wanted = database_settings(settings)
    return Storage(open_channel(handle or start_database_actor(wanted, name, namespace), wanted))


def find_storage(namespace: str = DEFAULT_NAMESPACE, name: str = DEFAULT_NAME) -> Storage:
    """Find the storage that runs; start nothing.

    Raises:
        NotFoundError: there is none of that name.
        ConfigurationError: Ray is not initialized.
    """
    require_ray()
    handle = find_actor(actor_name(name), namespace)
    if handle is None:
        raise NotFoundError(f"no storage {name!r} runs in the namespace {namespace!r} of this cluster")
    return Storage(open_channel(handle, None))


def _check_identity(stored: str, wanted: Identity | None, name: str) -> Identity:
    if wanted is None and stored == "custom":
        raise ConfigurationError(f"the experiment {name!r} has an identity function: give it again, as identity=")
    stated = "custom" if callable(wanted) else wanted
    if stated not in (None, stored):
        raise ConfigurationError(f"the experiment {name!r} has the identity {stored!r}, not {stated!r}")
    return wanted if callable(wanted) else stored  # type: ignore[return-value]  # the two words, as checked when stored
