"""What the database answers with: frozen records, never rows of an ORM."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from morphml_ray.errors import ValidationError

ExperimentStatus = Literal["created", "running", "paused", "completed", "failed", "archived"]
FailureStatus = Literal["failed", "oom", "timeout", "pruned", "cancelled", "lost", "invalid"]
EvaluationStatus = Literal["pending", "running", "succeeded"] | FailureStatus
Direction = Literal["max", "min"]
OnDuplicate = Literal["keep_first", "keep_best", "replicate"]
IfExists = Literal["error", "reuse"]

EXPERIMENT_STATUSES: tuple[ExperimentStatus, ...] = get_args(ExperimentStatus)
EVALUATION_STATUSES: tuple[EvaluationStatus, ...] = ("pending", "running", "succeeded", *get_args(FailureStatus))


@dataclass(frozen=True)
class ExperimentRecord:
    """One experiment, as stored.

    Attributes:
        id: its number.
        name: its unique name.
        status: one of ``EXPERIMENT_STATUSES``.
        optimizer: ``config["optimizer"]`` where it is a text, else None.
        objectives: metric name -> direction, in the order given; the first one is the fitness.
        config: what the caller passed.
        identity: how architectures are told apart: "structural", "exact" or "custom".
        created_at: aware UTC.
        updated_at: aware UTC; moves with every recorded evaluation.
        completed_at: aware UTC, set when the status becomes "completed" or "failed".
    """

    id: int
    name: str
    status: ExperimentStatus
    optimizer: str | None
    objectives: Mapping[str, Direction]
    config: Any
    identity: str
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None


@dataclass(frozen=True)
class ArchitectureRecord:
    """One evaluation of one architecture, as stored.

    Attributes:
        id: the number that ``save_architecture`` gave.
        experiment_id: the experiment it belongs to.
        architecture_hash: the key, ``<scheme>:<64 hex>``.
        architecture: the architecture itself; hashes back to ``architecture_hash``.
        fitness: value of the first objective; in top lists the mean over seeds and replicates at one
            fidelity. None where the evaluation failed.
        metrics: everything else that was measured.
        generation: the generation of the search that proposed it, from 0.
        worker_id: who evaluated it.
        duration: seconds that the evaluation took.
        evaluated_at: when it was recorded, aware UTC.
        status: one of ``EVALUATION_STATUSES``.
        seed: as given.
        fidelity: as given.
        replicate: 0 for the first evaluation of its key, then 1, 2, ...
        parents: as given.
        error: why the evaluation failed; None where it succeeded.
        n: how many evaluations ``fitness`` is the mean of: in top lists of seeds and replicates, else 1.
        std: their standard deviation (of a sample); None where ``n`` is 1.
    """

    id: int
    experiment_id: int
    architecture_hash: str
    architecture: Any
    fitness: float | None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    generation: int = 0
    worker_id: str | None = None
    duration: float = 0.0
    evaluated_at: datetime | None = None
    status: EvaluationStatus = "succeeded"
    seed: Any = None
    fidelity: Any = None
    replicate: int = 0
    parents: tuple[Any, ...] = ()
    error: str | None = None
    n: int = 1
    std: float | None = None


def check_objectives(objectives: Mapping[str, str] | None) -> dict[str, Direction]:
    """Check a mapping of metric names to "max" or "min".

    Raises:
        ValidationError: a name is no text, or a direction is neither "max" nor "min".
    """
    checked: dict[str, Direction] = {}
    for name, direction in (objectives or {}).items():
        if not isinstance(name, str) or not name:
            raise ValidationError(f"objectives: a metric name must be a text, not {name!r}")
        if direction == "max":
            checked[str.__str__(name)] = "max"
        elif direction == "min":
            checked[str.__str__(name)] = "min"
        else:
            raise ValidationError(f"objectives: {name!r} must be 'max' or 'min', not {direction!r}")
    return checked
