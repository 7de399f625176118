"""Plain values: conversion, and JSON that gives back what it was given."""

import concurrent.futures
import dataclasses
import enum
import json
import math
import pickle
import types
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pydantic
import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import Self

from morphml_ray.errors import CorruptDataError, ValidationError
from morphml_ray.identity import encode_architecture
from morphml_ray.model.arguments import text, word
from morphml_ray.model.plain import (
    MAX_DEPTH,
    MAX_VALUES,
    UnsupportedTypeError,
    decode_json,
    encode_json,
    to_number,
    to_plain,
)
from morphml_ray.model.records import check_objectives

TEXTS = st.text(max_size=8) | st.sampled_from(["$tuple", "$float", "$dict", "nan", '"$'])
ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
PLAIN = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(TEXTS, inner, max_size=3)
    ),
    max_leaves=12,
)


def is_same(one: Any, other: Any) -> bool:
    """Equality that tells 1 from 1.0 and True, finds NaN equal to NaN, and -0.0 unequal to 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(repr(one) == repr(other))


class Color(enum.Enum):
    RED = "red"


class Operation(str, enum.Enum):
    CONV = "conv"


class Numbered(str, enum.Enum):
    """A text whose value is something else."""

    POOL = (1, "pool")

    def __new__(cls, number: int, name: str) -> Self:
        member = str.__new__(cls, name)
        member._value_ = number
        return member


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Layer:
    width: Any
    name: str = "dense"


class Model(pydantic.BaseModel):
    layers: list[int]


class Choices(pydantic.RootModel[list[int]]):
    pass


class Scalar:
    """What a torch tensor of no dimension looks like."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def item(self) -> Any:
        return self._value


class Broken:
    def tolist(self) -> Any:
        raise RuntimeError("not on this device")


class Tensor(Scalar):
    def item(self) -> Any:
        raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")

    def tolist(self) -> Any:
        return self._value


Point = namedtuple("Point", "x y")  # noqa: PYI024 - the untyped kind is the one to test


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.int64(7), 7),
        (np.uint8(7), 7),
        (np.bool_(True), True),  # noqa: FBT003 - numpy's own constructor
        (np.str_("conv"), "conv"),
        (np.array([1, 2]), [1, 2]),
        (np.array([[1.5], [2.5]]), [[1.5], [2.5]]),
        (np.array(3), 3),
        (Scalar(0.25), 0.25),
        (Tensor([1.0, 2.0]), [1.0, 2.0]),
        (Color.RED, "red"),
        (Operation.CONV, "conv"),
        (Level.HIGH, 3),
        (Layer(np.int64(8)), {"width": 8, "name": "dense"}),
        (Model(layers=[1, 2]), {"layers": [1, 2]}),
        (Choices([1, 2]), [1, 2]),
        (types.MappingProxyType({"a": (1,)}), {"a": (1,)}),
        (OrderedDict(b=1), {"b": 1}),
        (Point(1, 2), (1, 2)),
        ({np.str_("a"): 1}, {"a": 1}),
        ([None, True, 1, 1.0, "x"], [None, True, 1, 1.0, "x"]),
    ],
)
def test_lesson_08_everything_becomes_plain_python(value: Any, plain: Any) -> None:
    assert is_same(to_plain(value, "metrics"), plain)
    assert is_same(to_plain({"nested": [value]}, "metrics"), {"nested": [plain]})
    json.dumps(to_plain(value, "metrics"))


@given(PLAIN)
def test_a_plain_value_stays_as_it_is(value: Any) -> None:
    assert is_same(to_plain(value, "value", allow_nul=True), value)


def test_the_result_shares_no_container() -> None:
    given_value = {"a": [1, {"b": 2}]}
    plain = to_plain(given_value, "value")
    given_value["a"][1]["b"] = 3  # type: ignore[index]  # a dict by construction
    assert plain == {"a": [1, {"b": 2}]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {2: 3}]}, r"metrics\['a'\]\[1\]: the dict key 2 is of type int"),
        ({"a": {1, 2}}, r"metrics\['a'\]: a value of type set"),
        (b"bytes", r"metrics: a value of type bytes"),
        (lambda: 1, r"metrics: a value of type function"),
        (1j, r"metrics: a value of type complex"),
        (np.clongdouble(1j), r"metrics: a value of type numpy.clongdouble"),
        (int, r"metrics: a value of type type"),
        (Layer, r"metrics: a value of type type"),
        ({"t": np.datetime64("2024-01-01")}, r"metrics\['t'\]: a value of type datetime.date"),
        (Scalar(object()), r"metrics: a value of type object"),
        (np.array([object()]), r"metrics\[0\]: a value of type object"),
        (Broken(), r"metrics: a value of type .*Broken: not on this device"),
        (["ok", "\ud800"], r"metrics\[1\]: a lone surrogate"),
        (["a\0b"], r"metrics\[0\]: a NUL character"),
        ({"a\0b": 1}, r"metrics.*: a NUL character"),
        ({"x": 10**4000}, r"metrics\['x'\]: an int of more than 4000 digits"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place(value: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        to_plain(value, "metrics")


def test_a_type_without_plain_form_is_a_type_error_too_and_pickles() -> None:
    with pytest.raises(TypeError) as caught:
        to_plain(object(), "config")
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own error
    assert isinstance(copy, UnsupportedTypeError)
    assert str(copy) == str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), [np.inf]])
def test_only_where_finite_numbers_are_asked_for_others_are_refused(value: Any) -> None:
    to_plain(value, "metrics")
    with pytest.raises(ValidationError, match="not a finite number"):
        to_plain(value, "params", finite=True)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_nesting_is_bounded() -> None:
    assert to_plain(nested(MAX_DEPTH), "config") == nested(MAX_DEPTH)
    with pytest.raises(ValidationError, match="nested deeper than 100"):
        to_plain(nested(MAX_DEPTH + 1), "config")
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValidationError, match="nested deeper"):
        to_plain(endless, "config")
    endless_dict: dict[str, Any] = {}
    endless_dict["again"] = endless_dict
    with pytest.raises(ValidationError, match="nested deeper"):
        to_plain(endless_dict, "config")
    with pytest.raises(ValidationError, match="nested deeper"):
        to_plain(Layer({"layer": nested(100_000)}), "config")


@pytest.mark.parametrize(
    "value",
    [0.5, np.float64(0.5), np.float32(0.5), np.longdouble(0.5), np.array([0.5]), Scalar(0.5), Scalar(np.float32(0.5))],
)
def test_lesson_08_numbers_become_floats(value: Any) -> None:
    assert is_same(to_number(value, "fitness"), 0.5)


def test_a_number_may_be_missing_or_not_finite() -> None:
    assert to_number(None, "fitness") is None
    assert is_same(to_number(3, "fitness"), 3.0)
    assert is_same(to_number(np.int64(3), "fitness"), 3.0)
    assert is_same(to_number(math.nan, "fitness"), math.nan)
    assert to_number(np.float32("-inf"), "fitness") == -math.inf


@pytest.mark.parametrize(
    "value",
    [True, np.bool_(True), Scalar(True), "0.5", [0.5], {}, 1j, np.array([1.0, 2.0]), Tensor([1.0]), 10**400, int],  # noqa: FBT003 - numpy's own constructor
)
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match=r"^fitness: "):
        to_number(value, "fitness")


@given(PLAIN)
def test_json_gives_back_what_it_was_given(value: Any) -> None:
    text = encode_json(value)
    assert is_same(decode_json(text), value)
    assert is_same(decode_json(text.encode()), value)
    json.loads(text, parse_constant=pytest.fail)


@pytest.mark.parametrize(
    "value",
    [
        {"accuracy": 0.9, "n": 3, "ok": True, "note": None, "tags": ["a"]},
        {"$tuple": [1], "other": 2},
        {"$unknown": 1},
        [],
        "$tuple",
    ],
)
def test_what_json_has_words_for_is_plain_json(value: Any) -> None:
    assert json.loads(encode_json(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((1, "a"), '{"$tuple":[1,"a"]}'),
        ({"loss": math.nan}, '{"loss":{"$float":"nan"}}'),
        ([math.inf, -math.inf], '[{"$float":"inf"},{"$float":"-inf"}]'),
        ({"$tuple": [1]}, '{"$dict":{"$tuple":[1]}}'),
        ({"$dict": {"$float": "nan"}}, '{"$dict":{"$dict":{"$dict":{"$float":"nan"}}}}'),
        (10**30, "1" + "0" * 30),
        # JSONB would read 1e23 as the int 10**23, which is no float
        (1e23, "99999999999999991611392.0"),
    ],
)
def test_the_tags(value: Any, text: str) -> None:
    assert encode_json(value) == text
    assert is_same(decode_json(text), value)


@pytest.mark.parametrize(
    "value",
    [10**3999, -(10**3999), 2**63, 2**64, 5e-324, 1.7976931348623157e308],
    ids=["huge", "minus huge", "2**63", "2**64", "least float", "largest float"],
)
def test_extreme_numbers_survive(value: Any) -> None:
    assert is_same(decode_json(encode_json([value, ()]))[0], value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        '{"$tuple": 1}',
        '{"$float": "one"}',
        '{"$float": [1]}',
        '{"$dict": []}',
        b'"\xff"',
        "[" * 100_000,
        "1" * 10_000,
    ],
)
def test_damaged_json_is_said_to_be_damaged(text: str | bytes) -> None:
    with pytest.raises(CorruptDataError):
        decode_json(text)


@pytest.mark.parametrize("value", [{1, 2}, object(), b"x", np.float32(1), ("\ud800",), [np.array([1])]])
def test_only_plain_values_are_written(value: Any) -> None:
    with pytest.raises(ValidationError, match="not a plain value"):
        encode_json(value)


@pytest.mark.parametrize("value", [Operation.CONV, np.str_("conv"), Numbered.POOL])
def test_case_61_a_text_of_any_class_becomes_a_plain_one(value: str) -> None:
    plain = str.__str__(value)
    for found in (text(value, "name"), word(value, "status", ("conv", "pool")), *check_objectives({value: "max"})):
        assert (type(found), found) == (str, plain)
    ((key, _),) = to_plain({value: 1}, "metrics").items()
    assert (type(key), key) == (str, plain)


@pytest.mark.parametrize("value", ["running", "", None, 3, Color.RED, ["max"]])
def test_a_word_that_is_none_of_them_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match=r"^mode must be one of max, min, not "):
        word(value, "mode", ("max", "min"))


async def unfinished() -> None: ...


@pytest.fixture(params=["reference", "coroutine", "future"])
def forgotten(request: pytest.FixtureRequest) -> Iterator[tuple[Any, str]]:
    """What a call left behind that nobody waited for, and what the error says."""
    if request.param == "reference":
        yield ray.ObjectRef.from_random(), r"an ObjectRef is a reference, .*ray.get\(\) it first"
    elif request.param == "future":
        yield concurrent.futures.Future(), r"a Future is not done yet: store its result\(\)"
    else:
        coroutine = unfinished()
        yield coroutine, "a coroutine is not done yet: await it first"
        coroutine.close()


def test_case_25_a_forgotten_get_is_a_clear_error(forgotten: tuple[Any, str]) -> None:
    value, message = forgotten
    for bad in ({"a": [1, (value,)]}, {"a": [1, (Layer(value).width,)]}, {"a": np.array([1, [value]], object)}):
        with pytest.raises(ValidationError, match=rf"^config\['a'\]\[1\]\[0\]: {message}"):
            to_plain(bad, "config")
    with pytest.raises(ValidationError, match=rf"^fitness: .*{message}"):
        to_number(value, "fitness")


def test_case_25_a_reference_in_an_architecture_is_a_clear_error() -> None:
    reference: Any = ray.ObjectRef.from_random()
    graph = {"nodes": [{"id": 0, "operation": "conv", "params": {"w": reference}}], "edges": []}
    for architecture in (reference, {"units": reference}, [Layer(reference)], graph):
        with pytest.raises(ValidationError, match=r"ray\.get\(\) it first"):
            encode_architecture(architecture)


def test_parts_at_many_places_are_counted_at_each() -> None:
    value: Any = [1]
    for _ in range(60):
        value = [value, value]
    with pytest.raises(ValidationError, match=f"more than {MAX_VALUES} values, shared ones counted.*an artifact"):
        to_plain({"a": value}, "config")
    assert len(to_plain(list(range(MAX_VALUES)), "config")) == MAX_VALUES
