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
from collections.abc import Collection, Mapping
from enum import Enum
from numbers import Real
from typing import Any, TypeAlias

import msgspec

from morphml_ray.errors import CorruptDataError, ValidationError
from morphml_ray.model.handles import remedy_for

Plain: TypeAlias = Any
"""None, bool, int, float, str, and lists, tuples and str-keyed dicts of them."""

MAX_DEPTH = 100
"""How deep lists, tuples and dicts may be nested."""

MAX_VALUES = 1_000_000
"""How many values one may hold; a list that stands at many places counts at each."""

_INT_BOUND = 10**4000  # CPython and msgspec read up to some 4300 digits
_MAX_PLAIN_FLOAT = 1e16  # from here on repr() uses an exponent
_ATOMS = frozenset({str, int, bool, type(None)})
_TAGS = frozenset({"$tuple", "$float", "$dict"})
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class UnsupportedTypeError(ValidationError, TypeError):
    """A value of a type that has no plain form."""


class RefusedError(Exception):
    """A value refused somewhere inside; inside ``model`` only.

    Attributes:
        error: what the caller gets.
        reason: why.
        path: the way to the value, innermost first.
    """

    def __init__(self, error: type[ValidationError], reason: str) -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason
        self.path: list[str] = []

    def located(self, where: str) -> ValidationError:
        """Give the error, which says where the value stands."""
        return self.error(f"{where}{''.join(reversed(self.path))}: {self.reason}")


class TooManyError(RefusedError):
    """A value that holds too many others; inside ``model`` only."""

    def __init__(self) -> None:
        reason = f"more than {MAX_VALUES} values, shared ones counted at each place: keep them as an artifact"
        super().__init__(ValidationError, reason)


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
        return Conversion(allow_nul=allow_nul, finite=finite).plain(value, MAX_DEPTH)
    except RefusedError as refused:
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
        raise ValidationError(f"{where}: a number is needed, not {remedy_for(value) or f'a value {named(value)}'}")
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


class Conversion:
    """One conversion to a plain value; what has no plain form is refused.

    Args:
        allow_nul: as in ``to_plain``.
        finite: the same.
    """

    def __init__(self, *, allow_nul: bool = False, finite: bool = False) -> None:
        self._allow_nul = allow_nul
        self._finite = finite
        self._left = MAX_VALUES

    def plain(self, value: Any, depth: int) -> Plain:  # noqa: PLR0911 - one branch per type, hot path
        """Convert a value that may hold ``depth`` levels of others.

        Raises:
            RefusedError: it has no plain form.
        """
        kind = type(value)
        if kind is float:
            if self._finite and not math.isfinite(value):
                raise RefusedError(ValidationError, f"{value!r} is not a finite number")
            return value
        if kind is str:
            return self._text(value)
        if kind is bool or value is None:
            return value
        if kind is int:
            if not -_INT_BOUND < value < _INT_BOUND:
                raise RefusedError(ValidationError, "an int of more than 4000 digits")
            return value
        if kind is dict:
            return self._dict(value, depth)
        if kind is list:
            return self._items(value, depth)
        if kind is tuple:
            return tuple(self._items(value, depth))
        return self._converted(value, depth)

    def _text(self, value: str) -> str:
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise RefusedError(ValidationError, f"a lone surrogate in the text {value!r:.60}") from None
        if not self._allow_nul and "\0" in value:
            raise RefusedError(ValidationError, f"a NUL character in the text {value!r:.60}")
        return value

    def _enter(self, depth: int, size: int) -> None:
        """Count what a container holds: what is shared counts, and is written, at each of its places."""
        if not depth:
            raise RefusedError(ValidationError, f"nested deeper than {MAX_DEPTH} levels")
        self._left -= size
        if self._left < 0:
            raise TooManyError

    def _dict(self, value: Mapping[Any, Any], depth: int) -> dict[str, Plain]:
        self._enter(depth, len(value))
        plain = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise RefusedError(ValidationError, f"the dict key {key!r:.60} is {named(key)}, not str")
            try:
                plain[self._text(str.__str__(key))] = self.plain(item, depth - 1)
            except RefusedError as refused:
                refused.path.append(f"[{key!r:.60}]")
                raise
        return plain

    def _items(self, value: Collection[Any], depth: int) -> list[Plain]:
        self._enter(depth, len(value))
        plain: list[Plain] = []
        try:
            for item in value:
                plain.append(self.plain(item, depth - 1))  # noqa: PERF401 - its length locates an error
        except RefusedError as refused:
            refused.path.append(f"[{len(plain)}]")
            raise
        return plain

    def _converted(self, value: Any, depth: int) -> Plain:
        """Convert a value of a type that is not plain itself."""
        for kind, convert in _SUBCLASSES:
            if isinstance(value, kind):
                return self.plain(convert(value), depth)
        if isinstance(value, Mapping):
            return self._dict(value, depth)
        if isinstance(value, list | tuple):
            items = self._items(value, depth)
            return tuple(items) if isinstance(value, tuple) else items
        if isinstance(value, type) or not depth:
            raise RefusedError(UnsupportedTypeError, f"a value {named(value)} cannot be stored")
        return self.plain(_opened(value), depth - 1)


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
                raise RefusedError(UnsupportedTypeError, f"a value {named(value)}: {error}") from error
            # numpy's longdouble gives itself
            return float(opened) if type(opened) is type(value) and isinstance(value, Real) else opened
    remedy = remedy_for(value)
    if remedy:
        raise RefusedError(ValidationError, remedy)
    raise RefusedError(UnsupportedTypeError, f"a value {named(value)} cannot be stored")


def named(value: Any) -> str:
    """Name the type of a value in an error: "of type ..."."""
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
    raise TypeError(f"it is {named(value)}")


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
