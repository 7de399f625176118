"""The artifact actor as a plain class, and what it admits at once."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from morphml_ray.actors.artifact_values import Payload
from morphml_ray.actors.artifacts import ArtifactActor, ArtifactSettings
from morphml_ray.actors.shared_files import FileProof
from morphml_ray.actors.transfers import Transfer, Transfers
from morphml_ray.backends.artifact_checks import WriteRequest, check_write
from morphml_ray.config import BackendUrl
from morphml_ray.errors import BackendUnavailable, ConfigurationError, Overloaded, ValidationError

# Port 1 of this machine: nobody listens there.
NOBODY = "s3://bucket?endpoint_url=http://127.0.0.1:1&aws_access_key_id=a&aws_secret_access_key=b"
PATIENCE_S = 0.2


@contextlib.asynccontextmanager
async def actor_of(url: str, deadline_s: float = 10) -> AsyncIterator[ArtifactActor]:
    actor = ArtifactActor(ArtifactSettings(BackendUrl(url), deadline_s))
    try:
        yield actor
    finally:
        await actor.close()


def write_to(key: str) -> WriteRequest:
    return check_write(key, {}, None, if_absent=False, write_id=None)


def test_the_constructor_touches_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with actor_of(f"file://{tmp_path}/new") as actor:
            described = await actor.describe()
            assert described.place == f"file://{tmp_path}/new"
            assert (await actor.health())["is_open"] is False
            assert not (tmp_path / "new").exists()
            await actor.ready()
            assert (tmp_path / "new").exists()

    asyncio.run(work())


def test_a_store_that_is_away_is_waited_for_until_the_deadline() -> None:
    async def work() -> None:
        async with actor_of(NOBODY, deadline_s=1.5) as actor:
            begun = time.monotonic()
            calls = [actor.call("exists", "a"), actor.put(write_to("a"), b"1"), actor.get("a", 0, None), actor.ready()]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [BackendUnavailable] * 4
            assert 1 < time.monotonic() - begun < 15
            health = await actor.health()
            assert "127.0.0.1" in health["outage"]
            assert (health["transfers"], health["held_bytes"]) == (0, 0)

    asyncio.run(work())


def test_a_directory_behind_a_variable_needs_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_ARTIFACTS", f"file://{tmp_path}/new")

    async def work() -> None:
        async with actor_of("env:MY_ARTIFACTS") as actor:
            with pytest.raises(ConfigurationError, match="one node only"):
                await actor.ready()
            with pytest.raises(ValidationError, match="no operation"):
                await actor.call("open")

    asyncio.run(work())
    assert not (tmp_path / "new").exists()


def test_an_object_that_is_replaced_between_two_looks_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from morphml_ray.backends.local import LocalArtifactBackend

    old, new = bytes(3_000_000), b"x" * 2_000_000
    read_whole = LocalArtifactBackend.get_into
    turns = 0

    def replace_first(self: LocalArtifactBackend, *arguments: object) -> object:
        nonlocal turns
        turns += 1
        if turns == 1:
            self.put("a", new)
        return read_whole(self, *arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(LocalArtifactBackend, "get_into", replace_first)

    async def work() -> None:
        async with actor_of(f"file://{tmp_path}/new") as actor:
            await actor.put(write_to("a"), old)
            function, (data,) = (await actor.get("a", 0, None)).__reduce_ex__(5)
            assert function(data) == new

    asyncio.run(work())
    assert turns == 2


def test_a_file_proof_holds_for_the_same_file_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    proof = FileProof.of(tmp_path / "a")
    assert proof.holds_here()
    (tmp_path / "a").write_bytes(b"12")
    assert not proof.holds_here()
    (tmp_path / "a").unlink()
    assert not proof.holds_here()


def test_a_payload_arrives_as_a_view() -> None:
    function, (buffer,) = Payload(b"data").__reduce_ex__(5)
    assert function(buffer) == memoryview(b"data")


# What is admitted at once


async def hold(transfers: Transfers, size_bytes: int, until: asyncio.Event, patience_s: float = 0) -> None:
    async with transfers.admitted(size_bytes, patience_s):
        await until.wait()


def test_what_is_held_has_a_bound_and_turns_come_in_order() -> None:
    async def work() -> None:
        transfers = Transfers(max_held_bytes=100)
        ends = [asyncio.Event() for _ in range(4)]
        tasks = []
        for end, size_bytes in zip(ends, (60, 50, 10, 0), strict=True):
            tasks.append(asyncio.create_task(hold(transfers, size_bytes, end, patience_s=5)))
            await asyncio.sleep(0)
        # The third would fit, but the second came first; the fourth holds nothing.
        assert transfers.status() == {"transfers": 2, "waiting": 2, "held_bytes": 60, "ended": 0, "refused": 0}
        with pytest.raises(Overloaded, match="60 bytes"):
            await hold(transfers, 1, ends[0])
        ends[0].set()
        await tasks[0]
        await asyncio.sleep(0)
        assert transfers.status() == {"transfers": 3, "waiting": 0, "held_bytes": 60, "ended": 1, "refused": 1}
        flushed = asyncio.create_task(transfers.flush())
        for end in ends:
            assert not flushed.done()
            end.set()
        await asyncio.gather(flushed, *tasks)
        assert transfers.status()["held_bytes"] == 0

    asyncio.run(work())


def test_one_that_is_too_large_goes_alone() -> None:
    async def work() -> None:
        transfers = Transfers(max_held_bytes=100)
        end = asyncio.Event()
        task = asyncio.create_task(hold(transfers, 1000, end))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await hold(transfers, 1, end)
        end.set()
        await task
        await hold(transfers, 1, end)

    asyncio.run(work())


def test_patience_ends_when_nothing_moves_and_begins_again_when_something_does() -> None:
    async def work() -> None:
        transfers = Transfers(max_held_bytes=100)
        ends = [asyncio.Event() for _ in range(3)]
        first, second = (asyncio.create_task(hold(transfers, 50, end)) for end in ends[:2])
        await asyncio.sleep(0)
        waiting = asyncio.create_task(hold(transfers, 100, ends[2], PATIENCE_S))
        cancelled = asyncio.create_task(hold(transfers, 1, ends[2], PATIENCE_S))
        await asyncio.sleep(0.7 * PATIENCE_S)
        cancelled.cancel()
        ends[0].set()
        await asyncio.sleep(0.7 * PATIENCE_S)
        assert not waiting.done()
        begun = time.monotonic()
        with pytest.raises(Overloaded):
            await waiting
        assert time.monotonic() - begun < 2 * PATIENCE_S
        ends[1].set()
        await asyncio.gather(first, second)
        assert transfers.status()["held_bytes"] == 0
        assert transfers.status()["waiting"] == 0

    asyncio.run(work())


def test_whoever_gives_up_lets_the_next_one_in() -> None:
    async def work() -> None:
        transfers = Transfers(max_held_bytes=100)
        end = asyncio.Event()
        first = asyncio.create_task(hold(transfers, 60, end))
        await asyncio.sleep(0)
        large = asyncio.create_task(hold(transfers, 100, end, 60))
        small = asyncio.create_task(hold(transfers, 40, end, 60))
        await asyncio.sleep(0.01)
        large.cancel()
        await asyncio.sleep(0.01)
        assert transfers.status()["held_bytes"] == 100
        end.set()
        await asyncio.gather(first, small)

    asyncio.run(work())


def test_only_what_gets_further_counts_as_progress() -> None:
    transfer = Transfer(0)
    transfer.advance(10)
    reached_at = transfer.advanced_at
    transfer.restart()
    transfer.advance(10)
    assert (transfer.moved_bytes, transfer.advanced_at) == (10, reached_at)
    transfer.advance(1)
    assert transfer.advanced_at > reached_at


def test_a_stall_is_told() -> None:
    async def work() -> None:
        transfers = Transfers()
        async with transfers.admitted(0, 0, "file") as transfer:
            await asyncio.sleep(0.05)
            assert transfers.stalled_s() >= 0.05
            transfer.advance(5)
            assert transfers.stalled_s() < 0.05
            assert transfers.moved_bytes("file") == 5
        async with transfers.admitted(100 * 1024 * 1024, 0):
            await asyncio.sleep(0.05)
            # Bytes whose backend tells of no progress are given time by their size.
            assert transfers.stalled_s() == 0
        assert transfers.moved_bytes("file") == 0

    asyncio.run(work())


def test_errors_pass_and_leave_nothing_held(tmp_path: Path) -> None:
    async def work() -> None:
        async with actor_of(f"file://{tmp_path}/new") as actor:
            await actor.put(write_to("a"), b"1")
            for write in (actor.put_file(write_to("a"), str(tmp_path / "none"), "x"), actor.upload_chunk("x", 0, b"1")):
                with pytest.raises((OSError, LookupError)):
                    await write
            assert (await actor.health())["held_bytes"] == 0
            assert (await actor.metadata("a") or {})["size"] == 1
            assert await actor.list_keys("") == ["a"]

    asyncio.run(work())
