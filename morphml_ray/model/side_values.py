"""Side values: metrics and the like, which are never a reason to lose a result that took hours."""

import dataclasses
import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from itertools import islice
from pathlib import PurePath
from typing import Any
from uuid import UUID

from morphml_ray.errors import ValidationError
from morphml_ray.model.plain import MAX_DEPTH, Conversion, Plain, RefusedError, TooManyError, named

MAX_TEXT = 1_000
"""How many characters of the text are stored that stands in place of a value."""

_MAX_WARNINGS = 1_000
_log = logging.getLogger(__name__)
_warned: set[tuple[str, type]] = set()


def to_side_value(value: Any, where: str) -> Plain:
    """Convert a value to plain Python, whatever it is.

    What ``to_plain`` takes becomes the same here. Beyond that, a Decimal or a Fraction becomes a float, a timedelta its
    seconds, a date or a time its ISO text, a path or a UUID its text, any other collection a list, and a key a text.
    What is left becomes a text of at most ``MAX_TEXT`` characters, and so does what is nested too deep, holds itself
    or holds too much; one warning in the log names the metric, once for each type.

    Args:
        value: what the caller passed; a mapping gives a dict.
        where: what it is called in the log, such as ``"metrics"``.
    """
    if not isinstance(value, Mapping):
        return _converted(value, where)
    plain: dict[str, Plain] = {}
    try:
        for key, item in islice(value.items(), len(value)):
            name = _free_name(key, _converted(key, where), value, plain)
            plain[name] = _converted(item, f"{where}[{name!r:.60}]")
    except Exception as error:  # noqa: BLE001 - a class's own code runs here and may raise anything
        _warn(where, type(value), f"it cannot be read to its end ({_text_of(error)})")
    return plain


def _converted(value: Any, place: str) -> Plain:
    """Convert one value; nearly all are plain, and the tolerant way takes three times as long."""
    conversion = _SideConversion()
    try:
        return Conversion().plain(value, MAX_DEPTH - 1)
    except TooManyError as error:
        plain: Plain = conversion.instead(value, error.reason)
    except Exception:  # noqa: BLE001 - the same
        plain = conversion.whole(value)
    if conversion.problem:
        _warn(place, *conversion.problem)
    return plain


def _warn(place: str, kind: type, reason: str) -> None:
    if (place, kind) not in _warned and len(_warned) < _MAX_WARNINGS:
        _warned.add((place, kind))
        _log.warning("%s: %s; a text is stored in its place", place, _text_of(" ".join(reason.split())))


class _SideConversion(Conversion):
    """A conversion that refuses nothing.

    Attributes:
        problem: the type of the first value that became a text, and why; None where none did.
    """

    def __init__(self) -> None:
        super().__init__()
        self.problem: tuple[type, str] | None = None
        self._open: set[int] = set()

    def whole(self, value: Any) -> Plain:
        """Convert a whole value; what holds too much becomes a text as a whole."""
        try:
            return self.plain(value, MAX_DEPTH - 1)
        except Exception as error:  # noqa: BLE001 - a class's own code runs here and may raise anything
            self.problem = None
            return self.instead(value, error.reason if isinstance(error, RefusedError) else "it cannot be read")

    def plain(self, value: Any, depth: int) -> Plain:
        """Convert a value; see ``Conversion.plain``."""
        if type(value) in _ATOMS:
            return super().plain(value, depth)
        if id(value) in self._open:
            return self.instead(value, "it holds itself")
        self._open.add(id(value))
        try:
            return super().plain(value, depth)
        except TooManyError:
            raise
        except Exception as error:  # noqa: BLE001 - the same
            reason = error.reason if isinstance(error, RefusedError) else f"it cannot be read ({_text_of(error)})"
            return self.instead(value, reason)
        finally:
            self._open.discard(id(value))

    def instead(self, value: Any, reason: str) -> str:
        """Give the text that is stored in place of a value."""
        self._note(type(value), reason)
        # The text of a structure could be as endless as the structure.
        return _text_of(f"<{type(value).__name__}: {reason}>" if _is_structure(type(value)) else value)

    def _note(self, kind: type, reason: str) -> None:
        self.problem = self.problem or (kind, reason)

    def _text(self, value: str) -> str:
        clean = _clean(value)
        if clean != value:
            self._note(str, "a NUL character or a lone surrogate in a text")
        return clean

    def _dict(self, value: Mapping[Any, Any], depth: int) -> dict[str, Plain]:
        self._enter(depth, len(value))
        plain: dict[str, Plain] = {}
        for key, item in islice(value.items(), len(value)):
            name = _free_name(key, self.plain(key, 1), value, plain)
            plain[name] = self.plain(item, depth - 1)
        return plain

    def _converted(self, value: Any, depth: int) -> Plain:
        for kind, form in _FORMS:
            if isinstance(value, kind):
                return self.plain(form(value), depth)
        if isinstance(value, _COLLECTIONS) and not isinstance(value, _NO_COLLECTIONS):
            self._enter(depth, len(value))  # before a range of a billion is opened
            return self._items(_listed(value), depth)
        return super()._converted(value, depth)


def _free_name(key: Any, form: Plain, mapping: Mapping[Any, Any], taken: Mapping[str, Plain]) -> str:
    """Write a key, of which ``form`` is plain, as a text that no other key has: a mapping may hold both 1 and "1"."""
    if type(form) is not str:
        form = _WORDS[form] if form is None or type(form) is bool else _text_of(form)
    text: str = form
    is_own = isinstance(key, str) and text == key
    while text in taken or (not is_own and text in mapping):
        text += "_"
    return text


def _listed(value: Any) -> list[Any]:
    """Give the items of a collection, as many as it says; those of a set in an order that does not change."""
    items = list(islice(value, len(value)))
    if isinstance(value, AbstractSet):
        try:
            items.sort()
        except Exception:  # noqa: BLE001 - the same; unlike types have no order
            return items
    return items


def _as_float(value: Decimal | Fraction) -> float:
    number = float(value)
    if math.isinf(number) and not (isinstance(value, Decimal) and value.is_infinite()):
        raise RefusedError(ValidationError, f"a value {named(value)} is too large for a float")
    return number


def _is_structure(kind: type) -> bool:
    return issubclass(kind, _STRUCTURES) or dataclasses.is_dataclass(kind)


def _text_of(value: Any) -> str:
    """Give the text of a value, whatever its class does; cut to ``MAX_TEXT`` characters."""
    try:
        if isinstance(value, _BINARY):
            text = repr(bytes(value[:MAX_TEXT]))
        elif isinstance(value, BaseException):
            text = f"{type(value).__name__}: {value}"
        else:
            text = hex(value) if type(value) is int and value.bit_length() > MAX_TEXT else str(value)
        text = _clean(text[: MAX_TEXT + 1])
    except Exception:  # noqa: BLE001 - the same
        text = f"<{type(value).__name__}>"
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def _clean(text: str) -> str:
    r"""Write what JSON in a database cannot hold, a NUL or a lone surrogate, as \x00 or \ud800."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


_ATOMS = frozenset({float, bool, type(None), str})
# Enum comes first: a member may be a date too.
_FORMS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Enum, lambda member: member.value),
    ((date, time), lambda value: value.isoformat()),
    (timedelta, timedelta.total_seconds),
    ((Decimal, Fraction), _as_float),
    ((PurePath, UUID), str),
)
_COLLECTIONS = (AbstractSet, Sequence, deque, ValuesView)
_BINARY = (bytes, bytearray, memoryview)
_NO_COLLECTIONS = (str, list, tuple, *_BINARY)
_STRUCTURES = (list, tuple, Mapping, AbstractSet, deque, ValuesView)
_WORDS = {True: "true", False: "false", None: "null"}
