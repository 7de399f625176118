"""Objects with fields: their class counts, so that ``Conv(16)`` and ``Pool(16)`` are two.

Such an object (a dataclass, a pydantic model, a named tuple) is opened to a dict or a tuple that knows the name of the
class. That is also what comes back: the class itself is never looked up, since a stored name must not import anything.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from json.encoder import encode_basestring
from types import FunctionType
from typing import Any

from typing_extensions import Self

from morphml_ray.errors import ValidationError
from morphml_ray.model.plain import MAX_DEPTH, Plain, UnsupportedTypeError, to_plain


class NamedFields(dict[str, Any]):
    """The fields of an object, equal to a plain dict of them.

    A ``copy()`` and a deep copy keep the name of the class; ``{**fields}`` and ``fields | {...}`` are plain dicts.

    Attributes:
        type_name: ``module:name`` of the object's class.
    """

    __slots__ = ("type_name",)

    def __init__(self, type_name: str, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.type_name = type_name

    def copy(self) -> "NamedFields":
        """Give a shallow copy with the name of the class."""
        return NamedFields(self.type_name, self)

    def __reduce__(self) -> tuple[Any, ...]:
        return NamedFields, (self.type_name, dict(self))

    def __repr__(self) -> str:
        return f"NamedFields({self.type_name!r}, {super().__repr__()})"


class NamedItems(tuple[Any, ...]):  # noqa: SLOT001 - Python allows a tuple no slots that hold something
    """What a named tuple holds, equal to a plain tuple of it; its fields are attributes.

    Attributes:
        type_name: ``module:name`` of its class.
        field_names: its fields, in order.
    """

    type_name: str
    field_names: tuple[str, ...]

    def __new__(cls, type_name: str, field_names: Iterable[str], items: Iterable[Any]) -> Self:
        """Give the items a class and names."""
        self = super().__new__(cls, items)
        self.type_name = type_name
        self.field_names = tuple(field_names)
        return self

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("field_names", ()):
            return self[self.field_names.index(name)]
        raise AttributeError(f"a named tuple of {self.__dict__.get('type_name')} has no field {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return NamedItems, (self.type_name, self.field_names, tuple(self))

    def __repr__(self) -> str:
        return f"NamedItems({self.type_name!r}, {self.field_names!r}, {super().__repr__()})"


Named = NamedFields | NamedItems


def type_name(kind: type) -> str:
    """Give ``module:name`` of a class: the same in every process that has it.

    A class of a module is shipped by reference and keeps its qualified name. One of a script (``__main__``) or of a
    function is shipped by value, and cloudpickle makes ``Net.Conv`` into ``Conv`` on the way; but not in the names of
    its methods, which every dataclass has.
    """
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    if module != "__main__" and "<locals>" not in kind.__qualname__:
        return f"{module}:{kind.__qualname__}"
    for name, method in vars(kind).items():
        qualified = getattr(method, "__qualname__", "") if isinstance(method, FunctionType) else ""
        if qualified.endswith(f".{kind.__name__}.{name}"):
            return f"{module}:{qualified.removesuffix(f'.{name}')}"
    return f"{module}:{kind.__name__}"


def has_fields(value: Any) -> bool:
    """Whether a value is an object with fields, or has been one."""
    if isinstance(value, type | Enum):
        return False
    kind = type(value)
    if isinstance(value, tuple):
        return kind is NamedItems or _is_named_tuple(value)
    return kind is NamedFields or dataclasses.is_dataclass(kind) or callable(getattr(kind, "model_dump", None))


def class_mark(value: Any) -> str:
    """Give what stands in front of the fields of an object in a text that is hashed; no JSON looks like this."""
    name = value.type_name if isinstance(value, NamedFields | NamedItems) else type_name(type(value))
    return f"<{encode_basestring(name)}>"


def fields_of(value: Any, where: str) -> NamedFields | None:
    """Give the fields of an object by name, also those of a named tuple, as they are; None where it has none.

    Raises:
        ValidationError: a pydantic model holds what cannot be stored.
    """
    kind = type(value)
    if isinstance(value, NamedItems):
        return NamedFields(value.type_name, dict(zip(value.field_names, value, strict=True)))
    if isinstance(value, tuple):
        names = getattr(kind, "_fields", ())
        return NamedFields(type_name(kind), dict(zip(names, value, strict=True))) if _is_named_tuple(value) else None
    if dataclasses.is_dataclass(kind):
        return NamedFields(type_name(kind), _dataclass_fields(value, where))
    named = plain_for_key(value, where, finite=False) if has_fields(value) else None
    return named if isinstance(named, NamedFields) else None


def named_items(value: Any, items: Iterable[Any]) -> NamedItems:
    """Give other items in the place of a named tuple's own."""
    if isinstance(value, NamedItems):
        return NamedItems(value.type_name, value.field_names, items)
    return NamedItems(type_name(type(value)), type(value)._fields, items)


def plain_for_key(value: Any, where: str, *, finite: bool = True) -> Plain:
    """Convert a value to the plain one that its key is computed from; objects with fields become named ones.

    Args:
        value: what the caller passed.
        where: what it is called in an error.
        finite: refuse NaN and the infinities.

    Raises:
        ValidationError: as ``to_plain``.
    """
    return _Conversion(finite).convert(value, where, MAX_DEPTH)


class _Conversion:
    """The way of one value; everything without fields inside is left to ``to_plain``."""

    def __init__(self, finite: bool) -> None:
        self._finite = finite

    def convert(self, value: Any, where: str, depth: int) -> Plain:
        if isinstance(value, Enum):
            return self.convert(value.value, where, depth)
        is_named = has_fields(value)
        if not is_named and not isinstance(value, Mapping | list | tuple) and not _holds_objects(value):
            return self._plain(value, where)
        if not depth:
            raise ValidationError(f"{where}: nested deeper than {MAX_DEPTH} levels")
        if is_named:
            return self._named(value, where, depth - 1)
        if isinstance(value, Mapping):
            return self._fields(value, where, depth - 1)
        if isinstance(value, list | tuple):
            items = self._items(value, where, depth - 1)
            return tuple(items) if isinstance(value, tuple) else items
        return self.convert(value.tolist(), where, depth - 1)

    def _plain(self, value: Any, where: str) -> Plain:
        return to_plain(value, where, allow_nul=True, finite=self._finite)

    def _items(self, items: Sequence[Any], where: str, depth: int) -> list[Plain]:
        return [self.convert(item, f"{where}[{index}]", depth) for index, item in enumerate(items)]

    def _fields(self, fields: Mapping[Any, Any], where: str, depth: int) -> dict[str, Plain]:
        names = self._plain(dict.fromkeys(fields), where)
        if len(names) != len(fields):
            raise ValidationError(f"{where}: two keys of the dict are one text")
        return {
            name: self.convert(item, f"{where}[{name!r:.60}]", depth)
            for name, item in zip(names, fields.values(), strict=True)
        }

    def _named(self, value: Any, where: str, depth: int) -> Plain:
        kind = type(value)
        if kind is NamedFields:
            return NamedFields(value.type_name, self._fields(value, where, depth))
        if isinstance(value, tuple):
            return named_items(value, self._items(value, where, depth))
        if dataclasses.is_dataclass(kind):
            return NamedFields(type_name(kind), self._fields(_dataclass_fields(value, where), where, depth))
        return self._model(value, where, depth)

    def _model(self, model: Any, where: str, depth: int) -> Plain:
        """Convert a pydantic model field by field: its dump forgets the classes below, and what they add."""
        kind = type(model)
        fields = getattr(kind, "model_fields", None)
        if fields is None or kind.__pydantic_decorators__.model_serializers:
            dumped = self.convert(_dumped(model, where), where, depth)
            return NamedFields(type_name(kind), dumped) if type(dumped) is dict else dumped
        plain = {name: self._model_field(model, name, where, depth) for name in fields if not fields[name].exclude}
        extra = self._fields(getattr(model, "__pydantic_extra__", None) or {}, where, depth)
        return NamedFields(type_name(kind), plain | extra)

    def _model_field(self, model: Any, name: str, where: str, depth: int) -> Plain:
        inside = f"{where}[{name!r:.60}]"
        try:
            return self.convert(getattr(model, name), inside, depth)
        except UnsupportedTypeError:
            dumped = _dumped(model, where, include={name})
            if name not in dumped:
                raise
            # A serializer of the field's own may give something that can be stored.
            return self.convert(dumped[name], inside, depth)


def _dataclass_fields(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, str | int | float | list):
        raise UnsupportedTypeError(f"{where}: a dataclass that is a {type(value).__mro__[-2].__name__} as well")
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {**value, **fields} if isinstance(value, Mapping) else fields


def _dumped(model: Any, where: str, **options: Any) -> Any:
    try:
        return model.model_dump(**options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnsupportedTypeError(f"{where}: model_dump() of {type(model)!r}: {error}") from error


def _is_named_tuple(value: tuple[Any, ...]) -> bool:
    names = getattr(type(value), "_fields", None)
    return isinstance(names, tuple) and len(names) == len(value)


def _holds_objects(value: Any) -> bool:
    """Whether a value is a numpy array of Python objects, among which some may have fields."""
    return getattr(getattr(value, "dtype", None), "kind", None) == "O" and callable(getattr(value, "tolist", None))
