"""What users call, through a real Ray, on SQLite and PostgreSQL."""

import asyncio
import math
from dataclasses import FrozenInstanceError
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import ray

import morphml_ray as mr
from morphml_ray.rpc.remote_method import RemoteMethod

CHAIN: dict[str, Any] = {
    "nodes": [{"id": "a", "operation": "input"}, {"id": "b", "operation": "dense", "params": {"width": 8}}],
    "edges": [{"source": "a", "target": "b"}],
}


def test_the_example_of_the_design(shared_storage: mr.Storage) -> None:
    experiment = shared_storage.experiment(
        "digits", objectives={"accuracy": "max", "params": "min"}, config={"a": (1, 2)}
    )
    first = experiment.record(CHAIN, np.float32(0.5), {"params": np.int64(10)}, generation=3, worker_id="w", duration=2)
    second = experiment.record({"lr": 0.1}, 0.75, {"params": 7}, seed=1, fidelity={"epochs": 5}, parents=(first,))
    best = experiment.best(10)
    assert [record.id for record in best] == [second, first]
    assert best[1].architecture_hash == shared_storage.database.hash_architecture(best[1].architecture)
    assert (best[1].metrics, best[1].generation, best[1].worker_id) == ({"params": 10}, 3, "w")
    assert (best[0].seed, best[0].fidelity, best[0].parents) == (1, {"epochs": 5}, (first,))
    assert best[0].evaluated_at is not None
    assert best[0].evaluated_at.tzinfo is not None
    with pytest.raises(FrozenInstanceError):
        best[0].id = 5  # type: ignore[misc]  # that it cannot is the point
    assert [record.id for record in experiment.history()] == [first, second]
    statistics = experiment.statistics()
    assert (statistics["num_evaluations"], statistics["best_fitness"], statistics["avg_fitness"]) == (2, 0.75, 0.625)
    frame = experiment.to_pandas()
    assert list(frame.index) == [first, second]
    assert list(frame["params"]) == [10, 7]
    again = shared_storage.experiment("digits")
    assert (again.id, again.name) == (experiment.id, "digits")


def test_every_method_blocks_and_has_remote_with_the_same_value(shared_storage: mr.Storage) -> None:
    database = shared_storage.database
    number = database.create_experiment("one", {"optimizer": "random"})
    saved = database.save_architecture(number, CHAIN, 1.0)
    key = database.hash_architecture(CHAIN)
    calls: dict[str, tuple[Any, ...]] = {
        "create_experiment": ("one", {}, {"if_exists": "reuse"}),
        "save_architecture": (number, CHAIN, 1.0),
        "save_architectures": ("one", [{"architecture": CHAIN, "fitness": 1.0}]),
        "get_best_architectures": (str(number), 3),
        "get_architecture_by_hash": (key, number),
        "list_architectures": ("one",),
        "get_experiment": ("one",),
        "get_experiment_by_name": ("one",),
        "list_experiments": (),
        "update_experiment_status": (number, "running"),
        "get_experiment_statistics": (number,),
        "delete_experiment": ("unknown",),
        "hash_architecture": (CHAIN,),
    }
    methods = {name for name, value in vars(mr.DatabaseManager).items() if isinstance(value, RemoteMethod)}
    assert methods == set(calls)
    for name, arguments in calls.items():
        plain = [one for one in arguments if not (isinstance(one, dict) and "if_exists" in one)]
        named = next((one for one in arguments if isinstance(one, dict) and "if_exists" in one), {})
        method = getattr(database, name)
        blocking, remote = method(*plain, **named), ray.get(method.remote(*plain, **named))
        if name == "get_experiment_statistics":
            blocking.pop("num_proposals"), remote.pop("num_proposals")
        if not name.endswith(("experiment", "by_name", "experiments", "statistics")) or name == "delete_experiment":
            assert blocking == remote, name
        assert type(blocking) is type(remote), name
    assert database.save_architecture(number, CHAIN, 1.0) == saved

    async def awaited() -> mr.ExperimentRecord | None:
        return await database.get_experiment.remote(number)

    found = asyncio.run(awaited())
    assert found is not None
    assert found.optimizer == "random"


def test_absence_and_wrong_arguments(shared_sqlite_storage: mr.Storage) -> None:
    database: Any = shared_sqlite_storage.database  # untyped: the arguments are wrong on purpose
    number = database.create_experiment("one", {})
    assert database.get_experiment(4711) is database.get_experiment_by_name("no") is None
    assert database.get_architecture_by_hash("g1:" + "0" * 64) is None
    assert database.delete_experiment(4711) is False
    missing: list[Any] = [
        lambda: database.save_architecture(4711, CHAIN, 1.0),
        lambda: database.get_experiment_statistics("no"),
        lambda: database.list_architectures(4711),
        lambda: database.get_best_architectures(10**30),
        lambda: database.update_experiment_status(4711, "failed"),
    ]
    for call in missing:
        with pytest.raises(mr.NotFoundError):
            call()
    with pytest.raises(mr.AlreadyExistsError, match="reuse"):
        database.create_experiment("one", {})
    wrong: list[Any] = [
        lambda: database.save_architecture(number, CHAIN, "high"),
        lambda: database.save_architecture(number, CHAIN, 1.0, generation=-1),
        lambda: database.save_architecture(number, CHAIN, 1.0, on_duplicate="both"),
        lambda: database.save_architecture(number, CHAIN, 1.0, fidelity={"note": "x" * 1_001}),
        lambda: database.update_experiment_status(number, "done"),
        lambda: database.list_architectures(number, status="done"),
        lambda: database.list_architectures(number, limit=0),
        lambda: database.get_best_architectures(number, 0),
        lambda: database.get_best_architectures(number, where={"params": ("~", 1)}),
        lambda: database.create_experiment("", {}),
        lambda: database.create_experiment("two", {}, objectives={"loss": "down"}),
        lambda: database.save_architecture(None, CHAIN, 1.0),
    ]
    for call in wrong:
        with pytest.raises(mr.ValidationError):
            call()
    with pytest.raises(TypeError, match="register_codec"):
        database.hash_architecture(object())
    assert database.get_experiment_statistics(number)["num_proposals"] == 0


def test_a_wrong_record_of_many_is_named_and_nothing_is_stored(shared_sqlite_storage: mr.Storage) -> None:
    database = shared_sqlite_storage.database
    number = database.create_experiment("one", {})
    good = {"architecture": CHAIN, "fitness": 1.0}
    for bad in (
        {"fitness": 1.0},
        {**good, "fitnes": 1.0},
        {**good, "fitness": "x"},
        {**good, "architecture": {1}},
    ):
        with pytest.raises(mr.ValidationError, match=r"records\[1\]"):
            database.save_architectures(number, [good, bad])
    assert database.save_architectures(number, []) == []
    assert database.get_experiment_statistics(number)["num_evaluations"] == 0


def test_the_recorder_waits_for_nothing_and_loses_nothing(shared_storage: mr.Storage) -> None:
    experiment = shared_storage.experiment("one")
    with experiment.recorder() as recorder:
        for number in range(2_500):
            recorder.record({"number": number % 2_000}, number / 1e4)
        recorder.flush()
        assert experiment.statistics()["num_evaluations"] == 2_000
        recorder.record({"number": -1}, math.nan)
        with pytest.raises(mr.ValidationError):
            recorder.record({"number": -2}, "high")
    statistics = experiment.statistics()
    assert (statistics["num_evaluations"], statistics["num_failed"]) == (2_000, 1)
    assert statistics["num_duplicates"] == 500
    recorder.close()
    with pytest.raises(mr.ValidationError, match="closed"):
        recorder.record({"number": 1}, 1.0)


def test_errors_of_a_recorder_surface_when_it_flushes(shared_sqlite_storage: mr.Storage) -> None:
    experiment = shared_sqlite_storage.experiment("one")
    recorder = experiment.recorder()
    shared_sqlite_storage.database.delete_experiment("one")
    for number in range(3):
        recorder.record({"number": number}, 1.0)
    with pytest.raises(mr.NotFoundError, match="3 records were not stored"):
        recorder.flush()
    recorder.close()
    with pytest.raises(ZeroDivisionError) as caught, experiment.recorder() as other:
        other.record({"number": 9}, 1.0)
        _ = 1 / 0
    assert isinstance(caught.value.__cause__, mr.NotFoundError)


def test_lessons_01_02_racing_saves_of_permuted_graphs_give_one_row_each(shared_storage: mr.Storage) -> None:
    experiment = shared_storage.experiment("race")
    chains = [[f"op{i}", f"op{(i * 7) % 20}", "end"] for i in range(20)]

    @ray.remote(num_cpus=1)  # four at once, by four processes
    def save_all(experiment: mr.Experiment, chains: list[list[str]], seed: int) -> list[int]:
        rng = np.random.default_rng(seed)
        ids = []
        for chain in chains:
            names = [int(name) for name in rng.permutation(len(chain))]
            nodes = [{"id": name, "operation": op} for name, op in zip(names, chain, strict=True)]
            edges = [{"source": a, "target": b} for a, b in pairwise(names)]
            shuffled = [nodes[i] for i in rng.permutation(len(nodes))]
            ids.append(experiment.record({"nodes": shuffled, "edges": edges}, 0.5, worker_id=str(seed)))
        return ids

    answers = ray.get([save_all.remote(experiment, chains, seed) for seed in range(16)])
    assert all(ids == answers[0] for ids in answers)
    assert len(set(answers[0])) == 20
    statistics = experiment.statistics()
    assert (statistics["num_evaluations"], statistics["num_duplicates"]) == (20, 300)


def test_lesson_04_counters_do_not_lose_updates(shared_storage: mr.Storage) -> None:
    experiment = shared_storage.experiment("counts")

    @ray.remote(num_cpus=1)  # the same
    def save(experiment: mr.Experiment, worker: int) -> None:
        for number in range(25):
            experiment.record({"worker": worker, "number": number}, 1.0)

    ray.get([save.remote(experiment, worker) for worker in range(8)])
    assert experiment.statistics()["num_evaluations"] == len(experiment.history()) == 200


def test_a_custom_identity_tells_architectures_apart(shared_sqlite_storage: mr.Storage) -> None:
    experiment = shared_sqlite_storage.experiment("custom", identity=lambda architecture: str(architecture["name"]))
    first = experiment.record({"name": "a", "note": 1}, 0.5)
    assert experiment.record({"name": "a", "note": 2}, 0.7) == first
    with pytest.raises(mr.ConfigurationError, match="identity"):
        shared_sqlite_storage.experiment("custom")
    exact = shared_sqlite_storage.experiment("exact", identity="exact")
    renumbered = {**CHAIN, "nodes": CHAIN["nodes"][::-1]}
    assert exact.record(CHAIN, 1.0) != exact.record(renumbered, 1.0)
    assert shared_sqlite_storage.experiment("exact").best(1)[0].architecture == CHAIN


def test_to_pandas_without_pandas_names_the_extra(
    shared_sqlite_storage: mr.Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = shared_sqlite_storage.experiment("one")
    assert len(experiment.to_pandas()) == 0
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(mr.ConfigurationError, match=r"morphml-ray\[demo\]"):
        experiment.to_pandas()
