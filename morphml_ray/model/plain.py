"""Plain values: what of a caller's data is stored, and how it is written as JSON text.

A *plain* value is None, a bool, an int, a float, a str, or a list, tuple or str-keyed dict of plain values,
of exactly these types. :func:`to_plain` makes one in the caller's process, so that nothing past it ever meets
numpy, torch or a class of the user. :func:`encode_json` writes one as JSON that SQL can query; what JSON has
no word for carries a tag:

==================  ==================================
value               JSON
==================  ==================================
tuple ``(1, 2)``    ``{"$tuple": [1, 2]}``
NaN, infinities     ``{"$float": "nan"}``, ``"inf"``, ``"-inf"``
``{"$tuple": x}``   ``{"$dict": {"$tuple": x}}``
==================  ==================================
"""

import dataclasses
import math
from collections.abc import Mapping
from enum import Enum
from numbers import Real
from typing import Any, TypeAlias

import msgspec

from morphml_ray.errors import CorruptDataError, ValidationError

Plain: TypeAlias = Any
"""None, bool, int, float, str, and lists, tuples and str-keyed dicts of them."""

MAX_DEPTH = 100
"""How deep lists, tuples and dicts may be nested."""

_INT_BOUND = 10**4000  # CPython and msgspec read up to some 4300 digits
_MAX_PLAIN_FLOAT = 1e16  # from here on repr() uses an exponent
_ATOMS = frozenset({str, int, bool, type(None)})
_TAGS = frozenset({"$tuple", "$float", "$dict"})
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class UnsupportedTypeError(ValidationError, TypeError):
    """A value of a type that has no plain form."""


class _RefusedError(Exception):
    """A value refused somewhere inside; collects the way to it, innermost first."""

    def __init__(self, error: type[ValidationError], reason: str) -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason
        self.path: list[str] = []

    def located(self, where: str) -> ValidationError:
        return self.error(f"{where}{''.join(reversed(self.path))}: {self.reason}")


def to_plain(value: Any, where: str, *, allow_nul: bool = False, finite: bool = False) -> Plain:
    """Convert a value to plain Python; the result shares no container with the argument.

    numpy and torch values become Python numbers and lists, dataclasses, pydantic models and other mappings
    become dicts, an Enum member its value. A tuple stays a tuple.

    Args:
        value: what the caller passed.
        where: what it is called in an error, such as ``"metrics"``.
        allow_nul: accept NUL characters in texts; PostgreSQL's JSONB refuses them.
        finite: refuse NaN and the infinities.

    Raises:
        ValidationError: something inside cannot be stored; the message says where it is.
        UnsupportedTypeError: the same, where the type is the reason; also a ``TypeError``.
    """
    try:
        return _plain(value, allow_nul, finite, MAX_DEPTH)
    except _RefusedError as refused:
        raise refused.located(where) from None


def to_number(value: Any, where: str) -> float | None:
    """Convert a fitness to a float; None stays None, NaN and the infinities pass.

    Raises:
        ValidationError: it is no number. A bool is refused: it is far more often a mistake than a fitness.
    """
    if type(value) is float or value is None:
        return value
    number = value
    if callable(getattr(type(value), "item", None)):
        try:
            number = value.item()
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValidationError(f"{where}: one number is needed: {error}") from error
    if isinstance(number, bool) or not isinstance(number, Real):
        raise ValidationError(f"{where}: a number is needed, not a value {_named(value)}")
    try:
        return float(number)
    except OverflowError:
        raise ValidationError(f"{where}: the int is too large for a float") from None


def encode_json(plain: Plain) -> str:
    """Write a plain value as JSON text from which :func:`decode_json` gives an equal value of the same types.

    Raises:
        ValidationError: the value is not plain.
    """
    try:
        data = plain if _is_bare(plain) else _tagged(plain)
        return msgspec.json.encode(data).decode()
    except (TypeError, UnicodeEncodeError, RecursionError) as error:
        raise ValidationError(f"not a plain value: {error}") from error


def decode_json(text: str | bytes) -> Plain:
    """Read what :func:`encode_json` wrote.

    Raises:
        CorruptDataError: the text is no JSON, or its tags make no sense.
    """
    try:
        data = msgspec.json.decode(text)
        has_tag = '"$' in text if isinstance(text, str) else b'"$' in text
        return _untagged(data) if has_tag else data
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise CorruptDataError(f"stored JSON cannot be read: {error}") from error


def _plain(value: Any, nul: bool, finite: bool, depth: int) -> Plain:  # noqa: PLR0911 - one branch per type, hot path
    kind = type(value)
    if kind is float:
        if finite and not math.isfinite(value):
            raise _RefusedError(ValidationError, f"{value!r} is not a finite number")
        return value
    if kind is str:
        return _text(value, nul)
    if kind is bool or value is None:
        return value
    if kind is int:
        if not -_INT_BOUND < value < _INT_BOUND:
            raise _RefusedError(ValidationError, "an int of more than 4000 digits")
        return value
    if kind is dict:
        return _plain_dict(value, nul, finite, depth)
    if kind is list:
        return _plain_items(value, nul, finite, depth)
    if kind is tuple:
        return tuple(_plain_items(value, nul, finite, depth))
    return _converted(value, nul, finite, depth)


def _text(value: str, nul: bool) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _RefusedError(ValidationError, f"a lone surrogate in the text {value!r:.60}") from None
    if not nul and "\0" in value:
        raise _RefusedError(ValidationError, f"a NUL character in the text {value!r:.60}")
    return value


def _plain_dict(value: Mapping[Any, Any], nul: bool, finite: bool, depth: int) -> dict[str, Plain]:
    if not depth:
        raise _RefusedError(ValidationError, f"nested deeper than {MAX_DEPTH} levels")
    plain = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise _RefusedError(ValidationError, f"the dict key {key!r:.60} is {_named(key)}, not str")
        try:
            plain[_text(str.__str__(key), nul)] = _plain(item, nul, finite, depth - 1)
        except _RefusedError as refused:
            refused.path.append(f"[{key!r:.60}]")
            raise
    return plain


def _plain_items(value: Any, nul: bool, finite: bool, depth: int) -> list[Plain]:
    if not depth:
        raise _RefusedError(ValidationError, f"nested deeper than {MAX_DEPTH} levels")
    plain: list[Plain] = []
    try:
        for item in value:
            plain.append(_plain(item, nul, finite, depth - 1))  # noqa: PERF401 - its length locates an error
    except _RefusedError as refused:
        refused.path.append(f"[{len(plain)}]")
        raise
    return plain


def _converted(value: Any, nul: bool, finite: bool, depth: int) -> Plain:
    """Convert a value of a type that is not plain itself."""
    for kind, convert in _SUBCLASSES:
        if isinstance(value, kind):
            return _plain(convert(value), nul, finite, depth)
    if isinstance(value, Mapping):
        return _plain_dict(value, nul, finite, depth)
    if isinstance(value, list | tuple):
        items = _plain_items(value, nul, finite, depth)
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, type) or not depth:
        raise _RefusedError(UnsupportedTypeError, f"a value {_named(value)} cannot be stored")
    return _plain(_opened(value), nul, finite, depth - 1)


# Enum comes first: str() of a member that mixes in str gives its name, not its value.
_SUBCLASSES: tuple[tuple[type, Any], ...] = (
    (Enum, lambda member: member.value),
    (str, str.__str__),
    (float, float.__float__),
    (int, int.__int__),
)


def _opened(value: Any) -> Any:
    """Give what a dataclass instance, a pydantic model, an array or a scalar holds.

    Arrays have ``tolist()``, scalars ``item()``; numpy and torch have one or both.
    """
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    for method in ("model_dump", "tolist", "item"):
        if callable(getattr(type(value), method, None)):
            try:
                opened = getattr(value, method)()
            except (TypeError, ValueError, RuntimeError) as error:
                raise _RefusedError(UnsupportedTypeError, f"a value {_named(value)}: {error}") from error
            # numpy's longdouble gives itself
            return float(opened) if type(opened) is type(value) else opened
    raise _RefusedError(UnsupportedTypeError, f"a value {_named(value)} cannot be stored")


def _named(value: Any) -> str:
    kind = type(value)
    name = kind.__qualname__
    return f"of type {name}" if kind.__module__ == "builtins" else f"of type {kind.__module__}.{name}"


def _is_bare(value: Plain) -> bool:
    """Whether JSON has a word for everything in the value, and keeps it on its way through JSONB."""
    kind = type(value)
    if kind is float:
        return -_MAX_PLAIN_FLOAT < value < _MAX_PLAIN_FLOAT  # type: ignore[no-any-return]  # a float: Plain is Any
    if kind is dict:
        if len(value) == 1 and not _TAGS.isdisjoint(value):
            return False
        return all(map(_is_bare, value.values()))
    if kind is list:
        return all(map(_is_bare, value))
    return kind in _ATOMS


def _tagged(value: Plain) -> Any:
    kind = type(value)
    if kind is float:
        return _tagged_float(value)
    if kind is tuple:
        return {"$tuple": [_tagged(item) for item in value]}
    if kind is list:
        return [_tagged(item) for item in value]
    if kind is dict:
        tagged = {key: _tagged(item) for key, item in value.items()}
        return {"$dict": tagged} if len(value) == 1 and not _TAGS.isdisjoint(value) else tagged
    if kind in _ATOMS:
        return value
    raise TypeError(f"it is {_named(value)}")


def _tagged_float(value: float) -> Any:
    if not math.isfinite(value):
        return {"$float": repr(value)}
    if abs(value) < _MAX_PLAIN_FLOAT:
        return value
    # JSONB expands 1e23 to the int 10**23, which is another number; it keeps the ".0" of the full notation.
    return msgspec.Raw(f"{value:.1f}".encode())


def _untagged(data: Any) -> Plain:
    kind = type(data)
    if kind is list:
        return [_untagged(item) for item in data]
    if kind is not dict:
        return data
    if len(data) == 1:
        ((tag, content),) = data.items()
        if tag in _TAGS:
            return _untagged_content(tag, content)
    return {key: _untagged(item) for key, item in data.items()}


def _untagged_content(tag: str, content: Any) -> Plain:
    if tag == "$tuple" and type(content) is list:
        return tuple(_untagged(item) for item in content)
    if tag == "$dict" and type(content) is dict:
        return {key: _untagged(item) for key, item in content.items()}
    if tag == "$float" and type(content) is str and content in _FLOATS:
        return _FLOATS[content]
    raise CorruptDataError(f"stored JSON cannot be read: {tag} with {content!r:.60}")
