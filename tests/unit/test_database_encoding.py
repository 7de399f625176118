"""What a caller states of an evaluation or an experiment, before anything is sent."""

import logging
from typing import Any

import numpy as np
import pytest

from morphml_ray.database.encoding import MAX_RECORD_BYTES, encode_evaluation, encode_experiment
from morphml_ray.errors import ValidationError

LARGE = "x" * (MAX_RECORD_BYTES + 1)


@pytest.mark.parametrize(
    ("stated", "stored"), [(3, 3), (3.0, 3), (np.float64(3), 3), (np.int32(3), 3), (None, 0), ("three", 0), (2.5, 0)]
)
def test_case_21_a_generation_is_no_reason_to_lose_a_result(
    stated: Any, stored: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert encode_evaluation({"a": 1}, 0.5, generation=stated).generation == stored
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == (stated in ("three", 2.5))


def test_case_55_what_one_record_takes_has_a_bound_whatever_it_is_in() -> None:
    large: Any
    for large in ({"metrics": {"s": LARGE}}, {"worker_id": LARGE}, {"parents": [LARGE]}):
        with pytest.raises(ValidationError, match="can be recorded"):
            encode_evaluation({"a": 1}, None, **large)
    assert encode_evaluation({"a": 1}, None, error=LARGE).size_bytes < MAX_RECORD_BYTES  # what says enough is kept
    with pytest.raises(ValidationError, match="config takes"):
        encode_experiment("one", {"s": LARGE}, None, "error")
