"""Everything that may happen to a log of checkpoints, one request at a time, and what must hold meanwhile."""

from datetime import datetime
from functools import partial
from itertools import count
from typing import Any

from checkpoint_store import KEY, PLACE, START, Process, Store, content

from morphml_ray.checkpoints.changes import Stamp, dropped, pinned
from morphml_ray.checkpoints.collection import CollectionTerms, collect, tidy
from morphml_ray.checkpoints.commit_log import CommitLog
from morphml_ray.checkpoints.loading import Loaded, Resumed, confirm_read, load, resume
from morphml_ray.checkpoints.manifest import Entry, Kind
from morphml_ray.checkpoints.requests import Steps
from morphml_ray.checkpoints.saving import Save, Saved, save
from morphml_ray.errors import (
    BackendUnavailable,
    ConflictError,
    CorruptDataError,
    NotFoundError,
    OutcomeUnknownError,
    StaleEpochError,
)

EXPECTED = (BackendUnavailable, OutcomeUnknownError, NotFoundError, StaleEpochError, ConflictError)


class Driver:
    """A program that searches: its epoch, and what its coordinator remembers."""

    def __init__(self) -> None:
        self.epoch: int | None = None
        self.turns = count(1)
        self.log = CommitLog(PLACE, KEY)


class Model:
    """Drivers and their coordinators, what they are doing, and the log as it should be seen.

    ``truth`` is that log: what was made above everything that was there.
    """

    def __init__(self) -> None:
        self.store = Store()
        self.store.watch = self.made
        self.drivers = [Driver() for _ in range(3)]
        self.processes: list[Process] = []
        self.ids = count()
        self.truth: dict[int, Entry] = {}
        self.voids = 0
        self.acknowledged: list[int] = []
        self.stale: set[str] = set()
        self.dropped_at = 0

    # What happens

    def begin_save(self, who: int, chunks: list[int], generation: int, policy: Any) -> None:
        driver = self.driver(who)
        request = Save(
            self.stamp(), content(*chunks), generation, epoch=driver.epoch, policy=policy, turn=next(driver.turns)
        )
        self.begin(save(driver.log, request), "save", driver, request)

    def repeat_a_save_elsewhere(self, which: int) -> None:
        saves = self.running("save")
        if not saves:
            return
        about = saves[which % len(saves)].about
        self.begin(save(CommitLog(PLACE, KEY), about["request"]), "save", about["driver"], about["request"])

    def begin_resume(self, who: int) -> None:
        driver = self.driver(who)
        self.begin(resume(driver.log, self.stamp), "resume", driver)

    def begin_load(self, who: int, generation: int | None) -> None:
        driver = self.driver(who)
        self.begin(load(driver.log, self.stamp, generation), "load", driver, generation)

    def begin_collection(self, who: int, grace_s: float, again_after_s: float) -> None:
        driver = self.driver(who)
        terms = CollectionTerms(grace_s, again_after_s, batch=2)
        self.begin(collect(driver.log, self.stamp(), driver.epoch, terms), "collect", driver)

    def begin_tidying(self, who: int) -> None:
        self.begin(tidy(self.driver(who).log), "tidy", self.driver(who))

    def begin_pin(self, who: int, generation: int, is_pinned: bool) -> None:
        change = partial(pinned, generation=generation, pinned=is_pinned)
        self.begin(self.driver(who).log.append(self.stamp(), change), "pin", self.driver(who))

    def begin_drop(self, who: int, generation: int) -> None:
        change = partial(dropped, is_dropped=lambda record: record.generation == generation)
        self.begin(self.driver(who).log.append(self.stamp(), change), "drop", self.driver(who))

    def restart_a_coordinator(self, who: int) -> None:
        self.driver(who).log = CommitLog(PLACE, KEY)

    def go_on(self, which: int, steps: int, fault: str) -> None:
        if not self.running():
            return
        process = self.running()[which % len(self.running())]
        for _ in range(steps):
            if not process.is_done:
                process.step()
        if not process.is_done:
            process.step(fault)
        if process.is_done:
            self.end(process)

    def crash(self, which: int) -> None:
        if self.running():
            self.running()[which % len(self.running())].crash()

    def a_late_request_arrives(self, which: int) -> None:
        if self.store.late:
            self.store.late.pop(which % len(self.store.late))()

    # What must hold

    def made(self, number: int, entry: Entry) -> None:
        """Judge each entry when it is made."""
        top = max(self.truth, default=0)
        if number <= top:
            self.voids += 1
            return
        assert number == top + 1
        self.truth[number] = entry
        before, after = (self.truth[top].log.live if top else ()), entry.log.live
        if entry.kind is Kind.CHECKPOINT:
            assert entry.log.epoch == number or entry.log.turn > self.truth[top].log.turn
            assert entry.latest is not None
            assert entry.latest.sequence == number
        elif entry.kind in (Kind.EPOCH, Kind.SWEEP):
            assert [record.sequence for record in after] == [record.sequence for record in before]
        elif [record.sequence for record in after] != [record.sequence for record in before]:
            self.dropped_at = number
        if entry.kind is not Kind.CHANGE:
            pins = {record.sequence for record in before if record.pinned}
            assert pins <= {record.sequence for record in after}
        assert all(record.damage is None for record in after)  # nothing here is: no race may look like damage

    def check(self) -> None:
        """See that what must always hold does."""
        self.the_head_is_the_newest_entry()
        self.every_live_checkpoint_is_whole()
        self.nothing_acknowledged_is_lost()
        self.lesson_34_a_save_of_a_stale_driver_is_not_the_latest()

    def the_head_is_the_newest_entry(self) -> None:
        top = max(self.truth, default=0)
        assert max(self.store.numbers(), default=0) == top
        if top:
            assert self.store.entry(top) == self.truth[top]

    def every_live_checkpoint_is_whole(self) -> None:
        for record in self.head().log.live if self.truth else ():
            entry = self.store.entry(record.sequence)
            assert entry.write_id == record.write_id
            assert self.store.missing(entry) == []

    def nothing_acknowledged_is_lost(self) -> None:
        newest = max(self.acknowledged, default=0)
        if newest > self.dropped_at:
            latest = self.head().latest
            assert latest is not None
            assert latest.sequence >= newest

    def lesson_34_a_save_of_a_stale_driver_is_not_the_latest(self) -> None:
        if self.truth and self.head().latest is not None:
            assert self.head().latest.write_id not in self.stale  # type: ignore[union-attr]

    def end(self, process: Process) -> None:
        """Judge what an operation says when it ends."""
        about, outcome = process.about, process.outcome
        driver: Driver = about["driver"]
        if isinstance(outcome, Exception):
            if about["kind"] in ("load", "resume") and isinstance(outcome, CorruptDataError):
                assert any(self.all_are_refused(entry) for entry in self.window(about))
                return
            assert isinstance(outcome, EXPECTED), outcome
            if about["kind"] == "save" and isinstance(outcome, StaleEpochError):
                self.stale.add(about["request"].stamp.write_id)
        elif isinstance(outcome, Saved):
            self.check_saved(about, outcome)
            driver.epoch = max(outcome.epoch, driver.epoch or 0)
        elif isinstance(outcome, Resumed):
            assert self.truth[outcome.epoch].log.epoch == outcome.epoch
            driver.epoch = max(outcome.epoch, driver.epoch or 0)
            if outcome.loaded is not None:
                self.check_loaded(about, outcome.loaded)
                record = outcome.loaded.record
                self.begin(confirm_read(driver.log, self.stamp(), outcome.epoch, record), "confirm", driver)
        elif about["kind"] == "load":
            self.check_loaded(about, outcome)

    def check_saved(self, about: Any, saved: Saved) -> None:
        request: Save = about["request"]
        entry = self.truth[saved.sequence]
        assert entry.write_id == request.stamp.write_id
        assert entry.log.epoch == saved.epoch
        if request.epoch is not None and request.epoch < self.epoch_at(about["top"]):
            assert saved.sequence <= about["top"]  # it was committed before the log was taken over
        self.acknowledged.append(saved.sequence)

    def check_loaded(self, about: Any, loaded: Loaded | None) -> None:
        window = self.window(about)
        if about["request"] is not None:
            found = [[r for r in entry.log.live if r.generation == about["request"]] for entry in window]
            newest = [records[-1].sequence if records else None for records in found]
        else:
            newest = [entry.latest.sequence if entry.latest else None for entry in window]
        if not about["top"]:
            newest.append(None)  # the log was empty
        if loaded is None or not loaded.passed_over:
            assert (loaded.record.sequence if loaded else None) in newest
        else:
            assert all("did not survive" in passed.reason for passed in loaded.passed_over)

    # What the test keeps

    def window(self, about: Any) -> list[Entry]:
        """The heads that there were while an operation ran."""
        return [entry for number, entry in self.truth.items() if number >= about["top"]]

    def all_are_refused(self, entry: Entry) -> bool:
        return bool(entry.log.live) and all(record.unfinished_reads > 1 for record in entry.log.live)

    def head(self) -> Entry:
        return self.truth[max(self.truth)]

    def epoch_at(self, number: int) -> int:
        return self.truth[number].log.epoch if number else 0

    def driver(self, who: int) -> Driver:
        return self.drivers[who % len(self.drivers)]

    def running(self, kind: str | None = None) -> list[Process]:
        return [one for one in self.processes if not one.is_done and kind in (None, one.about["kind"])]

    def begin(self, steps: Steps[Any], kind: str, driver: Driver, request: Any = None) -> None:
        about = {"kind": kind, "driver": driver, "request": request, "top": max(self.truth, default=0)}
        self.processes.append(Process(self.store, steps, about))

    def stamp(self, at: datetime = START) -> Stamp:
        return Stamp(f"w{next(self.ids)}", at)

    def finish(self) -> None:
        """Without faults all comes to an end, and what was left goes with one collection."""
        for late in self.store.late:
            late()
        while self.running():
            process = self.running()[0]
            process.step()
            if process.is_done:
                self.end(process)
        if not self.truth:
            return
        log = CommitLog(PLACE, KEY)
        self.store.run(collect(log, self.stamp(), None, CollectionTerms(0, 0)))
        self.store.run(tidy(log))
        head = self.head()
        self.every_live_checkpoint_is_whole()
        assert set(self.store.numbers()) == {head.sequence, head.log.era, *(r.sequence for r in head.log.live)}
        states = [self.store.entry(record.sequence).state for record in head.log.live]
        assert self.store.chunk_names() == {chunk.name for state in states if state for chunk in state.chunks}
