"""From a caller's arguments to what the actor stores; runs in the caller."""

import inspect
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate

from typing_extensions import ParamSpec

from morphml_ray.database.contract import EncodedEvaluation, ExperimentRef, NewExperiment, Operator, SaveUnit
from morphml_ray.errors import ValidationError
from morphml_ray.identity import EncodedArchitecture, Identity, encode_architecture
from morphml_ray.identity.canonical_json import canonical_json
from morphml_ray.model.arguments import MAX_INT, count, text
from morphml_ray.model.plain import encode_json, to_number, to_plain
from morphml_ray.model.records import EvaluationStatus, IfExists, OnDuplicate, check_objectives

MAX_KEY_BYTES = 1_000
"""Of a name, a seed or a fidelity: PostgreSQL's indexes take 2,700 bytes a row."""

P = ParamSpec("P")

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
    fitness: Any,
    metrics: Mapping[str, Any] | None = None,
    generation: int = 0,
    worker_id: str | None = None,
    duration: float = 0.0,
    *,
    seed: Any = None,
    fidelity: Any = None,
    parents: Sequence[Any] = (),
    on_duplicate: OnDuplicate = "keep_first",
) -> SaveUnit:
    """Encode one evaluation of an experiment; whatever records has these arguments (see ``recording.py``).

    Args:
        experiment_id: of an experiment that exists.
        architecture: graph, config, an object of a known type, or an ``EncodedArchitecture``.
        fitness: value of the first objective. None, NaN and infinities are kept as failed evaluations.
        metrics: what else was measured; numpy and torch numbers are converted here, in the caller.
        generation: of the search, from 0.
        worker_id: who evaluated it.
        duration: seconds it took.
        seed: of the evaluation.
        fidelity: at which it was evaluated, such as ``{"epochs": 5}``.
        parents: what the architecture was made from: ids or hashes.
        on_duplicate: "keep_first"; "keep_best" replaces the answer by a better one; "replicate" adds another.

    Raises:
        NotFoundError: there is no such experiment.
        ValidationError: an argument cannot be stored.
        TypeError: the architecture is of no known type.
    """
    if on_duplicate not in _ON_DUPLICATE:
        raise ValidationError(f"on_duplicate must be one of {', '.join(_ON_DUPLICATE)}, not {on_duplicate!r}")
    if not isinstance(metrics, (Mapping, type(None))):
        raise ValidationError(f"metrics must be a mapping of names to values, not {type(metrics).__name__}")
    encoded = architecture if isinstance(architecture, EncodedArchitecture) else encode_architecture(architecture)
    status, value, error_class, error_text = _outcome(fitness)
    evaluation = EncodedEvaluation(
        write_id=new_write_id(),
        **vars(encoded),
        protocol_hash="",
        fidelity_key=_key(fidelity, "fidelity"),
        seed_key=_key(seed, "seed"),
        on_duplicate=on_duplicate,
        status=status,
        fitness=value,
        metrics=encode_json(to_plain(metrics, "metrics")) if metrics else "{}",
        generation=count(generation, "generation"),
        worker_id=None if worker_id is None else text(str(worker_id), "worker_id"),
        duration_s=_duration(duration),
        error_class=error_class,
        error_text=error_text,
        parents=encode_json(to_plain(list(parents), "parents")) if parents else "[]",
    )
    return SaveUnit(experiment_ref(experiment_id), [evaluation])


def encode_records(experiment_id: int | str, records: Iterable[Mapping[str, Any]]) -> SaveUnit:
    """Encode many evaluations, which are stored together or not at all.

    Args:
        experiment_id: of an experiment that exists.
        records: mappings with the other argument names of ``encode_save``.

    Raises:
        ValidationError: a record is wrong; the message names its index.
    """
    evaluations = [_encode_record(index, record) for index, record in enumerate(records)]
    return SaveUnit(experiment_ref(experiment_id), evaluations)


def _encode_record(index: int, record: Mapping[str, Any]) -> EncodedEvaluation:
    unknown, missing = set(record) - _RECORD_NAMES, _REQUIRED_NAMES - set(record)
    if unknown or missing:
        problem = f"has unknown fields {sorted(unknown)}" if unknown else f"lacks {sorted(missing)}"
        raise ValidationError(f"records[{index}] {problem}")
    try:
        return encode_evaluation(**record)
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
    if if_exists not in ("error", "reuse"):
        raise ValidationError(f"if_exists must be 'error' or 'reuse', not {if_exists!r}")
    if not callable(identity) and identity not in ("structural", "exact"):
        raise ValidationError(f"identity must be 'structural', 'exact' or a function, not {identity!r}")
    plain = to_plain({} if config is None else config, "config")
    optimizer = plain.get("optimizer") if isinstance(plain, dict) else None
    return NewExperiment(
        write_id=new_write_id(),
        name=_name(name),
        config=encode_json(plain),
        optimizer=optimizer if isinstance(optimizer, str) else None,
        objectives=list(check_objectives(objectives).items()),
        identity="custom" if callable(identity) else identity,
        if_exists=if_exists,
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
        if operator not in _OPERATORS:
            raise ValidationError(
                f"where[{name!r}] must be (operator, number) with one of {' '.join(_OPERATORS)}, not {condition!r}"
            )
        bound = to_number(value, f"where[{name!r}]")
        if bound is None or math.isnan(bound):
            raise ValidationError(f"where[{name!r}] must compare with a number, not {value!r}")
        checked[text(name, "where")] = (operator, bound)
    return checked


def _outcome(fitness: Any) -> tuple[EvaluationStatus, float | None, str | None, str | None]:
    """Read a fitness: status, value, and the class and text of the error."""
    value = to_number(fitness, "fitness")
    if value is None or not math.isfinite(value):
        return "failed", None, "NoFitness", f"the fitness was {value}"
    return "succeeded", value, None, None


def _name(name: str) -> str:
    if len(text(name, "name").encode()) > MAX_KEY_BYTES:
        raise ValidationError(f"name must have at most {MAX_KEY_BYTES} bytes")
    return name


def _key(value: Any, where: str) -> str:
    """Write a seed or a fidelity so that equal ones are equal texts; none is empty."""
    if value is None:
        return ""
    key = canonical_json(to_plain(value, where, finite=True))
    if len(key.encode()) > MAX_KEY_BYTES:
        raise ValidationError(
            f"{where} takes more than {MAX_KEY_BYTES} bytes as JSON: keep what is the same for all evaluations in the "
            "experiment's config"
        )
    return key


def _duration(value: Any) -> float:
    seconds = to_number(value, "duration")
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        raise ValidationError(f"duration must be seconds from 0 on, not {value!r}")
    return seconds
