"""The database's facade."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from morphml_ray.config import DEFAULT_NAME, DEFAULT_NAMESPACE, StorageConfig, fingerprint, stash_secret
from morphml_ray.database.actor import DatabaseActor, DatabaseSettings
from morphml_ray.database.contract import DatabaseReads, DatabaseWrites, SaveUnit
from morphml_ray.database.encoding import (
    Scope,
    encode_experiment,
    encode_key,
    encode_records,
    encode_where,
    experiment_ref,
    new_write_id,
)
from morphml_ray.database.parts import save_in_parts
from morphml_ray.database.recording import saves
from morphml_ray.database.scopes import scope_of
from morphml_ray.errors import ValidationError
from morphml_ray.identity import encode_architecture
from morphml_ray.model.arguments import count, text, word
from morphml_ray.model.records import (
    EVALUATION_STATUSES,
    EXPERIMENT_STATUSES,
    ArchitectureRecord,
    Direction,
    EvaluationStatus,
    ExperimentRecord,
    ExperimentStatus,
    IfExists,
)
from morphml_ray.rpc.call import Answer, Call, call
from morphml_ray.rpc.channel import Channel, Prepared
from morphml_ray.rpc.cluster import require_ray
from morphml_ray.rpc.deploy import ActorAddress
from morphml_ray.rpc.remote_method import remote_method
from morphml_ray.rpc.visit import open_actor

MAX_PAGE = 100_000
LONG_PAGE = 10_000
"""Longer pages go the way of long reads."""


class DatabaseManager:
    """Experiments and the evaluations of their architectures, through the database actor.

    Every method blocks until its answer is there; a write's answer means that it is committed. Every method has
    ``.remote(...)``, which returns a Ray ``ObjectRef`` of the same value at once. ``experiment_id`` is the int, the
    experiment's name, or else, where none has that name, the int as text. The object pickles: pass it to tasks.

    Args:
        connection_string: ``sqlite:///path``, ``postgresql://user:password@host/database``, ``env:NAME`` or
            ``file:/path``. The running actor of that database is used, or one is started.
        pool_size: connections of the actor at most, whatever the number of workers.
        echo: log every SQL statement in the actor.

    Raises:
        ConfigurationError: Ray is not initialized, the URL is wrong, or the database refuses it.
        ConflictError: the SQLite file is in use by another process.
        BackendUnavailable: the database did not answer within the deadline.
    """

    channel: Channel

    def __init__(self, connection_string: str, pool_size: int = 5, echo: bool = False) -> None:
        require_ray()
        config = StorageConfig(database=connection_string, pool_size=pool_size, echo=echo)
        settings = database_settings(config)
        own, shared = (database_address(name, DEFAULT_NAMESPACE) for name in (fingerprint(settings.url), DEFAULT_NAME))
        self.channel = open_actor(DatabaseActor, settings, own, shared=shared)

    @classmethod
    def over(cls, channel: Channel) -> "DatabaseManager":
        """Make a facade over an actor that is known already."""
        facade = cls.__new__(cls)
        facade.channel = channel
        return facade

    def __repr__(self) -> str:
        return f"DatabaseManager({self.channel.place!r})"

    def scope_of(self, experiment_id: int | str) -> Scope:
        """Tell how the architectures of an experiment are told apart; asks the actor once a process.

        Raises:
            ConfigurationError: by a function, which only who made the experiment has.
        """
        return scope_of(self.channel, experiment_ref(experiment_id))

    def close(self) -> None:
        """Do nothing: the actor serves others too; ``shutdown()`` ends it."""

    def shutdown(self) -> None:
        """End the actor, for everybody, when it has committed what it took; the database stays."""
        self.channel.shutdown()

    @remote_method
    def create_experiment(
        self,
        name: str,
        config: Any,
        *,
        objectives: Mapping[str, str] | None = None,
        if_exists: IfExists = "error",
    ) -> Call[int]:
        """Create an experiment and give its id; its status is "running".

        Args:
            name: unique.
            config: whatever describes it: plain values; ``config["optimizer"]`` is kept as its optimizer.
            objectives: metric -> "max" or "min"; the first one is the fitness. Without any, higher is better.
            if_exists: "error", or "reuse" of the experiment of that name.

        Raises:
            AlreadyExistsError: the name is taken.
            ValidationError: an argument cannot be stored.
        """
        new = encode_experiment(name, config, objectives, if_exists)
        return call(DatabaseActor.write, DatabaseWrites.create_experiment, new)

    @remote_method
    @saves
    def save_architecture(self, unit: SaveUnit) -> Call[int]:
        """Store one evaluation and give its id, when it is committed.

        The evaluation key is (experiment, architecture, seed, fidelity). Saving it again gives the same id and
        changes nothing.
        """
        return call(DatabaseActor.save_one, unit)

    @remote_method
    def save_architectures(self, experiment_id: int | str, records: Sequence[Mapping[str, Any]]) -> Prepared[list[int]]:
        """Store many evaluations in one call and one transaction; gives their ids in order.

        Up to 10,000 evaluations of up to 32 MB in all are stored together or not at all. More are cut into such
        parts, each a transaction of its own; repeating the call after an error stores what is missing.

        Args:
            experiment_id: of an experiment that exists.
            records: mappings with the argument names of ``save_architecture``.

        Raises:
            ValidationError: a record is wrong; the message names its index, and nothing was stored.
            NotFoundError: there is no such experiment.
        """
        return save_in_parts(encode_records(experiment_id, records, self.scope_of(experiment_id)))

    @remote_method
    def get_best_architectures(
        self,
        experiment_id: int | str,
        top_k: int = 10,
        *,
        metric: str | None = None,
        where: Mapping[str, tuple[str, float]] | None = None,
        mode: Direction | None = None,
        fidelity: Any = None,
        min_seeds: int = 1,
    ) -> Call[list[ArchitectureRecord]]:
        """Rank architectures, one row each, best first, ties by the earliest.

        ``fitness`` of a row is the mean over seeds and replicates at one fidelity, of which ``n`` and ``std`` tell; of
        several fidelities the best counts. The rest of the row is the earliest evaluation's.

        Args:
            experiment_id: of an experiment that exists.
            top_k: rows at most.
            metric: rank by the mean of this metric instead. Reads the whole experiment, while ranking by fitness costs
                the same at any size.
            where: conditions on metrics of the earliest evaluation, such as ``{"params": ("<", 1e6)}``.
            mode: "max" or "min": which end of the metric is best. Needed where it is none of the objectives.
            fidelity: only evaluations at this one, such as ``{"epochs": 5}``.
            min_seeds: only architectures with so many evaluations at one fidelity.

        Raises:
            NotFoundError: there is no such experiment.
            ValidationError: an argument is wrong; no evaluation has such a metric; nothing says which end is best.
        """
        wanted = None if metric is None else text(metric, "metric")
        direction = None if mode is None else word(mode, "mode", get_args(Direction))
        may_read_all = metric is not None or bool(where) or min_seeds != 1
        return call(
            DatabaseActor.read_long if may_read_all else DatabaseActor.read,
            DatabaseReads.get_best_architectures,
            experiment_ref(experiment_id),
            count(top_k, "top_k", 1),
            wanted,
            encode_where(where),
            direction,
            None if fidelity is None else encode_key(fidelity, "fidelity"),
            count(min_seeds, "min_seeds", 1),
        )

    @remote_method
    def get_architecture_by_hash(
        self, arch_hash: str, experiment_id: int | str | None = None
    ) -> Call[ArchitectureRecord | None]:
        """Find the earliest success of an architecture, or else its earliest failure; None where there is none.

        Args:
            arch_hash: as ``hash_architecture`` gives it.
            experiment_id: look in this experiment only.
        """
        ref = None if experiment_id is None else experiment_ref(experiment_id)
        return call(DatabaseActor.read, DatabaseReads.get_architecture_by_hash, text(arch_hash, "arch_hash"), ref)

    @remote_method
    def list_architectures(
        self,
        experiment_id: int | str,
        *,
        generation: int | None = None,
        status: EvaluationStatus | None = None,
        after_id: int | None = None,
        limit: int = 1000,
    ) -> Call[list[ArchitectureRecord]]:
        """List evaluations by ascending id.

        Args:
            experiment_id: of an experiment that exists.
            generation: only of this generation.
            status: only of this status.
            after_id: start behind this id: the last one of the page before.
            limit: rows at most, up to 100,000.

        Raises:
            NotFoundError: there is no such experiment.
            ValidationError: an argument is wrong.
        """
        kind = None if status is None else word(status, "status", EVALUATION_STATUSES)
        if count(limit, "limit", 1) > MAX_PAGE:
            raise ValidationError(f"limit must be at most {MAX_PAGE}: ask for pages with after_id")
        wanted = None if generation is None else count(generation, "generation")
        start = None if after_id is None else count(after_id, "after_id")
        return call(
            DatabaseActor.read_long if limit > LONG_PAGE else DatabaseActor.read,
            DatabaseReads.list_architectures,
            experiment_ref(experiment_id),
            wanted,
            kind,
            start,
            int(limit),
        )

    @remote_method
    def get_experiment(self, experiment_id: int | str) -> Call[ExperimentRecord | None]:
        """Look an experiment up; None where there is none."""
        return call(DatabaseActor.read, DatabaseReads.get_experiment, experiment_ref(experiment_id))

    @remote_method
    def get_experiment_by_name(self, name: str) -> Call[ExperimentRecord | None]:
        """Look an experiment up by its name; None where there is none."""
        return call(DatabaseActor.read, DatabaseReads.get_experiment_by_name, text(name, "name"))

    @remote_method
    def list_experiments(
        self, *, status: ExperimentStatus | None = None, limit: int | None = None, offset: int = 0
    ) -> Call[list[ExperimentRecord]]:
        """List experiments by ascending id.

        Raises:
            ValidationError: an argument is wrong.
        """
        kind = None if status is None else word(status, "status", EXPERIMENT_STATUSES)
        size = None if limit is None else count(limit, "limit")
        return call(DatabaseActor.read, DatabaseReads.list_experiments, kind, size, count(offset, "offset"))

    @remote_method
    def update_experiment_status(self, experiment_id: int | str, status: ExperimentStatus) -> Call[None]:
        """Set the status; "completed" and "failed" set ``completed_at`` too.

        Raises:
            ValidationError: there is no such status.
            NotFoundError: there is no such experiment.
        """
        kind = word(status, "status", EXPERIMENT_STATUSES)
        reference = experiment_ref(experiment_id)
        return call(DatabaseActor.write, DatabaseWrites.update_experiment_status, reference, kind, new_write_id())

    @remote_method
    def get_experiment_statistics(self, experiment_id: int | str) -> Call[dict[str, Any]]:
        """Summarise an experiment, at a cost that does not grow with it.

        Returns:
            experiment_id, name, status, num_evaluations (successes), num_failed, num_proposals (every save, repeated
            ones too), num_duplicates, best_fitness, avg_fitness, min_fitness, max_fitness, max_generation,
            created_at, updated_at. The fitness values are None before the first success.

        Raises:
            NotFoundError: there is no such experiment.
        """
        return call(DatabaseActor.read, DatabaseReads.get_experiment_statistics, experiment_ref(experiment_id))

    @remote_method
    def delete_experiment(self, experiment_id: int | str) -> Call[bool]:
        """Delete an experiment with its evaluations; False where there was none.

        It is gone at once; its rows are freed in the background. Architectures stay: other experiments share them.

        Raises:
            ValidationError: a text that could mean two experiments, one by its name and one by its id: pass the int.
        """
        reference = experiment_ref(experiment_id)
        return call(DatabaseActor.write, DatabaseWrites.delete_experiment, reference, new_write_id())

    @remote_method
    def hash_architecture(self, architecture: Any) -> Answer[str]:
        """Give the key of an architecture, computed in the caller.

        Raises:
            TypeError: the architecture is of no known type.
            ValidationError: it is no valid graph, or holds values that cannot be stored.
        """
        return Answer(encode_architecture(architecture).key)


def database_settings(config: StorageConfig) -> DatabaseSettings:
    """Take what the database actor needs from the settings, with secrets stashed away."""
    return DatabaseSettings(
        url=stash_secret(config.database_url),
        pool_size=config.pool_size,
        echo=config.echo,
        deadline_s=config.deadline_s,
        queue_max_rows=config.queue_max_rows,
        queue_max_bytes=config.queue_max_bytes,
    )


def database_address(name: str, namespace: str) -> ActorAddress:
    """Tell where the database actor of a storage is found."""
    return ActorAddress(f"database:{name}", namespace)
