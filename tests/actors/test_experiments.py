"""One experiment, as a user holds it: what it is asked, what it records, and what comes back."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import ray

import morphml_ray as mr
from morphml_ray import Experiment
from morphml_ray.database import parts
from morphml_ray.experiments import recorder
from morphml_ray.experiments.recorder import Recorder
from morphml_ray.rpc.channel import Channel

CHAIN: dict[str, Any] = {
    "nodes": [{"id": "a", "operation": "input"}, {"id": "b", "operation": "dense", "params": {"width": 8}}],
    "edges": [{"source": "a", "target": "b"}],
}


def test_case_4_objectives_that_differ_are_an_error_that_names_both(shared_sqlite_storage: mr.Storage) -> None:
    shared_sqlite_storage.experiment("case 4").record({"w": 1}, 3.0)
    with pytest.raises(mr.ConfigurationError, match=r"\{\}.*loss.*min"):
        shared_sqlite_storage.experiment("case 4", objectives={"loss": "min"})
    assert shared_sqlite_storage.experiment("case 4").best(1)[0].fitness == 3.0


def test_case_10_a_manager_keys_by_the_identity_of_the_experiment(shared_sqlite_storage: mr.Storage) -> None:
    renumbered = {
        "nodes": [{"id": 9, "operation": "dense", "params": {"width": 8}}, {"id": 7, "operation": "input"}],
        "edges": [{"source": 7, "target": 9}],
    }
    exact = shared_sqlite_storage.experiment("case 10", identity="exact")
    first = exact.record(CHAIN, 0.5)
    database = shared_sqlite_storage.database
    assert database.save_architecture(exact.id, CHAIN, 0.5) == first
    assert database.save_architecture("case 10", renumbered, 0.5) != first
    assert database.save_architectures("case 10", [{"architecture": CHAIN, "fitness": 1.0}]) == [first]
    own = shared_sqlite_storage.experiment("case 10 own", identity=lambda architecture: str(architecture["w"]))
    with pytest.raises(mr.ConfigurationError, match="identity function"):
        database.save_architecture(own.id, {"w": 1}, 0.5)


def test_case_11_a_text_is_one_parent(shared_sqlite_storage: mr.Storage) -> None:
    experiment = shared_sqlite_storage.experiment("case 11")
    experiment.record({"w": 1}, 0.5, parents="g1:00")
    experiment.record({"w": 2}, 0.5, parents=7)  # type: ignore[arg-type]  # one number, which is no sequence
    experiment.record({"w": 3}, 0.5, parents=("g1:00", 1))
    assert [record.parents for record in experiment.history()] == [("g1:00",), (7,), ("g1:00", 1)]


def test_case_14_a_recorder_whose_calls_cannot_be_sent_says_so(
    shared_sqlite_storage: mr.Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = shared_sqlite_storage.experiment("case 14").recorder()

    def refuse(*_: object) -> None:
        raise RuntimeError("Ray was shut down")

    with monkeypatch.context() as patched:
        patched.setattr(type(recorder._channel), "submit", refuse)
        for number in range(3):
            recorder.record({"w": number}, 0.5)
        with pytest.raises(mr.BackendUnavailable, match=r"3 records were not stored.*could not be sent"):
            recorder.flush()
    recorder.record({"w": 9}, 0.5)
    recorder.close()
    with monkeypatch.context() as patched, shared_sqlite_storage.experiment("case 14").recorder() as broken:
        patched.setattr(Recorder, "_gather", refuse)
        broken.record({"w": 10}, 0.5)
        with pytest.raises(mr.BackendUnavailable, match="thread ended"):
            broken.flush()


def test_case_15_a_forked_recorder_says_so(shared_sqlite_storage: mr.Storage) -> None:
    with shared_sqlite_storage.experiment("case 15").recorder() as recorder:
        recorder.record({"w": 1}, 0.5)
        child = os.fork()
        if not child:
            signal.alarm(20)
            try:
                recorder.flush()
            except mr.ConfigurationError:
                os._exit(7)
            os._exit(8)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_case_38_a_table_goes_into_parquet(shared_sqlite_storage: mr.Storage, tmp_path: Path) -> None:
    experiment = shared_sqlite_storage.experiment("case 38")
    bare = {"nodes": [{"id": 0, "operation": "input"}], "edges": []}
    experiment.record(bare, 0.5, {"curve": [1, 2], "size": 2**70, "kind": "a"}, seed=1)
    experiment.record([1, {"a": ()}], 0.75, {"curve": "none", "size": 1, "kind": 3}, seed="one", fidelity={"epochs": 5})
    experiment.record({"w": 1}, None, {"loss": float("nan")})
    frame = experiment.to_pandas()
    frame.to_parquet(tmp_path / "table.parquet")
    assert frame["fitness"].tolist()[:2] == [0.5, 0.75]
    assert frame["fidelity"].dropna().tolist() == ['{"epochs":5}']
    assert frame["kind"].tolist()[:2] == ["a", "3"]


def test_case_40_a_failure_says_why(shared_sqlite_storage: mr.Storage) -> None:
    experiment = shared_sqlite_storage.experiment("case 40")
    experiment.record({"w": 1}, status="oom", error="CUDA out of memory")
    experiment.record({"w": 2}, 0.25, {"a": 1}, status="pruned")
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        experiment.record({"w": 3}, error=error)
    with experiment.recorder() as recorder:
        recorder.record({"w": 4}, status="oom")
    shared_sqlite_storage.database.save_architecture(experiment.id, {"w": 5}, status="timeout", error="600 s")
    oom, pruned, raised, *_ = experiment.history()
    assert (oom.status, oom.fitness, oom.error) == ("oom", None, "CUDA out of memory")
    assert (pruned.status, pruned.fitness, pruned.metrics) == ("pruned", None, {"a": 1, "fitness": 0.25})
    assert raised.status == "failed"
    assert (raised.error or "").startswith("ZeroDivisionError: division by zero")
    statistics = experiment.statistics()
    assert statistics["failures"] == {"failed": 1, "oom": 2, "pruned": 1, "timeout": 1}
    assert statistics["num_failed"] == 5
    with pytest.raises(mr.ValidationError, match="status must be one of"):
        experiment.record({"w": 6}, status="running")


def test_case_41_a_result_is_looked_up_as_it_was_recorded(shared_sqlite_storage: mr.Storage) -> None:
    experiment = shared_sqlite_storage.experiment("case 41", identity="exact")
    for epochs in (12, 200):
        experiment.record(CHAIN, epochs / 1000, seed=0, fidelity={"epochs": epochs})
    found = experiment.lookup(CHAIN, seed=0, fidelity={"epochs": 200})
    assert found is not None
    assert (found.fitness, found.architecture_hash) == (0.2, experiment.key(CHAIN))
    assert experiment.lookup(CHAIN, seed=0) is experiment.lookup({"w": 1}) is None
    assert experiment.key(CHAIN) != shared_sqlite_storage.database.hash_architecture(CHAIN)


def test_case_42_an_experiment_that_is_not_there_is_an_error_and_an_end_is_told(
    shared_sqlite_storage: mr.Storage,
) -> None:
    made = shared_sqlite_storage.experiment("digits")
    assert shared_sqlite_storage.get_experiment("digits").id == made.id
    with pytest.raises(mr.NotFoundError, match="'digts'; there are: 'digits'"):
        shared_sqlite_storage.get_experiment("digts")
    assert shared_sqlite_storage.database.get_experiment_by_name("digts") is None

    def status() -> str:
        return shared_sqlite_storage.database.get_experiment(made.id).status  # type: ignore[union-attr]  # it is there

    with shared_sqlite_storage.experiment("digits") as experiment:
        experiment.record({"w": 1}, 0.5)
        assert status() == "running"
    assert status() == "completed"
    with pytest.raises(ZeroDivisionError), shared_sqlite_storage.experiment("digits"):
        _ = 1 / 0
    assert status() == "failed"
    made.complete("archived")
    assert status() == "archived"
    assert made.delete() is True
    assert made.delete() is False


def test_every_method_of_an_experiment_has_remote_with_the_same_value(shared_sqlite_storage: mr.Storage) -> None:
    experiment = shared_sqlite_storage.experiment("remote", objectives={"accuracy": "max", "size": "min"})
    first = experiment.record(CHAIN, 0.5, {"size": 3}, seed=1)
    assert ray.get(experiment.record.remote(CHAIN, 0.5, {"size": 3}, seed=1)) == first
    assert ray.get(experiment.key.remote(CHAIN)) == experiment.key(CHAIN)
    assert ray.get(experiment.lookup.remote(CHAIN, seed=1)) == experiment.lookup(CHAIN, seed=1)
    assert ray.get(experiment.best.remote(3, metric="size")) == experiment.best(3, metric="size")
    assert ray.get(experiment.history.remote()) == experiment.history()
    assert ray.get(experiment.to_pandas.remote()).equals(experiment.to_pandas())
    assert ray.get(experiment.statistics.remote()) == experiment.statistics()
    assert ray.get(experiment.complete.remote("paused")) is None
    assert ray.get(experiment.delete.remote()) is True


def test_case_53_a_write_with_an_id_of_the_callers_own_is_made_once(shared_sqlite_storage: mr.Storage) -> None:
    experiment = shared_sqlite_storage.experiment("case 57")
    write_id = "01920000-0000-7000-8000-000000000001"
    ids = {experiment.record({"w": 1}, 0.5, on_duplicate="replicate", write_id=write_id) for _ in range(3)}
    assert len(ids) == experiment.statistics()["num_evaluations"] == 1
    with pytest.raises(mr.ValidationError, match="UUID"):
        experiment.record({"w": 1}, 0.5, write_id="mine")


def test_case_55_a_record_has_a_size_that_others_can_bear(shared_sqlite_storage: mr.Storage) -> None:
    experiment = shared_sqlite_storage.experiment("case 55")
    with pytest.raises(mr.ValidationError, match=r"at most 16,777,216.*storage\.artifacts"):
        experiment.record({"w": 1}, 0.5, {"s": "x" * 20_000_000})


def test_case_63_many_records_go_in_parts(shared_sqlite_storage: mr.Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morphml_ray.database.parts.MAX_ROWS", 40)
    experiment = shared_sqlite_storage.experiment("case 63")
    records = [{"architecture": {"w": number}, "fitness": number / 8} for number in range(100)]
    ids = shared_sqlite_storage.database.save_architectures(experiment.id, records)
    assert ids == sorted(set(ids))
    assert len(ids) == experiment.statistics()["num_evaluations"] == 100
    assert ray.get(shared_sqlite_storage.database.save_architectures.remote(experiment.id, records)) == ids


def test_case_55_a_recorder_sends_and_holds_bounded_bytes(
    shared_sqlite_storage: mr.Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MAX_BYTES", 1_000_000)
    monkeypatch.setattr(recorder, "MAX_WAITING_BYTES", 1_000_000)
    sizes: list[int] = []
    submit = Channel.submit

    def note(self: Channel, prepared: Any) -> Any:
        if getattr(prepared, "method", "") == "save_each":
            sizes.append(sum(evaluation.size_bytes for evaluation in prepared.arguments[0].evaluations))
        return submit(self, prepared)

    monkeypatch.setattr(Channel, "submit", note)
    experiment = shared_sqlite_storage.experiment("large")
    with experiment.recorder() as recording:
        for number in range(12):
            recording.record({"n": number}, 0.5, {"s": "x" * 300_000})
    assert len(experiment.history()) == 12
    assert max(sizes) <= 1_000_000
    assert len(sizes) >= 4


def test_case_42_the_end_of_an_experiment_hides_no_error_of_the_caller(
    shared_sqlite_storage: mr.Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise mr.BackendUnavailable("the database is gone")

    monkeypatch.setattr(Experiment, "complete", fail)
    with pytest.raises(ZeroDivisionError) as caught, shared_sqlite_storage.experiment("ended"):
        _ = 1 / 0
    assert isinstance(caught.value.__cause__, mr.BackendUnavailable)
    with pytest.raises(mr.BackendUnavailable), shared_sqlite_storage.experiment("ended"):
        pass
