"""Arguments of the artifacts: what is taken arrives as plain values."""

import enum
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from morphml_ray.artifacts.checks import check_content_type, check_limit, check_presign, check_range, view_bytes
from morphml_ray.errors import ValidationError


class Word(str, enum.Enum):
    GET = "get_object"
    JSON = "application/json"


def test_case_61_arguments_of_enums_and_numpy_become_plain() -> None:
    expires_s, method = check_presign(np.int64(60), Word.GET)
    found = [
        expires_s,
        method,
        check_content_type(Word.JSON),
        check_limit(np.int64(3)),
        *check_range(np.int64(1), None),
    ]
    assert found == [60, "get_object", "application/json", 3, 1, None]
    assert [type(value) for value in found] == [int, str, str, int, int, type(None)]


@pytest.mark.parametrize(
    "ask",
    [
        (check_limit, "5"),
        (check_range, "0", None),
        (check_range, 0, 1.5),
        (check_presign, "60", "get_object"),
        (check_presign, 60, ["get_object"]),
        (check_content_type, 7),
    ],
)
def test_wrong_arguments_are_errors_of_ours(ask: tuple[Any, ...]) -> None:
    check, *arguments = ask
    with pytest.raises(ValidationError):
        check(*arguments)


@pytest.mark.parametrize(
    "data", [np.zeros(3, "datetime64[s]"), np.zeros(3, ml_dtypes.bfloat16), np.array(["a", 1], dtype=object), 7]
)
def test_cases_6_and_22_what_has_no_bytes_of_its_own_is_refused(data: Any) -> None:
    with pytest.raises(ValidationError):
        view_bytes(data)
