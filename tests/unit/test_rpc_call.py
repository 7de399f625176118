"""Calls that name the method itself: what mypy refuses, what travels, and what help() shows."""

import inspect
import pickle
import pydoc

import pytest

import morphml_ray as mr
from morphml_ray.cache.actor import CacheActor
from morphml_ray.cache.contract import Cache
from morphml_ray.database.actor import DatabaseActor
from morphml_ray.database.contract import DatabaseReads, DatabaseWrites, EncodedEvaluation, SaveUnit
from morphml_ray.database.encoding import encode_evaluation
from morphml_ray.rpc.call import Call, call

UNIT = SaveUnit(1, [encode_evaluation({"a": 1}, 0.5)])

REPORTED = [
    *("architecture", "fitness", "metrics", "generation", "worker_id", "duration"),
    *("seed", "fidelity", "parents", "on_duplicate"),
]


def test_a_call_is_named_by_the_method_and_knows_whether_it_can_overload() -> None:
    assert call(DatabaseActor.save_one, UNIT) == Call("save_one", (UNIT,), {}, can_overload=True)
    assert call(CacheActor.exists, "key") == Call("exists", ("key",), {}, can_overload=False)


def test_a_method_of_a_contract_travels_by_its_name() -> None:
    sent = call(DatabaseActor.read, DatabaseReads.get_experiment, 1)
    arrived = pickle.loads(pickle.dumps(sent))  # noqa: S301 - written on this line
    assert arrived == sent
    assert arrived.arguments[0] is DatabaseReads.get_experiment


def test_mypy_refuses_what_does_not_fit() -> None:
    # `make check` fails where one of these is let through: its "type: ignore" would be unused.
    prepared = [
        call(DatabaseActor.read, DatabaseWrites.delete_experiment, 1),  # type: ignore[call-overload]  # no read
        call(DatabaseActor.write, DatabaseReads.get_experiment, 1),  # type: ignore[call-overload]  # no write
        call(DatabaseActor.read, DatabaseReads.get_experiment, 1.5),  # type: ignore[call-overload]  # no experiment
        call(DatabaseActor.save_one),  # type: ignore[call-overload]  # nothing to save
        call(CacheActor.run, Cache.ttl_s, b"key"),  # type: ignore[call-overload]  # no text
    ]
    assert [one.method for one in prepared] == ["read", "write", "read", "save_one", "run"]


def test_mypy_knows_what_arrives() -> None:
    saved: Call[int] = call(DatabaseActor.save_one, UNIT)
    listed: Call[list[mr.ArchitectureRecord]] = call(
        DatabaseActor.read, DatabaseReads.list_architectures, 1, None, None, None, 10
    )
    found: Call[mr.ArchitectureRecord | None] = call(DatabaseActor.read, DatabaseReads.get_architecture_by_hash, "", 1)
    deleted: Call[bool] = call(DatabaseActor.write, DatabaseWrites.delete_experiment, 1)
    assert [one.method for one in (saved, listed, found, deleted)] == ["save_one", "read", "read", "write"]


@pytest.mark.parametrize(
    ("method", "leading"),
    [
        (mr.DatabaseManager.save_architecture, ["self", "experiment_id"]),
        (mr.Experiment.record, ["self"]),
        (mr.Recorder.record, ["self"]),
    ],
    ids=["save_architecture", "record", "recorder"],
)
def test_whatever_records_shows_the_same_arguments(method: object, leading: list[str]) -> None:
    parameters = inspect.signature(method).parameters  # type: ignore[arg-type]  # each is a function or a descriptor
    assert list(parameters) == [*leading, *REPORTED]
    assert (parameters["generation"].default, parameters["on_duplicate"].default) == (0, "keep_first")
    text = inspect.getdoc(method) or ""
    assert all(f"{name}: " in text for name in REPORTED)


@pytest.mark.parametrize("facade", [mr.DatabaseManager, mr.DistributedCache, mr.ArtifactStore])
def test_help_shows_what_a_user_calls(facade: type) -> None:
    shown = pydoc.plain(pydoc.render_doc(facade))
    assert "RemoteMethod" not in shown
    assert "unit: " not in shown
    assert {
        mr.DatabaseManager: "save_architecture(self, experiment_id: int | str, architecture: Any, fitness: Any, ",
        mr.DistributedCache: "increment(self, key: str, amount: int = 1) -> int | None",
        mr.ArtifactStore: "list_keys(self, prefix: str = '') -> list[str]",
    }[facade] in shown


def test_every_field_of_an_evaluation_has_its_column() -> None:
    # What is added to EncodedEvaluation alone would be dropped on its way.
    from morphml_ray.database.sql.schema import architectures, evaluations, proposals

    columns = {*evaluations.c.keys(), *architectures.c.keys(), *proposals.c.keys()}
    assert set(EncodedEvaluation._fields) - columns == {"on_duplicate"}
