"""The artifact actor as a plain class."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from outages import unfinished_uploads
from s3_doubles import FakeS3, refusal
from servers import opened_store
from waiting import wait_until

from morphml_ray.artifacts.actor import backend_access
from morphml_ray.artifacts.actor.actor import ArtifactActor, ArtifactSettings
from morphml_ray.artifacts.actor.file_proof import FileProof
from morphml_ray.artifacts.checks import WriteRequest, check_write
from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.artifacts.local import LocalArtifactBackend
from morphml_ray.artifacts.s3 import S3ArtifactBackend
from morphml_ray.artifacts.wire import Payload
from morphml_ray.config import BackendUrl, stash_secret
from morphml_ray.errors import BackendUnavailable, ConfigurationError

# Port 1 of this machine: nobody listens there.
NOBODY = "s3://bucket?endpoint_url=http://127.0.0.1:1&aws_access_key_id=a&aws_secret_access_key=b"


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
            calls = [
                actor.look_up(ArtifactBackend.exists, "a"),
                actor.put(write_to("a"), b"1"),
                actor.get("a", 0, None),
                actor.ready(),
            ]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [BackendUnavailable] * 4
            assert 1 < time.monotonic() - begun < 15
            health = await actor.health()
            assert "127.0.0.1" in health["outage"]
            assert (health["transfers"], health["held_bytes"]) == (0, 0)

    asyncio.run(work())


@pytest.mark.parametrize("reached_bytes", [(10, 20, 30), (10, 10, 10)], ids=["moving", "stuck"])
def test_an_outage_is_waited_out_for_as_long_as_bytes_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached_bytes: tuple[int, ...]
) -> None:
    """The pauses together are longer than the deadline."""
    monkeypatch.setattr(backend_access, "FIRST_PAUSE_S", 1.0)
    put_file = LocalArtifactBackend.put_file
    attempts: list[int] = []

    def break_off(self: LocalArtifactBackend, key: str, path: str, *, progress: Callable[[int], None], **_: Any) -> Any:
        attempts.append(reached_bytes[len(attempts)])
        progress(attempts[-1])
        if len(attempts) < len(reached_bytes):
            raise BackendUnavailable("it broke off")
        return put_file(self, key, path)

    monkeypatch.setattr(LocalArtifactBackend, "put_file", break_off)
    (tmp_path / "file").write_bytes(b"1")

    async def work() -> None:
        async with actor_of(f"file://{tmp_path}/new", deadline_s=1.4) as actor:
            assert await actor.put_file(write_to("a"), str(tmp_path / "file"), "name") == "a"

    if len(set(reached_bytes)) == 1:
        with pytest.raises(BackendUnavailable, match="broke off"):
            asyncio.run(work())
        assert attempts == [10, 10]
    else:
        asyncio.run(work())
        assert attempts == [10, 20, 30]


def test_a_directory_behind_a_variable_needs_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_ARTIFACTS", f"file://{tmp_path}/new")

    async def work() -> None:
        async with actor_of("env:MY_ARTIFACTS") as actor:
            with pytest.raises(ConfigurationError, match="one node only"):
                await actor.ready()

    asyncio.run(work())
    assert not (tmp_path / "new").exists()


def test_an_object_that_is_replaced_between_two_looks_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
            function, (data,) = (await actor.get("a", 0, None)).__reduce__()
            assert function(data) == new

    asyncio.run(work())
    assert turns == 2


def test_lesson_27_the_session_token_goes_through_the_actor(fake: FakeS3) -> None:
    settings = ArtifactSettings(stash_secret(BackendUrl(fake.url("&aws_session_token=T0KEN"))), 10)

    async def work() -> None:
        actor = ArtifactActor(settings)
        assert await actor.look_up(ArtifactBackend.exists, "a")
        assert "T0KEN" not in f"{settings!r} {await actor.describe()} {await actor.health()}"
        await actor.close()

    asyncio.run(work())
    assert len(fake.asked) > 1
    assert {one.headers.get("x-amz-security-token") for one in fake.asked} == {"T0KEN"}


@pytest.mark.parametrize(
    ("status", "expected"), [(403, ConfigurationError), (500, BackendUnavailable), (503, BackendUnavailable)]
)
def test_lesson_25_a_refusal_is_no_false_through_the_actor(
    fake: FakeS3, status: int, expected: type[Exception]
) -> None:
    async def work() -> None:
        async with actor_of(fake.url(), deadline_s=0.5) as actor:
            await actor.ready()
            fake.say = lambda _: refusal(status)
            for ask in (actor.look_up(ArtifactBackend.exists, "a"), actor.metadata("a"), actor.list_keys("")):
                with pytest.raises(expected):
                    await ask

    asyncio.run(work())


@pytest.mark.parametrize(("age_s", "freed"), [(0.0, 1), (backend_access.PURGE_AGE_S, 0)], ids=["old", "young"])
def test_uploads_that_others_left_are_freed_by_their_age(
    artifacts_url: str, monkeypatch: pytest.MonkeyPatch, age_s: float, freed: int
) -> None:
    monkeypatch.setattr(backend_access, "PURGE_AGE_S", age_s)
    outcomes = watch_purges(monkeypatch, S3ArtifactBackend)

    async def work() -> None:
        async with actor_of(artifacts_url) as actor:
            for _ in range(3):
                assert not await actor.look_up(ArtifactBackend.exists, "a")
            wait_until(lambda: outcomes, 10)

    with opened_store(artifacts_url) as other:
        other.begin_upload("a", chunk_bytes=8_000_000)
        asyncio.run(work())
        assert outcomes == [freed]  # one for all three answers
        assert len(unfinished_uploads(artifacts_url)) == 1 - freed


def test_what_could_not_be_freed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_access, "PURGE_AGAIN_S", 0.0)
    outcomes = watch_purges(monkeypatch, LocalArtifactBackend, BackendUnavailable("away"))

    async def work() -> None:
        async with actor_of(f"file://{tmp_path}/new") as actor:
            await actor.ready()
            wait_until(lambda: outcomes, 10)
            (tmp_path / "new/%staging/left").touch()
            for _ in range(3):
                await actor.look_up(ArtifactBackend.exists, "a")
            wait_until(lambda: len(outcomes) > 1, 10)

    asyncio.run(work())
    assert outcomes == ["away", 1]
    assert [*(tmp_path / "new/%staging").iterdir()] == []


def watch_purges(monkeypatch: pytest.MonkeyPatch, kind: type[Any], *failures: BackendUnavailable) -> list[int | str]:
    """Note what each purge freed; the first ones fail as stated."""
    purge = kind.purge_uploads
    outcomes: list[int | str] = []

    def watched(self: Any, older_than_s: float) -> int:
        if len(outcomes) < len(failures):
            failure = failures[len(outcomes)]
            outcomes.append(str(failure))
            raise failure
        freed: int = purge(self, older_than_s)
        outcomes.append(freed)
        return freed

    monkeypatch.setattr(kind, "purge_uploads", watched)
    return outcomes


def test_a_file_proof_holds_for_the_same_file_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    proof = FileProof.of(tmp_path / "a")
    assert proof.holds_here()
    (tmp_path / "a").write_bytes(b"12")
    assert not proof.holds_here()
    (tmp_path / "a").unlink()
    assert not proof.holds_here()


def test_a_payload_arrives_as_a_view() -> None:
    function, (buffer,) = Payload(b"data").__reduce__()
    assert function(buffer) == memoryview(b"data")


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


def test_case_16_a_look_up_does_not_wait_behind_walks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_end = threading.Event()
    monkeypatch.setattr(LocalArtifactBackend, "total_size", lambda *_: may_end.wait(30))
    monkeypatch.setattr(LocalArtifactBackend, "list", lambda *_, **__: iter([()] * (not may_end.wait(30))))

    async def work() -> None:
        async with actor_of(f"file://{tmp_path}/new") as actor:
            sizes = [asyncio.create_task(actor.walk(ArtifactBackend.total_size, "")) for _ in range(6)]
            listings = [asyncio.create_task(actor.list_keys("")) for _ in range(6)]
            try:
                assert not await asyncio.wait_for(actor.look_up(ArtifactBackend.exists, "a"), 20)
            finally:
                may_end.set()
            assert await asyncio.gather(*sizes) == [True] * 6
            assert await asyncio.gather(*listings) == [[]] * 6

    asyncio.run(work())
