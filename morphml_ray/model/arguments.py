"""Checks of single arguments: a text that says something, a whole number."""

from typing import Any

from morphml_ray.errors import ValidationError
from morphml_ray.model.plain import to_plain

MAX_INT = 2**63 - 1


def text(value: Any, where: str) -> str:
    """Check a text that must say something.

    Raises:
        ValidationError: it is no text, is empty, or has characters that PostgreSQL refuses.
    """
    if not isinstance(value, str) or not value:
        raise ValidationError(f"{where} must be a text that is not empty")
    checked: str = to_plain(value, where)
    return checked


def count(value: Any, where: str, least: int = 0) -> int:
    """Check a whole number; numpy's are taken too.

    Raises:
        ValidationError: it is none, or out of range.
    """
    plain = value if type(value) is int else to_plain(value, where)
    if isinstance(plain, bool) or not isinstance(plain, int) or not least <= plain <= MAX_INT:
        raise ValidationError(f"{where} must be a whole number from {least} on, not {plain!r}")
    return plain
