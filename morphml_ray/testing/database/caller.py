"""What a caller does with a database, in few words."""

from collections.abc import Mapping
from typing import Any

from morphml_ray.database.contract import Database, EncodedEvaluation, SaveUnit
from morphml_ray.database.encoding import encode_evaluation, encode_experiment, encode_where, new_write_id
from morphml_ray.errors import MorphMLRayError
from morphml_ray.model.records import ArchitectureRecord, EvaluationStatus, ExperimentStatus, IfExists


def evaluation(number: int = 0, fitness: Any = 0.5, metrics: Any = None, **options: Any) -> EncodedEvaluation:
    """Encode an evaluation of the architecture with this number."""
    return encode_evaluation({"number": number}, fitness, metrics, **options)


def create(
    database: Database,
    name: str = "one",
    config: Any = None,
    objectives: Mapping[str, str] | None = None,
    if_exists: IfExists = "error",
) -> int:
    """Create an experiment; gives its id."""
    return database.create_experiment(encode_experiment(name, config, objectives, if_exists))


def save(database: Database, experiment: int | str, *evaluations: EncodedEvaluation) -> list[int]:
    """Store evaluations in one transaction; gives their ids."""
    (outcome,) = database.save([SaveUnit(experiment, evaluations)])
    if isinstance(outcome, MorphMLRayError):
        raise outcome
    return outcome


def delete(database: Database, experiment: int | str) -> bool:
    """Delete an experiment."""
    return database.delete_experiment(experiment, new_write_id())


def set_status(database: Database, experiment: int | str, status: ExperimentStatus) -> None:
    """Change the status of an experiment."""
    database.update_experiment_status(experiment, status, new_write_id())


def page(
    database: Database,
    experiment: int | str,
    *,
    generation: int | None = None,
    status: EvaluationStatus | None = None,
    after_id: int | None = None,
    limit: int = 1000,
) -> list[ArchitectureRecord]:
    """List evaluations."""
    return database.list_architectures(experiment, generation, status, after_id, limit).decode()


def only(database: Database, experiment: int | str) -> ArchitectureRecord:
    """Give the one evaluation of an experiment."""
    (record,) = page(database, experiment)
    return record


def best(
    database: Database,
    experiment: int | str,
    top_k: int = 10,
    metric: str | None = None,
    where: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[ArchitectureRecord]:
    """Rank architectures."""
    return database.get_best_architectures(experiment, top_k, metric, encode_where(where), **options).decode()


def numbers(records: list[ArchitectureRecord]) -> list[int]:
    """Give the numbers of the architectures that ``evaluation`` made."""
    return [record.architecture["number"] for record in records]


def purge_all(database: Database, limit: int = 100) -> int:
    """Free all rows of deleted experiments; gives how many there were."""
    total = 0
    while freed := database.purge(limit):
        assert freed <= limit
        total += freed
    return total
