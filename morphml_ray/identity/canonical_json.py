"""The one JSON text of a plain value: equal values, and only they, have equal texts."""

import re
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring  # the C routine behind json.dumps(..., ensure_ascii=False)
from math import isfinite
from typing import Any

from morphml_ray.identity.named_values import NamedFields, NamedItems, class_mark
from morphml_ray.model.plain import MAX_DEPTH, Plain

ODD, EXACT, BARE = range(3)
"""What a value needs before it can be stored: ODD to be made plain, EXACT tags in JSON (a tuple), BARE nothing."""

_MAX_SIMPLE_TEXT = 200  # a shorter text cannot hold what is too deep, or an int that is too long
_MAX_BARE_FLOAT = 1e16
_LONG_INT = re.compile(r"\d{4001}")


def canonical_json(plain: Plain) -> str:
    """Write a plain value without NaN and infinities as canonical JSON.

    Keys are sorted, there are no spaces, a tuple counts as a list and a float without a fraction as the int of the
    same value (``1.0`` is ``1``, ``-0.0`` is ``0``); ints are exact, and ``true`` is not ``1``. In front of the
    fields of an object stands the name of its class, as no JSON has it: ``<"module:Conv">{"width":16}``. The text is
    written here rather than by a JSON library: stored keys depend on every byte of it.
    """
    return _WRITERS[type(plain)](plain)


def quick_json(value: Any) -> tuple[str, int] | None:
    """Give the canonical JSON of a value that is plain already, and BARE or EXACT; None where it must be looked at.

    Nearly all architectures hold such values only, and this takes a third of the time that the long way takes.
    """
    level = BARE
    try:
        text = _BARE_WRITERS[type(value)](value)
    except (KeyError, TypeError, ValueError, RecursionError):
        level = EXACT
        try:
            text = _EXACT_WRITERS[type(value)](value)
        except (KeyError, TypeError, ValueError, RecursionError):
            return None
    if len(text) > _MAX_SIMPLE_TEXT and not _is_within_bounds(value, text):
        return None
    return (text, level) if text.isascii() or _is_unicode(text) else None


def quick_node_label(operation: Any, params: Any) -> str | None:
    """Give the canonical JSON of a node's two usual fields, without the braces, if both are BARE and short."""
    try:
        label = (
            f'"operation":{_BARE_WRITERS[type(operation)](operation)},"params":{_BARE_WRITERS[type(params)](params)}'
        )
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return label if len(label) <= _MAX_SIMPLE_TEXT and label.isascii() else None


def _is_within_bounds(value: Any, text: str) -> bool:
    if text.count("[") + text.count("{") > MAX_DEPTH and not _is_shallow(value):
        return False
    return _LONG_INT.search(text) is None


def _is_shallow(value: Any) -> bool:
    level, depth = [value], 0
    while level and depth < MAX_DEPTH:
        level = [item for each in level for item in _items(each) if type(item) in _CONTAINERS]
        depth += 1
    return not level


def _items(container: Any) -> Any:
    return container.values() if type(container) is dict else container


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _float(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _finite_float(value: float) -> str:
    if not isfinite(value):
        raise ValueError
    return _float(value)


def _bare_float(value: float) -> str:
    if not -_MAX_BARE_FLOAT < value < _MAX_BARE_FLOAT:
        raise ValueError
    return _float(value)


def _table(write_float: Callable[[float], str], tag: str | None = None) -> dict[type, Callable[[Any], str]]:
    """Give writers by type; what is inside of a list or a dict is looked up in the same table.

    Args:
        write_float: the writer of floats.
        tag: how the only key of a dict may not begin.
    """
    writers: dict[type, Callable[[Any], str]] = {
        str: encode_basestring,
        int: str,
        float: write_float,
        bool: {False: "false", True: "true"}.__getitem__,
        type(None): lambda _: "null",
    }

    def write_list(items: Any) -> str:
        return f"[{','.join([writers[type(item)](item) for item in items])}]"

    def write_dict(items: Mapping[str, Any]) -> str:
        if len(items) == 1 and next(iter(items))[:1] == tag:
            raise ValueError
        texts = [f"{encode_basestring(key)}:{writers[type(items[key])](items[key])}" for key in sorted(items)]
        return f"{{{','.join(texts)}}}"

    writers[list] = write_list
    writers[dict] = write_dict
    return writers


_WRITERS = _table(_float)
_WRITERS[tuple] = _WRITERS[list]
_EXACT_WRITERS = _table(_finite_float)
_EXACT_WRITERS[tuple] = _EXACT_WRITERS[list]
_BARE_WRITERS = _table(_bare_float, tag="$")
_CONTAINERS = frozenset({list, tuple, dict})


def _named_fields(fields: NamedFields) -> str:
    return f"{class_mark(fields)}{_WRITERS[dict](fields)}"


def _named_items(items: NamedItems) -> str:
    return f"{class_mark(items)}{_WRITERS[dict](dict(zip(items.field_names, items, strict=True)))}"


_WRITERS[NamedFields] = _named_fields
_WRITERS[NamedItems] = _named_items
