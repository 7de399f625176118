"""The one JSON text of a plain value: equal values, and only they, have equal texts."""

from collections.abc import Callable
from json.encoder import encode_basestring  # the C routine behind json.dumps(..., ensure_ascii=False)
from math import isfinite
from typing import Any

from morphml_ray.model.plain import Plain, to_plain


def canonical_json(plain: Plain) -> str:
    """Write a plain value without NaN and infinities as canonical JSON.

    Keys are sorted, there are no spaces, a tuple counts as a list and a float without a fraction as the int of the
    same value (``1.0`` is ``1``, ``-0.0`` is ``0``); ints are exact, and ``true`` is not ``1``. The text is
    written here rather than by a JSON library: stored keys depend on every byte of it.
    """
    return _WRITERS[type(plain)](plain)


def plain_for_key(value: Any, where: str) -> Plain:
    """Convert a value to the plain one that its key is computed from: finite numbers, any text.

    Raises:
        ValidationError: as ``to_plain``.
    """
    return to_plain(value, where, allow_nul=True, finite=True)


def canonical_json_of_flat(value: Any) -> str | None:
    """Give the canonical JSON of an ASCII text or a dict of ASCII texts and numbers; None for anything else.

    Nearly all operations and parameters are such, and this takes a third of the time that the long way takes.
    """
    if type(value) is str:
        text = encode_basestring(value)
    elif type(value) is dict:
        try:
            items = [f"{encode_basestring(key)}:{_FLAT[type(value[key])](value[key])}" for key in sorted(value)]
        except (KeyError, TypeError, ValueError):
            return None
        text = f"{{{','.join(items)}}}"
    else:
        return None
    return text if text.isascii() else None


def _finite_float(value: float) -> str:
    if not isfinite(value):
        raise ValueError
    return _float(value)


def _float(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _list(items: list[Plain] | tuple[Plain, ...]) -> str:
    return f"[{','.join([_WRITERS[type(item)](item) for item in items])}]"


def _dict(items: dict[str, Plain]) -> str:
    texts = [f"{encode_basestring(key)}:{_WRITERS[type(items[key])](items[key])}" for key in sorted(items)]
    return f"{{{','.join(texts)}}}"


_WRITERS: dict[type, Callable[[Any], str]] = {
    str: encode_basestring,
    int: str,
    float: _float,
    bool: {False: "false", True: "true"}.__getitem__,
    type(None): lambda _: "null",
    list: _list,
    tuple: _list,
    dict: _dict,
}
_FLAT: dict[type, Callable[[Any], str]] = {
    kind: _finite_float if kind is float else _WRITERS[kind] for kind in (str, int, float, bool, type(None))
}
