"""From a caller's arguments to what the actor stores; runs in the caller."""

import inspect
import logging
import math
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Concatenate, get_args

from typing_extensions import ParamSpec

from morphml_ray.database.contract import EncodedEvaluation, ExperimentRef, NewExperiment, Operator, SaveUnit
from morphml_ray.database.outcome import Outcome
from morphml_ray.errors import ValidationError
from morphml_ray.identity import EncodedArchitecture, Identity, encode_architecture
from morphml_ray.identity.canonical_json import canonical_json
from morphml_ray.model.arguments import MAX_INT, count, text, word
from morphml_ray.model.plain import encode_json, to_number, to_plain
from morphml_ray.model.records import EvaluationStatus, IfExists, OnDuplicate, check_objectives
from morphml_ray.model.side_values import to_side_value

_logger = logging.getLogger(__name__)

MAX_KEY_BYTES = 1_000
"""Of a name, a seed or a fidelity: PostgreSQL's indexes take 2,700 bytes a row."""

P = ParamSpec("P")

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Of one evaluation, or of an experiment's config."""

_OPERATORS: tuple[Operator, ...] = ("<", "<=", ">", ">=", "==", "!=")
_ON_DUPLICATE: tuple[OnDuplicate, ...] = ("keep_first", "keep_best", "replicate")


def new_write_id() -> str:
    """Make an id for one write: the milliseconds in front keep the index of such ids compact (RFC 9562, version 7)."""
    stamp = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    stamp = stamp & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    text = f"{stamp:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def experiment_ref(experiment_id: int | str) -> ExperimentRef:
    """Check an experiment's id, or its name; see ``ExperimentRef``.

    Raises:
        ValidationError: it is none of these.
    """
    if isinstance(experiment_id, bool) or not isinstance(experiment_id, (int, str)):
        raise ValidationError(f"experiment_id must be an int or a text, not {type(experiment_id).__name__}")
    if isinstance(experiment_id, str):
        return text(experiment_id, "experiment_id")
    # A number that no row can have finds nothing, like any other unknown id.
    return max(-1, min(int(experiment_id), MAX_INT))


def check_write_id(write_id: str) -> str:
    """Give a write id in the form in which it is stored.

    Raises:
        ValidationError: it is no UUID.
    """
    try:
        return str(uuid.UUID(str(write_id)))
    except ValueError as error:
        raise ValidationError(f"write_id must be a UUID, such as str(uuid.uuid4()), not {write_id!r:.60}") from error


def check_size(evaluation: EncodedEvaluation) -> EncodedEvaluation:
    """Give an evaluation that is no larger than a database should take.

    Raises:
        ValidationError: it is.
    """
    if evaluation.size_bytes > MAX_RECORD_BYTES:
        raise ValidationError(
            f"the evaluation takes {evaluation.size_bytes:,} bytes, and at most {MAX_RECORD_BYTES:,} can be recorded: "
            "put large values into storage.artifacts, and their keys into metrics"
        )
    return evaluation


@dataclass(frozen=True)
class Scope:
    """How the architectures of one experiment are told apart.

    Attributes:
        experiment_id: of the experiment.
        identity: "structural", "exact", or a function.
    """

    experiment_id: int
    identity: Identity

    def encode(self, architecture: Any) -> EncodedArchitecture:
        """Give an architecture's key and bytes in this experiment; see ``encode_architecture``."""
        return encode_architecture(architecture, self.identity, str(self.experiment_id))


def encode_save(
    experiment_id: int | str,
    architecture: Any,
    fitness: Any = None,
    metrics: Mapping[str, Any] | None = None,
    generation: int = 0,
    worker_id: str | None = None,
    duration: float = 0.0,
    *,
    seed: Any = None,
    fidelity: Any = None,
    parents: Sequence[Any] = (),
    on_duplicate: OnDuplicate = "keep_first",
    status: EvaluationStatus | None = None,
    error: str | BaseException | None = None,
    write_id: str | None = None,
) -> SaveUnit:
    """Encode one evaluation of an experiment; whatever records has these arguments (see ``recording.py``).

    Args:
        experiment_id: of an experiment that exists.
        architecture: graph, config, or an object of a known type.
        fitness: value of the first objective. None, NaN and infinities are kept as failed evaluations.
        metrics: what else was measured; numpy and torch numbers are converted here, in the caller.
        generation: of the search, from 0; what is no whole number counts as 0, with a warning.
        worker_id: who evaluated it.
        duration: seconds it took.
        seed: of the evaluation.
        fidelity: at which it was evaluated, such as ``{"epochs": 5}``.
        parents: what the architecture was made from: ids or hashes.
        on_duplicate: "keep_first"; "keep_best" replaces the answer by a better one; "replicate" adds another.
        status: why it failed: "failed", "oom", "timeout", "pruned", "cancelled", "lost" or "invalid". None takes
            "succeeded" where the fitness is a finite number, else "failed". The fitness of a failure becomes a metric.
        error: what went wrong: a text, or the exception.
        write_id: UUID of this write, where a caller repeats it by itself; without one each call is a write of its own.

    Raises:
        NotFoundError: there is no such experiment.
        ValidationError: an argument cannot be stored.
        TypeError: the architecture is of no known type.
    """
    encoded = architecture if isinstance(architecture, EncodedArchitecture) else encode_architecture(architecture)
    outcome = Outcome.of(fitness, status, error)
    evaluation = EncodedEvaluation(
        write_id=new_write_id() if write_id is None else check_write_id(write_id),
        **vars(encoded),
        protocol_hash="",
        fidelity_key=encode_key(fidelity, "fidelity"),
        seed_key=encode_key(seed, "seed"),
        on_duplicate=word(on_duplicate, "on_duplicate", _ON_DUPLICATE),
        status=outcome.status,
        fitness=outcome.fitness,
        metrics=_metrics(metrics, outcome),
        generation=_generation(generation),
        worker_id=_worker_id(worker_id),
        duration_s=_duration(duration),
        error_class=outcome.error_class,
        error_text=outcome.error_text,
        parents=_parents(parents),
    )
    return SaveUnit(experiment_ref(experiment_id), [check_size(evaluation)])


def encode_records(experiment_id: int | str, records: Iterable[Mapping[str, Any]], scope: Scope) -> SaveUnit:
    """Encode many evaluations, which are stored together or not at all.

    Args:
        experiment_id: of an experiment that exists.
        records: mappings with the other argument names of ``encode_save``.
        scope: how the architectures of that experiment are told apart.

    Raises:
        ValidationError: a record is wrong; the message names its index.
    """
    evaluations = [_encode_record(index, record, scope) for index, record in enumerate(records)]
    return SaveUnit(experiment_ref(experiment_id), evaluations)


def _encode_record(index: int, record: Mapping[str, Any], scope: Scope) -> EncodedEvaluation:
    unknown, missing = set(record) - _RECORD_NAMES, _REQUIRED_NAMES - set(record)
    if unknown or missing:
        problem = f"has unknown fields {sorted(unknown)}" if unknown else f"lacks {sorted(missing)}"
        raise ValidationError(f"records[{index}] {problem}")
    try:
        return encode_evaluation(**{**record, "architecture": scope.encode(record["architecture"])})
    except (ValidationError, TypeError) as error:
        raise ValidationError(f"records[{index}]: {error}") from error


def _one(encode: Callable[Concatenate[int | str, P], SaveUnit]) -> Callable[P, EncodedEvaluation]:
    def encode_one(*args: P.args, **kwargs: P.kwargs) -> EncodedEvaluation:
        (evaluation,) = encode(0, *args, **kwargs).evaluations
        return evaluation

    return encode_one


encode_evaluation = _one(encode_save)
"""Encodes one evaluation of whatever experiment; takes the arguments of ``encode_save``, but the experiment."""

_PARAMETERS = {
    name: each for name, each in inspect.signature(encode_save).parameters.items() if name != "experiment_id"
}
_RECORD_NAMES = frozenset(_PARAMETERS)
_REQUIRED_NAMES = frozenset(name for name, each in _PARAMETERS.items() if each.default is each.empty)


def encode_experiment(
    name: str,
    config: Any,
    objectives: Mapping[str, str] | None,
    if_exists: IfExists,
    identity: Identity = "structural",
) -> NewExperiment:
    """Encode a new experiment.

    Raises:
        ValidationError: an argument cannot be stored.
    """
    if not callable(identity) and identity not in ("structural", "exact"):
        raise ValidationError(f"identity must be 'structural', 'exact' or a function, not {identity!r}")
    plain = to_plain({} if config is None else config, "config")
    optimizer = plain.get("optimizer") if isinstance(plain, dict) else None
    text = encode_json(plain)
    if len(text) > MAX_RECORD_BYTES:
        raise ValidationError(
            f"the config takes {len(text):,} bytes, and at most {MAX_RECORD_BYTES:,} can be stored: put large values "
            "into storage.artifacts, and their keys into the config"
        )
    return NewExperiment(
        write_id=new_write_id(),
        name=_name(name),
        config=text,
        optimizer=optimizer if isinstance(optimizer, str) else None,
        objectives=None if objectives is None else list(check_objectives(objectives).items()),
        identity="custom" if callable(identity) else str.__str__(identity),
        if_exists=word(if_exists, "if_exists", get_args(IfExists)),
    )


def encode_where(where: Mapping[str, Any] | None) -> dict[str, tuple[Operator, float]]:
    """Check conditions on metrics: name -> (operator, number).

    Raises:
        ValidationError: a condition is not of that form.
    """
    checked: dict[str, tuple[Operator, float]] = {}
    for name, condition in (where or {}).items():
        try:
            operator, value = condition
        except (TypeError, ValueError):
            operator, value = None, None
        known = next((one for one in _OPERATORS if one == operator), None)
        if known is None:
            raise ValidationError(
                f"where[{name!r}] must be (operator, number) with one of {' '.join(_OPERATORS)}, not {condition!r}"
            )
        bound = to_number(value, f"where[{name!r}]")
        if bound is None or math.isnan(bound):
            raise ValidationError(f"where[{name!r}] must compare with a number, not {value!r}")
        checked[text(name, "where")] = (known, bound)
    return checked


def _metrics(metrics: Any, outcome: Outcome) -> str:
    """Write metrics; what is no mapping is one metric."""
    plain = {} if metrics is None else to_side_value(metrics, "metrics")
    if not isinstance(plain, dict):
        plain = {"metrics": plain}
    if outcome.unranked_fitness is not None:
        plain.setdefault("fitness", outcome.unranked_fitness)
    return encode_json(plain) if plain else "{}"


def _parents(parents: Any) -> str:
    """Write parents as a list; a text, or whatever else is no sequence, is one parent."""
    if parents is None or (isinstance(parents, Sized) and not len(parents)):
        return "[]"
    several = parents if isinstance(parents, Iterable) and not isinstance(parents, (str, bytes, Mapping)) else [parents]
    return encode_json(to_side_value(list(several), "parents"))


def _worker_id(worker_id: Any) -> str | None:
    return None if worker_id is None else str(to_side_value(str(worker_id), "worker_id")) or None


def _name(name: str) -> str:
    checked = text(name, "name")
    if len(checked.encode()) > MAX_KEY_BYTES:
        raise ValidationError(f"name must have at most {MAX_KEY_BYTES} bytes")
    return checked


def encode_key(value: Any, where: str) -> str:
    """Write a seed or a fidelity so that equal ones are equal texts; none is empty.

    Raises:
        ValidationError: it cannot be compared, or is too long.
    """
    if value is None:
        return ""
    key = canonical_json(to_plain(value, where, finite=True))
    if len(key.encode()) > MAX_KEY_BYTES:
        raise ValidationError(
            f"{where} takes more than {MAX_KEY_BYTES} bytes as JSON: keep what is the same for all evaluations in the "
            "experiment's config"
        )
    return key


def _generation(value: Any) -> int:
    """Read a generation; a whole float is one, and what is no number counts as 0: that is no reason to lose a result.

    Raises:
        ValidationError: it is below 0.
    """
    if type(value) is int:
        return count(value, "generation")
    try:
        number = to_number(value, "generation")
    except ValidationError:
        number = None
    if number is None or not number.is_integer():
        if value is not None:
            _logger.warning("generation 0 is recorded: %.60r is no whole number", value)
        return 0
    return count(int(number), "generation")


def _duration(value: Any) -> float:
    """Read seconds; what are none, as when a clock was set back, count as 0: they are no reason to lose a result."""
    try:
        seconds = to_number(value, "duration")
    except ValidationError as error:
        _logger.warning("0 seconds are recorded: %s", error)
        return 0.0
    return max(0.0, seconds) if seconds is not None and math.isfinite(seconds) else 0.0
