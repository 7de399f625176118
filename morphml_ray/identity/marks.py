"""Where named values stand in a plain value: JSON has no word for them, so that they are listed beside it."""

from collections.abc import Sequence
from typing import Any

from morphml_ray.errors import CorruptDataError
from morphml_ray.identity.named_values import NamedFields, NamedItems
from morphml_ray.model.plain import Plain

Mark = tuple[list[str | int], str, list[str] | None]
"""The way to a value as keys and indexes, the name of its class, and the fields of a named tuple, else None."""


def take_marks(value: Plain) -> tuple[Plain, list[Mark]]:
    """Give a value of dicts, lists and tuples only, and the marks of what was named in it."""
    marks: list[Mark] = []
    return _unmarked(value, [], marks), marks


def put_marks(value: Plain, marks: Sequence[Mark]) -> Plain:
    """Give the value from which :func:`take_marks` took these marks.

    Raises:
        CorruptDataError: they are no marks of this value.
    """
    try:
        return _marked(value, marks, 0)
    except (TypeError, ValueError, LookupError, RecursionError) as error:
        raise CorruptDataError(f"an architecture spec names classes where none are: {error}") from error


def _unmarked(value: Plain, path: list[str | int], marks: list[Mark]) -> Plain:
    if isinstance(value, NamedFields):
        marks.append((path, value.type_name, None))
    elif isinstance(value, NamedItems):
        marks.append((path, value.type_name, list(value.field_names)))
    if isinstance(value, dict):
        return {key: _unmarked(item, [*path, key], marks) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_unmarked(item, [*path, index], marks) for index, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    return value


def _marked(value: Plain, marks: Sequence[Mark], depth: int) -> Plain:
    """Put the marks below a value that is ``depth`` steps down their ways, and then its own."""
    below: dict[str | int, list[Mark]] = {}
    for mark in marks:
        if len(mark[0]) > depth:
            below.setdefault(mark[0][depth], []).append(mark)
    if below:
        items: Any = list(value) if isinstance(value, tuple) else value
        for step, deeper in below.items():
            items[step] = _marked(items[step], deeper, depth + 1)
        value = tuple(items) if isinstance(value, tuple) else items
    for path, name, fields in marks:
        if len(path) == depth:
            value = _named(value, name, fields)
    return value


def _named(value: Plain, name: str, fields: list[str] | None) -> NamedFields | NamedItems:
    if type(value) is dict and fields is None:
        return NamedFields(name, value)
    if type(value) is tuple and fields is not None and len(fields) == len(value):
        return NamedItems(name, fields, value)
    raise ValueError(f"{name!r:.60} for a value of type {type(value).__name__}")
