"""The contract that databases fulfil.

Databases block and are thread-safe; the actors in front of them run them on bounded threads.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, overload

from morphml_ray.database.wire import EncodedRecord, EncodedRecords
from morphml_ray.errors import MorphMLRayError
from morphml_ray.model.records import (
    Direction,
    EvaluationStatus,
    ExperimentRecord,
    ExperimentStatus,
    IfExists,
    OnDuplicate,
)

Operator = Literal["<", "<=", ">", ">=", "==", "!="]
ExperimentRef = int | str
"""An experiment's id, or its name; else, where no experiment has that name, the decimal text of its id."""

_MAX_ID = 2**63 - 1
_ROW_BYTES = 512
"""What an evaluation takes in memory, roughly, beside what varies most."""
_VARYING = ("spec", "metrics", "parents", "error_class", "error_text", "worker_id")


def number_of(experiment: ExperimentRef) -> int | None:
    """Give the id that a reference states, also in text form; None where it can be a name only."""
    if isinstance(experiment, str) and not (experiment.isascii() and experiment.isdigit() and len(experiment) < 20):  # noqa: PLR2004 - the digits of a 64-bit number
        return None
    return max(-1, min(int(experiment), _MAX_ID))


class EncodedEvaluation(NamedTuple):
    """One evaluation as its caller encoded it: plain values only, ready to be stored.

    Attributes:
        write_id: UUID text that the caller made. Writing the same id twice stores one evaluation.
        key: of the architecture, ``<scheme>:<64 hex>``.
        spec: the architecture, compressed.
        codec: how ``spec`` is decoded.
        n_nodes: nodes of the graph, 0 for a config.
        n_edges: edges of the graph, 0 for a config.
        protocol_hash: what the user states of the evaluation's procedure; "" says nothing.
        fidelity_key: JSON of the fidelity; "" for none.
        seed_key: JSON of the seed; "" for none.
        on_duplicate: what happens where the evaluation key has an answer already.
        status: "succeeded" or one of the failures.
        fitness: finite where the status is "succeeded", else None.
        metrics: JSON object.
        generation: of the search, from 0.
        worker_id: who evaluated it.
        duration_s: seconds it took.
        error_class: why it failed, in one word.
        error_text: why it failed.
        parents: JSON list.
    """

    write_id: str
    key: str
    spec: bytes
    codec: str
    n_nodes: int
    n_edges: int
    protocol_hash: str
    fidelity_key: str
    seed_key: str
    on_duplicate: OnDuplicate
    status: EvaluationStatus
    fitness: float | None
    metrics: str
    generation: int
    worker_id: str | None
    duration_s: float
    error_class: str | None
    error_text: str | None
    parents: str

    @property
    def size_bytes(self) -> int:
        """Roughly what it takes in memory, in bytes."""
        return _ROW_BYTES + sum(len(getattr(self, name) or "") for name in _VARYING)


class EvaluationColumns(Sequence[EncodedEvaluation]):
    """Evaluations column by column, as they travel and as they are stored: nobody makes rows that nobody asks for.

    Args:
        columns: by name, all of one length.

    Attributes:
        columns: the same.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]]) -> None:
        self.columns = columns

    @classmethod
    def of(cls, evaluations: Sequence[EncodedEvaluation]) -> "EvaluationColumns":
        """Turn evaluations; those that are turned already are given as they are."""
        if isinstance(evaluations, cls):
            return evaluations
        turned = zip(*evaluations, strict=True) if evaluations else ((),) * len(EncodedEvaluation._fields)
        return cls(dict(zip(EncodedEvaluation._fields, turned, strict=True)))

    @property
    def size_bytes(self) -> int:
        """Roughly what they take in memory, in bytes."""
        return _ROW_BYTES * len(self) + sum(len(value or "") for name in _VARYING for value in self.columns[name])

    def __len__(self) -> int:
        return len(self.columns["write_id"])

    @overload
    def __getitem__(self, index: int) -> EncodedEvaluation: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[EncodedEvaluation]: ...

    def __getitem__(self, index: int | slice) -> EncodedEvaluation | Sequence[EncodedEvaluation]:
        if isinstance(index, slice):
            return EvaluationColumns({name: column[index] for name, column in self.columns.items()})
        return EncodedEvaluation(*(column[index] for column in self.columns.values()))

    def __iter__(self) -> Iterator[EncodedEvaluation]:
        return map(EncodedEvaluation._make, zip(*self.columns.values(), strict=True))


class SaveUnit(NamedTuple):
    """Evaluations of one experiment that are stored together, or not at all; they travel as ``EvaluationColumns``."""

    experiment: ExperimentRef
    evaluations: Sequence[EncodedEvaluation]

    def __reduce__(self) -> tuple[Any, ...]:
        return _unit, (self.experiment, *EvaluationColumns.of(self.evaluations).columns.values())


def _unit(experiment: ExperimentRef, *columns: Sequence[Any]) -> SaveUnit:
    named = dict(zip(EncodedEvaluation._fields, columns, strict=True))
    return SaveUnit(experiment, EvaluationColumns(named))


class NewExperiment(NamedTuple):
    """An experiment as its caller encoded it.

    Attributes:
        write_id: UUID text that the caller made; repeating it repeats nothing.
        name: unique.
        config: JSON of what the caller passed.
        optimizer: its name, where the config states one.
        objectives: metric and direction, the fitness first; None states none.
        identity: "structural", "exact" or "custom".
        if_exists: "error", or "reuse" of the experiment that has the name.
    """

    write_id: str
    name: str
    config: str
    optimizer: str | None
    objectives: Sequence[tuple[str, Direction]] | None
    identity: str
    if_exists: IfExists


class DatabaseReads(Protocol):
    """What is asked of a database, many at a time and beside its writes."""

    def get_experiment(self, experiment: ExperimentRef) -> ExperimentRecord | None:
        """Look an experiment up by id or name."""

    def get_experiment_by_name(self, name: str) -> ExperimentRecord | None:
        """Look an experiment up by name, also where the name looks like a number."""

    def list_experiments(
        self, status: ExperimentStatus | None, limit: int | None, offset: int
    ) -> list[ExperimentRecord]:
        """List experiments by ascending id."""

    def get_experiment_statistics(self, experiment: ExperimentRef) -> dict[str, Any]:
        """Count and summarise at a cost that does not grow with the number of evaluations.

        Raises:
            NotFoundError: there is no such experiment.
        """

    def get_best_architectures(
        self,
        experiment: ExperimentRef,
        top_k: int,
        metric: str | None,
        where: Mapping[str, tuple[Operator, float]],
        mode: Direction | None = None,
        fidelity_key: str | None = None,
        min_seeds: int = 1,
    ) -> EncodedRecords:
        """Rank architectures by fitness, or by a metric; ties by the earliest evaluation.

        Args:
            experiment: id or name.
            top_k: rows at most.
            metric: to rank by; None for the fitness.
            where: conditions on metrics.
            mode: which end of the metric is best; None takes the direction of the objective.
            fidelity_key: of the evaluations that count; None for any.
            min_seeds: evaluations of one architecture at one fidelity, at least.

        Raises:
            NotFoundError: there is no such experiment.
            ValidationError: nothing tells which end of the metric is best, or no evaluation has such a metric.
        """

    def find_evaluation(
        self, experiment: ExperimentRef, architecture_hash: str, fidelity_key: str, seed_key: str
    ) -> EncodedRecord | None:
        """Find the answer to an evaluation key: its earliest success, or else its earliest failure.

        Raises:
            NotFoundError: there is no such experiment.
        """

    def get_architecture_by_hash(
        self, architecture_hash: str, experiment: ExperimentRef | None
    ) -> EncodedRecord | None:
        """Find an architecture's earliest success, or else its earliest failure, in one experiment or in all."""

    def list_architectures(
        self,
        experiment: ExperimentRef,
        generation: int | None,
        status: EvaluationStatus | None,
        after_id: int | None,
        limit: int,
    ) -> EncodedRecords:
        """List evaluations by ascending id, from after ``after_id`` on.

        Raises:
            NotFoundError: there is no such experiment.
        """


class DatabaseWrites(Protocol):
    """What changes experiments, one at a time, each in a transaction of its own."""

    def create_experiment(self, experiment: NewExperiment) -> int:
        """Create an experiment and give its id.

        Raises:
            AlreadyExistsError: the name is taken and ``if_exists`` is "error".
            ConfigurationError: it is reused, and has other objectives than the stated ones.
        """

    def update_experiment_status(self, experiment: ExperimentRef, status: ExperimentStatus, write_id: str) -> None:
        """Set the status; "completed" and "failed" set ``completed_at`` too.

        Args:
            experiment: id or name.
            status: the new one.
            write_id: UUID text that the caller made; repeating it changes nothing, whatever came in between.

        Raises:
            NotFoundError: there is no such experiment.
        """

    def delete_experiment(self, experiment: ExperimentRef, write_id: str) -> bool:
        """Make an experiment unreachable at once; ``purge`` then frees its rows. False where there was none.

        Args:
            experiment: id or name.
            write_id: UUID text that the caller made; repeating it deletes nothing more.

        Raises:
            ValidationError: a text could mean two experiments.
        """


class Database(DatabaseReads, DatabaseWrites, Protocol):
    """Experiments and their evaluations.

    An experiment is named by its id or by its name. Every write can be repeated: the ids that callers make
    decide, not the number of calls. ``max_writers`` threads may save at a time, else one thread writes; reads run
    beside them.

    Every method raises ``BackendUnavailable`` where the server does not answer now; ``ConfigurationError`` where
    no waiting helps.
    """

    def open(self) -> None:
        """Connect and bring the schema up to date; again after a failure. Does nothing where it is open."""

    def close(self) -> None:
        """Close all connections."""

    @property
    def is_open(self) -> bool:
        """Whether it was opened, and not closed since."""

    @property
    def max_writers(self) -> int:
        """How many threads may call ``save`` at a time."""

    def pool_status(self) -> dict[str, int]:
        """Connections: ``size`` at most, ``open`` and ``in_use`` now."""

    def save(self, units: Sequence[SaveUnit]) -> list[list[int] | MorphMLRayError]:
        """Store units in one transaction, in order.

        Returns:
            For each unit the ids of its evaluations, or the error because of which it, and it alone, was not stored:
            ``NotFoundError`` for an unknown experiment, ``ValidationError`` for a value the database refuses.
        """

    def purge(self, limit: int) -> int:
        """Free up to ``limit`` rows of deleted experiments; gives how many were freed, 0 when all is done."""
