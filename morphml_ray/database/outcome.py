"""How an evaluation ended, as it is recorded."""

import math
import traceback
from dataclasses import dataclass
from typing import Any, get_args

from morphml_ray.model.arguments import word
from morphml_ray.model.plain import to_number
from morphml_ray.model.records import EvaluationStatus, FailureStatus

MAX_ERROR_CHARACTERS = 10_000
_RECORDED: tuple[EvaluationStatus, ...] = ("succeeded", *get_args(FailureStatus))


@dataclass(frozen=True)
class Outcome:
    """Status, fitness and error of one evaluation.

    Attributes:
        status: "succeeded", or one of the failures.
        fitness: finite where it succeeded, else None.
        error_class: why it failed, in one word.
        error_text: why it failed.
        unranked_fitness: what was reported for an evaluation that counts as failed.
    """

    status: EvaluationStatus
    fitness: float | None
    error_class: str | None = None
    error_text: str | None = None
    unranked_fitness: float | None = None

    @classmethod
    def of(cls, fitness: Any, status: EvaluationStatus | None, error: str | BaseException | None) -> "Outcome":
        """Read what a caller reports.

        Raises:
            ValidationError: the fitness is no number, or there is no such status.
        """
        stated = None if status is None else word(status, "status", _RECORDED)
        value = to_number(fitness, "fitness")
        error_class, error_text = _describe(error)
        if value is not None and math.isfinite(value):
            if stated in (None, "succeeded"):
                return cls("succeeded", value, error_class, error_text)
            return cls(stated, None, error_class, error_text, value)
        if stated in (None, "succeeded"):
            stated = "failed"
            error_class, error_text = error_class or "NoFitness", error_text or f"the fitness was {value}"
        return cls(stated, None, error_class, error_text)


def _describe(error: str | BaseException | None) -> tuple[str | None, str | None]:
    """Give the class and the text of an error; of an exception the text ends with where it was raised."""
    if error is None:
        return None, None
    if not isinstance(error, BaseException):
        return None, _stored(str(error))
    where = traceback.extract_tb(error.__traceback__)[-1:]
    text = "".join(traceback.format_exception_only(error)).strip()
    return type(error).__name__, _stored(text + "".join(f" ({frame.filename}:{frame.lineno})" for frame in where))


def _stored(text: str) -> str:
    """Give a text that every database takes."""
    safe = text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    return safe if len(safe) <= MAX_ERROR_CHARACTERS else f"{safe[:MAX_ERROR_CHARACTERS]}..."
