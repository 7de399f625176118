"""Side values: whatever was measured is stored, as a text at worst, and never costs the result."""

import collections
import dataclasses
import datetime as dt
import enum
import fractions
import logging
import uuid
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from morphml_ray.model.plain import decode_json, encode_json, to_plain
from morphml_ray.model.side_values import MAX_TEXT, to_side_value


class Operation(str, enum.Enum):
    CONV = "conv"


class Start(dt.date, enum.Enum):
    FIRST = (2026, 1, 2)


@dataclasses.dataclass
class Node:
    name: Any
    parent: Any = None


class Hostile:
    """Raises whatever is asked of it."""

    def __str__(self) -> str:
        raise ZeroDivisionError("str")

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError("eq")

    def __hash__(self) -> int:
        return 1

    def tolist(self) -> Any:
        raise LookupError("tolist\0")


class HalfRead(Mapping[str, int]):
    """A mapping that breaks off."""

    def __getitem__(self, key: str) -> int:
        if key == "b":
            raise OSError("the file is gone")
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter("abc")

    def __len__(self) -> int:
        return 3


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def shared(levels: int) -> Any:
    value: Any = [1]
    for _ in range(levels):
        value = [value, value]
    return value


def myself() -> Any:
    value: list[Any] = [1]
    value.append(value)
    return value


ODD_NAME = type("Odd", (), {"__qualname__": "odd\0"})
KEYS = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.binary(max_size=3),
    st.text(st.characters(exclude_categories=()), max_size=3) | st.dates() | st.uuids() | st.decimals(allow_nan=False),
    st.tuples(st.integers(0, 3)) | st.sampled_from([Operation.CONV, object(), ODD_NAME, Path("a")]),
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.binary(max_size=5),
        st.text(st.characters(exclude_categories=()), max_size=6),
        st.decimals() | st.fractions() | st.dates() | st.times() | st.datetimes() | st.timedeltas() | st.uuids(),
        st.builds(pow, st.just(10), st.just(5000))
        | st.builds(range, st.integers(0, 9))
        | st.ip_addresses()
        | st.functions(),
        st.builds(Node, st.text(max_size=3)) | st.builds(ValueError, st.text(max_size=3)),
        st.sampled_from([object(), Hostile(), HalfRead(), ODD_NAME(), ODD_NAME, Operation, Operation.CONV, iter("ab")]),
        st.sampled_from([Decimal("1e999"), fractions.Fraction(10**400), nested(150), myself(), Path("a\0")]),
        hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(max_dims=2, max_side=2)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(collections.deque) | st.builds(Node, inner, inner),
        st.dictionaries(KEYS, inner, max_size=4) | st.frozensets(KEYS, max_size=3),
    ),
    max_leaves=10,
)


@given(ANYTHING)
@settings(deadline=None)
def test_case_21_no_metric_whatever_it_is_costs_the_result(value: Any) -> None:
    stored = to_side_value({"metric": value, "fine": 1}, "metrics")
    assert stored["fine"] == 1
    assert repr(decode_json(encode_json(stored))) == repr(stored)
    alone = to_side_value(value, "parents")
    assert repr(decode_json(encode_json(alone))) == repr(alone)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (Decimal("0.1"), 0.1),
        (Decimal("Infinity"), float("inf")),
        (fractions.Fraction(1, 4), 0.25),
        (dt.datetime(2026, 1, 2, 3, tzinfo=dt.timezone.utc), "2026-01-02T03:00:00+00:00"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.timedelta(minutes=1), 60.0),
        (Start.FIRST, "2026-01-02"),
        (Path("/runs/1"), "/runs/1"),
        (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"a"}), ["a"]),
        (range(3), [0, 1, 2]),
        (collections.deque([1, (2,)]), [1, (2,)]),
        ({"a": 1}.values(), [1]),
        ({1: 0.5, None: 1, False: 2, 0.25: 3, (1, 2): 4}, {"1": 0.5, "null": 1, "false": 2, "0.25": 3, "(1, 2)": 4}),
        ({1: "int", "1": "text", Operation.CONV: 2}, {"1_": "int", "1": "text", "conv": 2}),
        (np.array(["2026-01-02"], "M8[D]"), ["2026-01-02"]),
        (Node(Decimal(1), Node("root")), {"name": 1.0, "parent": {"name": "root", "parent": None}}),
        ([Decimal(2), 0.5, True, (1, "a")], [2.0, 0.5, True, (1, "a")]),
    ],
    ids=repr,
)
def test_case_21_what_json_can_say_is_stored_without_a_word(
    value: Any, stored: Any, caplog: pytest.LogCaptureFixture
) -> None:
    found = to_side_value({"metric": value}, "metrics")["metric"]
    assert (repr(found), type(found)) == (repr(stored), type(stored))
    assert not caplog.records


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (1 + 2j, "(1+2j)"),
        (np.clongdouble(2j), "2j"),
        (b"ab\0", "b'ab\\x00'"),
        (ValueError("no memory"), "ValueError: no memory"),
        ("a\0b\ud800", "a\\x00b\\ud800"),
        (Decimal("1e999"), "1E+999"),
        ([0.5, 1j], [0.5, "1j"]),
        (myself(), [1, "<list: it holds itself>"]),
        (Hostile(), "<Hostile>"),
        (HalfRead(), "<HalfRead: it cannot be read (OSError: the file is gone)>"),
    ],
    ids=["complex", "clongdouble", "bytes", "error", "text", "decimal", "list", "itself", "hostile", "half"],
)
def test_case_21_what_json_cannot_say_is_a_text_and_one_warning_names_the_metric(
    value: Any, stored: Any, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"metric {stored}"
    for _ in range(3):
        assert repr(to_side_value({name: value, "fine": 1}, "metrics")) == repr({name: stored, "fine": 1})
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("morphml_ray.model.side_values", logging.WARNING)
    assert record.getMessage().startswith(f"metrics[{name!r:.60}]: ")
    assert record.getMessage().endswith("; a text is stored in its place")


def test_case_21_what_is_too_deep_or_too_much_is_a_text_and_the_others_stay() -> None:
    stored = to_side_value({"deep": nested(100_000), "much": shared(60), "range": range(10**12), "fine": 1}, "metrics")
    assert stored["fine"] == 1
    assert "nested deeper than 100 levels" in encode_json(stored["deep"])
    assert "more than 1000000 values" in stored["much"]
    assert stored["range"] == "range(0, 1000000000000)"


def test_a_text_in_place_of_a_value_has_an_end() -> None:
    stored = to_side_value({"bytes": bytes(10**6), "int": 10**5000, "error": ValueError("x" * 10**6)}, "metrics")
    assert {len(text) for text in stored.values()} == {MAX_TEXT}
    assert all(text.endswith("…") for text in stored.values())


def test_neither_the_text_nor_the_warning_holds_what_cannot_be_written(caplog: pytest.LogCaptureFixture) -> None:
    odd = type("Odd", (), {"__qualname__": "odd\0\ud800"})
    stored = to_side_value({"odd": odd, odd: 1}, "metrics")
    assert encode_json(stored).count(r"odd\\x00\\ud800") == 2
    assert caplog.text.encode()
    assert "\0" not in caplog.text


def test_a_mapping_that_breaks_off_gives_what_came_before(caplog: pytest.LogCaptureFixture) -> None:
    assert to_side_value(HalfRead(), "metrics") == {"a": 1}
    assert "the file is gone" in caplog.text


def test_case_25_a_forgotten_get_is_named(caplog: pytest.LogCaptureFixture) -> None:
    stored = to_side_value({"forgotten": ray.ObjectRef.from_random()}, "metrics")
    assert stored["forgotten"].startswith("ObjectRef(")
    assert "metrics['forgotten']: an ObjectRef is a reference" in caplog.text
    assert "ray.get() it first" in caplog.text


@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3)))
def test_what_is_plain_stays_as_it_is(value: Any) -> None:
    if "\\u0000" not in encode_json(value):
        assert to_side_value(value, "metrics") == to_plain(value, "metrics")
