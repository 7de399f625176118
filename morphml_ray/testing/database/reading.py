"""How every database answers."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from morphml_ray.database.contract import Database, SaveUnit
from morphml_ray.errors import CorruptDataError
from morphml_ray.model.records import EvaluationStatus
from morphml_ray.testing.database.caller import best, create, delete, evaluation, numbers, page, save


class ReadingContract:
    """Pages, look-ups, statistics, and reading beside writing."""

    def test_pages_ascend_and_meet(self, database: Database) -> None:
        number, other = create(database), create(database, "other")
        for i in range(0, 30, 3):
            save(database, number, evaluation(i), evaluation(i + 1))
            save(database, other, evaluation(i))
            save(database, number, evaluation(i + 2))
        whole = page(database, number)
        assert numbers(whole) == list(range(30))
        assert [record.id for record in whole] == sorted(record.id for record in whole)
        pages, last = [], None
        while found := page(database, number, after_id=last, limit=7):
            pages.append(len(found))
            assert found == whole[sum(pages[:-1]) : sum(pages)]
            last = found[-1].id
        assert pages == [7, 7, 7, 7, 2]

    def test_pages_of_a_generation_or_a_status(self, database: Database) -> None:
        number = create(database)
        save(database, number, *[evaluation(i, None if i % 4 == 3 else 0.5, generation=i % 3) for i in range(24)])

        def listed(generation: int | None, status: EvaluationStatus | None) -> list[int]:
            return numbers(page(database, number, generation=generation, status=status))

        assert listed(1, None) == [1, 4, 7, 10, 13, 16, 19, 22]
        assert listed(None, "failed") == [3, 7, 11, 15, 19, 23]
        assert listed(1, "failed") == [7, 19]
        assert listed(9, None) == listed(None, "oom") == []
        start = page(database, number, generation=1)[1].id
        assert numbers(page(database, number, generation=1, status="succeeded", after_id=start, limit=2)) == [10, 13]

    def test_case_62_a_damaged_architecture_is_named_and_the_others_are_given(
        self, database: Database, caplog: pytest.LogCaptureFixture
    ) -> None:
        number = create(database)
        good = [evaluation(i, i / 10) for i in range(10)]
        for i in (3, 9):
            good[i] = good[i]._replace(spec=good[i].spec[:-1])
        ids = save(database, number, *good)
        whole = page(database, number, limit=8)
        assert numbers(whole) == [0, 1, 2, 4, 5, 6, 7, 8]
        (told,) = caplog.messages
        assert f"evaluation {ids[3]}" in told
        assert good[3].key in told
        assert page(database, number, after_id=whole[-1].id) == []
        assert numbers(best(database, number, 3)) == [8, 7, 6]
        row = database.get_architecture_by_hash(good[3].key, number)
        assert row is not None
        with pytest.raises(CorruptDataError, match=f"evaluation {ids[3]}.*{good[3].key}"):
            row.decode()

    def test_case_62_a_listing_goes_on_behind_any_number_of_damaged_ones(self, database: Database) -> None:
        number = create(database)
        sent = [evaluation(i) for i in range(60)]
        save(database, number, *[one._replace(spec=b"") if 4 < i < 55 else one for i, one in enumerate(sent)])
        found: list[int] = []
        last_id = None
        while True:
            records = database.list_architectures(number, None, None, last_id, 4).decode()
            found += numbers(records)
            last_id = records.last_id
            if last_id is None:
                break
        assert found == [*range(5), *range(55, 60)]

    def test_an_architecture_is_found_by_its_hash(self, database: Database) -> None:
        first, second = create(database, "first"), create(database, "second")
        failed, _ = save(database, first, evaluation(0, None, seed=1), evaluation(0, None, seed=2))
        key = evaluation(0).key

        def found(experiment: int | str | None) -> int | None:
            row = database.get_architecture_by_hash(key, experiment)
            return None if row is None else row.decode().id

        assert (found(None), found(first), found("first"), found(second)) == (failed, failed, failed, None)
        later, _ = save(database, second, evaluation(0, 0.5, seed=3), evaluation(0, 0.9, seed=4))
        assert (found(None), found(first), found(second)) == (later, failed, later)
        latest, _ = save(database, first, evaluation(0, 0.7, seed=5), evaluation(1, 0.9))
        assert (found(None), found(first), found("nobody")) == (later, latest, None)
        delete(database, second)
        assert found(None) == latest
        assert database.get_architecture_by_hash("g1:" + "0" * 64, None) is None

    def test_statistics_of_an_empty_experiment(self, database: Database) -> None:
        number = create(database, "empty")
        found = database.get_experiment(number)
        known = database.get_experiment_statistics("empty")
        assert found is not None
        assert known == database.get_experiment_statistics(number)
        assert (known["experiment_id"], known["name"], known["status"]) == (number, "empty", "running")
        assert (known["created_at"], known["updated_at"]) == (found.created_at, found.updated_at)
        for counter in ("num_evaluations", "num_failed", "num_proposals", "num_duplicates"):
            assert known[counter] == 0
        for value in ("best_fitness", "avg_fitness", "min_fitness", "max_fitness", "max_generation"):
            assert known[value] is None

    @pytest.mark.parametrize(("direction", "top"), [("max", 0.75), ("min", -0.25)])
    def test_statistics_count_and_summarise(self, database: Database, direction: str, top: float) -> None:
        number = create(database, objectives={"score": direction})
        save(database, create(database, "other"), evaluation(0, 100.0, generation=50))
        sent = [evaluation(i, fitness, generation=i) for i, fitness in enumerate([0.5, -0.25, 0.75, None, 0.0])]
        save(database, number, *sent, evaluation(0, 9.0))
        known = database.get_experiment_statistics(number)
        expected = {"best_fitness": top, "avg_fitness": 0.25, "min_fitness": -0.25, "max_fitness": 0.75}
        expected |= {"num_evaluations": 4, "num_failed": 1, "num_proposals": 6, "num_duplicates": 1}
        expected |= {"max_generation": 4}
        assert {name: known[name] for name in expected} == expected

    def test_reads_run_beside_writes(self, database: Database) -> None:
        number = create(database)

        def read() -> list[int]:
            seen = []
            for _ in range(15):
                # A batch is there as a whole, or not at all.
                seen.append(len(page(database, number)))
                assert len(best(database, number, 1000)) % 10 == seen[-1] % 10 == 0
                assert database.get_experiment_statistics(number)["num_evaluations"] >= seen[-1]
            return seen

        with ThreadPoolExecutor(3) as readers:
            answers = [readers.submit(read) for _ in range(3)]
            for turn in range(20):
                database.save([SaveUnit(number, [evaluation(turn * 10 + i)]) for i in range(10)])
            for answer in answers:
                assert answer.result() == sorted(answer.result())
        assert len(page(database, number)) == 200
        status = database.pool_status()
        assert status["in_use"] == 0 < status["open"] <= status["size"]
