"""Checks of single arguments: a text that says something, one of a few words, a whole number."""

from collections.abc import Sequence
from typing import Any, TypeVar

from morphml_ray.errors import ValidationError
from morphml_ray.model.plain import to_plain

MAX_INT = 2**63 - 1

W = TypeVar("W", bound=str)


def text(value: Any, where: str) -> str:
    """Check a text that must say something, and give it as a plain ``str``, also that of an Enum's member.

    Raises:
        ValidationError: it is no text, is empty, or has characters that PostgreSQL refuses.
    """
    if not isinstance(value, str) or not value:
        raise ValidationError(f"{where} must be a text that is not empty")
    checked: str = to_plain(str.__str__(value), where)
    return checked


def word(value: Any, where: str, words: Sequence[W]) -> W:
    """Check one of a few words, and give it as it stands in ``words``, also for an Enum's member that equals it.

    Raises:
        ValidationError: it is none of them.
    """
    for each in words:
        if isinstance(value, str) and str.__str__(value) == each:
            return each
    raise ValidationError(f"{where} must be one of {', '.join(words)}, not {value!r}")


def count(value: Any, where: str, least: int = 0) -> int:
    """Check a whole number; numpy's are taken too.

    Raises:
        ValidationError: it is none, or out of range.
    """
    plain = value if type(value) is int else to_plain(value, where)
    if isinstance(plain, bool) or not isinstance(plain, int) or not least <= plain <= MAX_INT:
        raise ValidationError(f"{where} must be a whole number from {least} on, not {plain!r}")
    return plain
