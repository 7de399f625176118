"""From a caller's arguments to what the actor stores; runs in the caller."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from morphml_ray.database.contract import EncodedEvaluation, ExperimentRef, NewExperiment, Operator
from morphml_ray.errors import ValidationError
from morphml_ray.identity import Identity, encode_architecture
from morphml_ray.identity.canonical_json import canonical_json
from morphml_ray.model.arguments import MAX_INT, count, text
from morphml_ray.model.plain import encode_json, to_number, to_plain
from morphml_ray.model.records import EvaluationStatus, IfExists, OnDuplicate, check_objectives

MAX_KEY_BYTES = 1_000
"""Of a name, a seed or a fidelity: PostgreSQL's indexes take 2,700 bytes a row."""

_OPERATORS: tuple[Operator, ...] = ("<", "<=", ">", ">=", "==", "!=")
_ON_DUPLICATE: tuple[OnDuplicate, ...] = ("keep_first", "keep_best", "replicate")


def new_write_id() -> str:
    """Make an id for one write: the milliseconds in front keep the index of such ids compact (RFC 9562, version 7)."""
    stamp = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    stamp = stamp & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    text = f"{stamp:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def experiment_ref(experiment_id: int | str) -> ExperimentRef:
    """Read an experiment's id: the int, its decimal text, or a name.

    Raises:
        ValidationError: it is none of these.
    """
    if isinstance(experiment_id, bool) or not isinstance(experiment_id, (int, str)):
        raise ValidationError(f"experiment_id must be an int or a text, not {type(experiment_id).__name__}")
    if isinstance(experiment_id, str) and not (experiment_id.isascii() and experiment_id.isdigit()):
        return text(experiment_id, "experiment_id")
    # A number that no row can have finds nothing, like any other unknown id.
    return max(-1, min(int(experiment_id), MAX_INT))


def encode_evaluation(
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
    identity: Identity = "structural",
    scope: str = "",
) -> EncodedEvaluation:
    """Encode one evaluation.

    Raises:
        ValidationError: an argument cannot be stored.
        TypeError: the architecture is of no known type.
    """
    if on_duplicate not in _ON_DUPLICATE:
        raise ValidationError(f"on_duplicate must be one of {', '.join(_ON_DUPLICATE)}, not {on_duplicate!r}")
    if not isinstance(metrics, (Mapping, type(None))):
        raise ValidationError(f"metrics must be a mapping of names to values, not {type(metrics).__name__}")
    encoded = encode_architecture(architecture, identity, scope)
    status, value, error_class, error_text = _outcome(fitness)
    return EncodedEvaluation(
        new_write_id(),
        *(encoded.key, encoded.spec, encoded.codec, encoded.n_nodes, encoded.n_edges),
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
