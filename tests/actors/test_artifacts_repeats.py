"""Case 53: what Ray runs again after a restart of the artifact actor changes nothing that was written meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import morphml_ray as mr
from morphml_ray.artifacts import file_chunks
from morphml_ray.artifacts.actor.actor import ArtifactActor, ArtifactSettings
from morphml_ray.artifacts.actor.backend_access import create_artifact_backend
from morphml_ray.artifacts.checks import WriteRequest, check_write
from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.artifacts.local import LocalArtifactBackend
from morphml_ray.artifacts.write_id import new_write_id
from morphml_ray.config import BackendUrl
from morphml_ray.errors import AlreadyExistsError, BackendUnavailable, NotFoundError

Step: TypeAlias = Callable[[ArtifactActor], Coroutine[Any, Any, Any]]


def begin(key: str, *, if_absent: bool = False) -> WriteRequest:
    """A write that begins now."""
    return check_write(key, {}, None, if_absent=if_absent, write_id=None)


def put(key: str, data: bytes) -> Step:
    write = begin(key)
    return lambda actor: actor.put(write, data)


def put_many(key: str, data: bytes) -> Step:
    writes = [begin(key), begin(f"{key}-beside")]
    return lambda actor: actor.put_multiple(writes, [data, data])


def put_path(path: Path) -> Callable[[str, bytes], Step]:
    def put(key: str, data: bytes) -> Step:
        write = begin(key)
        path.write_bytes(data)
        return lambda actor: actor.put_file(write, str(path), "name")

    return put


def copy(source: str, dest: str) -> Step:
    write = begin(dest)
    return lambda actor: actor.copy(source, write)


def delete(key: str) -> Step:
    write_id = new_write_id()
    return lambda actor: actor.delete(key, write_id)


def delete_prefix(prefix: str) -> Step:
    write_id = new_write_id()
    return lambda actor: actor.delete_prefix(prefix, write_id)


def run(url: str, *lives: list[Step]) -> list[Any]:
    """Run the steps of each life of an actor; gives the answers of the last life."""

    async def work() -> list[Any]:
        answers: list[Any] = []
        for steps in lives:
            actor = ArtifactActor(ArtifactSettings(BackendUrl(url), 10))
            answers = [await step(actor) for step in steps]
            await actor.close()
        return answers

    return asyncio.run(work())


def contents(url: str) -> dict[str, bytes]:
    with closing(create_artifact_backend(BackendUrl(url))) as store:
        store.open()
        return {info.key: store.get(info.key) for info in store.list()}


@pytest.fixture(params=["put", "put_many", "put_file"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, bytes], Step]:
    ways = {"put": put, "put_many": put_many, "put_file": put_path(tmp_path / "file")}
    return ways[request.param]


def test_case_53_a_repeated_upload_leaves_a_newer_one(store_url: str, write: Callable[[str, bytes], Step]) -> None:
    first = write("run/latest", b"generation 10")
    second = put("run/latest", b"generation 11")
    assert run(url := store_url, [first, second], [first]) == run(url, [first])
    assert contents(url)["run/latest"] == b"generation 11"


def test_case_53_an_upload_that_did_not_take_effect_is_stored(
    store_url: str, write: Callable[[str, bytes], Step]
) -> None:
    older, lost = put("key", b"1"), write("key", b"2")
    run(store_url, [older], [lost])
    assert contents(store_url)["key"] == b"2"


def test_case_53_a_repeated_upload_does_not_bring_back_what_was_deleted(store_url: str) -> None:
    first, other, kept = put("run/a", b"1"), put("run/b/c", b"2"), put("runs/d", b"3")
    run(store_url, [first, other], [delete("run/a"), delete_prefix("run/b"), first, other, kept])
    assert contents(store_url) == {"runs/d": b"3"}


def test_case_53_a_repeated_deletion_leaves_what_came_after_it(store_url: str) -> None:
    old = [put(key, b"old") for key in ("a", "run", "run/1", "run/2")]
    one, below = delete("a"), delete_prefix("run")
    new = [put("a", b"new"), put("run/2", b"new")]
    run(store_url, [*old, one, below, *new, put("run/3", b"new")])
    assert run(store_url, [one, below]) == [True, 0]
    assert contents(store_url) == {"a": b"new", "run/2": b"new", "run/3": b"new"}


def test_case_53_a_deletion_that_did_not_take_effect_is_done(store_url: str) -> None:
    run(store_url, [put(key, b"old") for key in ("a", "run", "run/1")])
    deletions = [delete("a"), delete("none"), delete_prefix("run"), delete_prefix("run")]
    # A repeat cannot tell whether there was something.
    assert run(store_url, [], deletions) == [True, True, 2, 0]
    assert contents(store_url) == {}


def test_case_53_a_repeated_copy_leaves_a_newer_one(store_url: str) -> None:
    run(store_url, [put("source", b"1")])
    copied = copy("source", "dest")
    run(store_url, [copied, put("dest", b"2")], [copied])
    assert contents(store_url)["dest"] == b"2"
    # A copy is a write of its own: a repeated upload leaves it too.
    upload = put("dest", b"3")
    run(store_url, [upload, copy("source", "dest")], [upload])
    assert contents(store_url)["dest"] == b"1"
    copied = copy("source", "moved")
    run(store_url, [copied, delete("source")], [copied])
    assert contents(store_url) == {"dest": b"1", "moved": b"1"}


def test_case_53_a_repeat_in_the_same_process_has_the_same_answer(store_url: str) -> None:
    async def work() -> list[Any]:
        actor = ArtifactActor(ArtifactSettings(BackendUrl(store_url), 10))
        first, none, new = put("a", b"1"), delete("none"), put("run/1", b"1")
        answers = [await step(actor) for step in (first, none, none, new)]
        gone, below, newer = delete("a"), delete_prefix("run"), put("run/1", b"2")
        answers += [await step(actor) for step in (gone, gone, below, below, newer, below, first)]
        await actor.close()
        return answers

    assert asyncio.run(work()) == ["a", False, False, "run/1", True, True, 1, 1, "run/1", 1, "a"]
    assert contents(store_url) == {"run/1": b"2"}


def test_case_53_one_that_wants_no_other_object_is_told_of_it(store_url: str) -> None:
    own = begin("own", if_absent=True)
    run(store_url, [lambda actor: actor.put(own, b"1")], [lambda actor: actor.put(own, b"1")])
    late = begin("other", if_absent=True)
    run(store_url, [put("other", b"theirs")])
    with pytest.raises(AlreadyExistsError):
        run(store_url, [lambda actor: actor.put(late, b"mine")])
    assert contents(store_url) == {"own": b"1", "other": b"theirs"}


def test_case_53_a_damaged_object_is_replaced_by_a_repeat(tmp_path: Path) -> None:
    url, upload = f"file://{tmp_path}/store", put("key", b"new")
    run(url, [put("key", b"old")])
    (tmp_path / "store/key").write_bytes(b"")
    assert run(url, [upload]) == ["key"]
    assert contents(url) == {"key": b"new"}


def test_case_53_what_a_stranger_wrote_later_stays(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no write id that tells when it began, so the store's own clock does."""
    monkeypatch.setattr("morphml_ray.artifacts.write_id.time.time_ns", lambda: 1_000_000_000 * 10**9)  # in 2001
    upload, deletion = put("key", b"mine"), delete("key")
    monkeypatch.undo()
    with closing(create_artifact_backend(BackendUrl(store_url))) as store:
        store.open()
        store.put("key", b"theirs", write_id="theirs")
    assert run(store_url, [upload, deletion]) == ["key", True]
    assert contents(store_url) == {"key": b"theirs"}


def test_case_53_a_store_that_takes_a_write_and_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The actor tries again by itself; what somebody wrote between the two attempts stays."""
    whole = LocalArtifactBackend.put
    attempts: list[str] = []

    def put_and_break(self: ArtifactBackend, key: str, data: bytes, **options: Any) -> Any:
        attempts.append(key)
        done = whole(self, key, data, **options)  # type: ignore[arg-type]  # of the class itself
        if len(attempts) == 1:
            whole(self, key, b"newer", write_id=new_write_id())  # type: ignore[arg-type]  # the same
            raise BackendUnavailable("no answer")
        return done

    monkeypatch.setattr(LocalArtifactBackend, "put", put_and_break)
    assert run(f"file://{tmp_path}/store", [put("key", b"older")]) == ["key"]
    assert attempts == ["key"]
    assert contents(f"file://{tmp_path}/store") == {"key": b"newer"}


def test_case_53_a_file_in_chunks_whose_last_answer_was_lost(
    near_store: mr.ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("morphml_ray.artifacts.file_transfers._sees_file", lambda *_: False)
    upload = file_chunks._upload

    def upload_and_lose(*arguments: Any) -> str:
        upload(*arguments)
        near_store.upload_bytes(b"newer", "key")
        raise NotFoundError("its actor was restarted")

    monkeypatch.setattr(file_chunks, "_upload", upload_and_lose)
    (tmp_path / "file").write_bytes(b"older")
    assert near_store.upload_file(tmp_path / "file", "key") == "key"
    assert near_store.download_bytes("key") == b"newer"
