"""What S3 may answer, or leave unanswered, and what is made of it."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from s3_doubles import Answer, Asked, FakeS3, refusal

from morphml_ray.artifacts.actor.actor import LOOKUP_THREADS, THREADS, WALK_THREADS
from morphml_ray.artifacts.s3 import S3ArtifactBackend, bucket
from morphml_ray.artifacts.s3.parts import split, work_on
from morphml_ray.config import BackendUrl
from morphml_ray.errors import (
    AlreadyExistsError,
    BackendUnavailable,
    ConfigurationError,
    MorphMLRayError,
    NotFoundError,
    ValidationError,
)

LARGE = bytes(17 * 1024 * 1024)
BEGUN = Answer(200, b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")
COMPLETED = Answer(200, b"<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>")
GONE = refusal(404, "NoSuchUpload")

Say = Callable[[Asked], Answer | None]


class RudeS3(FakeS3):
    """A server that gives no answer to requests that hold ``hang_up``."""

    hang_up = "no request holds this"

    def answer(self, handler: BaseHTTPRequestHandler, asked: Asked) -> None:
        if self.hang_up in asked.path:
            handler.close_connection = True
        else:
            super().answer(handler, asked)

    def requests(self, method: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == method]


@pytest.fixture
def fake() -> Iterator[RudeS3]:
    server = RudeS3()
    yield server
    server.close()


@pytest.fixture
def store(fake: RudeS3) -> Iterator[S3ArtifactBackend]:
    with opened(fake.url()) as backend:
        yield backend


def opened(url: str, attempts: int = 1) -> closing[S3ArtifactBackend]:
    backend = S3ArtifactBackend(BackendUrl(url), attempts=attempts)
    backend.open()
    return closing(backend)


def error_of(call: Callable[[], object]) -> MorphMLRayError:
    with pytest.raises(MorphMLRayError) as caught:
        call()
    assert "S3NTINEL" not in str(caught.value)
    return caught.value


def saying(*answers: tuple[str, str, Answer]) -> Say:
    """Answer as the first of (method, part of the path, answer) that fits."""
    return lambda asked: next(
        (said for method, part, said in answers if asked.method == method and part in asked.path), None
    )


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (400, ConfigurationError, "renew the session token"),
        (301, ConfigurationError, "state the bucket's region"),
        (405, ConfigurationError, "gives no reason"),
        (408, BackendUnavailable, "408"),
    ],
)
def test_lesson_25_an_answer_without_a_reason_is_not_about_the_key(
    fake: RudeS3, store: S3ArtifactBackend, status: int, error: type[MorphMLRayError], said: str
) -> None:
    fake.say = saying(("HEAD", "/prefix/key", Answer(status)))
    raised = error_of(lambda: store.exists("key"))
    assert type(raised) is error
    assert said in str(raised)


def test_a_key_that_is_too_long_below_the_prefix_is_refused_here(fake: RudeS3, store: S3ArtifactBackend) -> None:
    before = len(fake.asked)
    for call in (store.exists, store.delete, store.get, lambda key: store.put(key, b"1")):
        assert type(error_of(lambda call=call: call("k" * 1020))) is ValidationError  # type: ignore[misc]  # of the loop
    assert store.exists("k" * 1017)
    assert len(fake.asked) == before + 1


def test_the_rights_that_are_named_are_all_that_is_needed(fake: RudeS3, store: S3ArtifactBackend) -> None:
    fake.say = lambda _: refusal(403, "AccessDenied")
    said = str(error_of(lambda: store.put("key", b"1")))
    needed = "ListBucket ListBucketMultipartUploads CreateBucket GetObject PutObject DeleteObject AbortMultipartUpload"
    assert [name for name in needed.split() if f"s3:{name}" not in said] == []


def test_a_missing_bucket_is_no_missing_object(
    fake: RudeS3, store: S3ArtifactBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.say = saying(("HEAD", "", Answer(404)), ("GET", "", refusal(404, "NoSuchBucket")))
    assert store.exists("key") is False  # it was there a moment ago
    assert len(fake.requests("GET")) == 1  # the one of opening
    monkeypatch.setattr(bucket, "_LOOK_AGAIN_S", 0.0)
    for call in (store.exists, store.head, store.delete):
        raised = error_of(lambda call=call: call("key"))  # type: ignore[misc]  # of the loop
        assert type(raised) is ConfigurationError
        assert "NoSuchBucket" in str(raised)
    fake.say = saying(("HEAD", "", Answer(404)))
    assert store.exists("key") is False


def head_of(write_id: str | None) -> Answer:
    """Describe an object of eight bytes."""
    headers = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
    return Answer(200, b"12345678", headers | ({} if write_id is None else {"x-amz-meta-morphml-write": write_id}))


@pytest.mark.parametrize(
    ("there", "if_absent", "of_put", "of_finish"),
    [
        (head_of("own"), False, None, None),
        (head_of("own"), True, None, None),
        (head_of("other"), False, BackendUnavailable, NotFoundError),
        (head_of("other"), True, AlreadyExistsError, AlreadyExistsError),
        (Answer(404), False, BackendUnavailable, NotFoundError),
        (Answer(404), True, BackendUnavailable, NotFoundError),
    ],
)
def test_an_upload_that_is_gone_is_ours_or_begins_anew(
    fake: RudeS3,
    store: S3ArtifactBackend,
    there: Answer,
    if_absent: bool,
    of_put: type[MorphMLRayError] | None,
    of_finish: type[MorphMLRayError] | None,
) -> None:
    fake.say = saying(("POST", "uploads", BEGUN), ("POST", "", GONE), ("HEAD", "", there))
    upload = store.begin_upload("key", if_absent=if_absent, write_id="own")
    calls: list[tuple[Any, Callable[[], object]]] = [
        (of_put, lambda: store.put("key", LARGE, if_absent=if_absent, write_id="own")),
        (of_finish, lambda: store.finish_upload(upload)),
    ]
    for error, call in calls:
        if error is None:
            call()
        else:
            assert type(error_of(call)) is error
    if of_finish is not None:
        assert "there is no upload" in str(error_of(lambda: store.finish_upload(upload)))


def test_what_was_in_the_way_and_is_gone_is_tried_again(fake: RudeS3, store: S3ArtifactBackend) -> None:
    fake.say = saying(("PUT", "", refusal(412, "PreconditionFailed")), ("HEAD", "", Answer(404)))
    assert type(error_of(lambda: store.put("key", b"1", if_absent=True))) is BackendUnavailable


@pytest.mark.parametrize(
    ("source", "dest", "is_copied"),
    [("1", "mine", True), (None, "mine", True), ("1", "1", False), (None, None, False), ("1", None, False)],
)
def test_a_copy_whose_answer_was_lost_is_found(
    fake: RudeS3, store: S3ArtifactBackend, source: str | None, dest: str | None, is_copied: bool
) -> None:
    store._copier._single_bytes = 4
    fake.say = saying(
        ("POST", "uploads", BEGUN),
        ("PUT", "partNumber", Answer(200, b"<CopyPartResult><ETag>1</ETag></CopyPartResult>")),
        ("POST", "", GONE),
        ("HEAD", "source", head_of(source)),
        ("HEAD", "dest", head_of(dest)),
    )
    if is_copied:
        assert store.copy("source", "dest", write_id="mine").key == "dest"
    else:  # to be tried again, not missing
        assert type(error_of(lambda: store.copy("source", "dest", write_id="mine"))) is BackendUnavailable


def test_orphans_wait_for_a_server_that_answers(fake: RudeS3, store: S3ArtifactBackend) -> None:
    away = ("DELETE", "", refusal(503, "SlowDown"))
    ids = iter(range(100))

    def begin(asked: Asked) -> Answer | None:
        is_begin = asked.method == "POST" and "uploads" in asked.path
        return Answer(200, BEGUN.body.replace(b">1<", f">id{next(ids)}<".encode())) if is_begin else None

    fake.say = lambda asked: begin(asked) or saying(away)(asked)
    for upload in [store.begin_upload(f"key{number}") for number in range(3)]:
        store.abort_upload(upload)
    assert len(fake.requests("DELETE")) == 3
    fake.say = saying(away, ("POST", "", refusal(503, "SlowDown")))
    for begun in (lambda: store.put("key", LARGE), lambda: store.begin_upload("key")):
        error_of(begun)
    assert len(fake.requests("DELETE")) == 3
    fake.say = lambda asked: begin(asked) or saying(away, ("POST", "", COMPLETED))(asked)
    store.put("key", LARGE)  # stops at the first
    assert len(fake.requests("DELETE")) == 4
    fake.say = lambda asked: begin(asked) or saying(("POST", "", COMPLETED))(asked)
    store.put("key", LARGE)
    assert {asked.path.partition("uploadId=")[2] for asked in fake.requests("DELETE")[4:]} == {"id0", "id1", "id2"}


def test_a_server_that_fell_silent_is_not_asked_to_end_an_upload(fake: RudeS3, store: S3ArtifactBackend) -> None:
    fake.say = saying(("POST", "uploads", BEGUN), ("POST", "", COMPLETED))
    fake.hang_up = "partNumber"
    assert type(error_of(lambda: store.put("key", LARGE))) is BackendUnavailable
    assert fake.requests("DELETE") == []
    fake.hang_up = RudeS3.hang_up
    store.put("key", LARGE)
    assert [asked.path for asked in fake.requests("DELETE")] == ["/bucket/prefix/key?uploadId=1"]


def test_lesson_43_uploads_of_others_are_left_alone(fake: RudeS3) -> None:
    found = (
        "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated><Upload><Key>prefix/old</Key><UploadId>old</UploadId>"
        "<Initiated>2020-01-01T00:00:00Z</Initiated></Upload></ListMultipartUploadsResult>"
    )
    fake.say = saying(("POST", "uploads", BEGUN), ("GET", "uploads", Answer(200, found.encode())))
    for url, ended in ((fake.url(), ["1", "old"]), (fake.url().replace("bucket/prefix", "bucket"), ["1"])):
        fake.asked.clear()
        with opened(url) as store:
            store.begin_upload("key")
            assert store.purge_uploads(0) == len(ended)
        assert [asked.path.partition("uploadId=")[2] for asked in fake.requests("DELETE")] == ended


def test_the_region_of_the_environment_is_used(fake: RudeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    opened(fake.url()).__exit__()
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    opened(fake.url()).__exit__()
    opened(fake.url("&region=eu-west-2")).__exit__()
    regions = [asked.headers["authorization"].split("/")[2] for asked in fake.asked]
    assert regions == ["eu-west-3", "eu-west-1", "eu-west-2"]


def test_a_store_that_is_not_open_is_unavailable(fake: RudeS3, tmp_path: Path) -> None:
    store = S3ArtifactBackend(BackendUrl(fake.url()), attempts=1)
    source = tmp_path / "source"
    source.write_bytes(LARGE)
    calls: list[Callable[[], object]] = [
        lambda: store.put("key", b"1"),
        lambda: store.put("key", LARGE),
        lambda: store.put_file("key", source),
        lambda: store.get_into("key", bytearray(1)),
        lambda: store.copy("key", "x"),
        lambda: store.presign("key", 60),
    ]
    for call in calls:
        assert "is not open" in str(error_of(call))
    store.open()
    pool = store._bucket.pool
    store.close()
    store.close()
    for call in calls:
        assert "is not open" in str(error_of(call))
    assert type(error_of(lambda: work_on(pool, split(1), lambda part: part, 1))) is BackendUnavailable


def test_all_threads_of_an_actor_have_connections(fake: RudeS3, caplog: pytest.LogCaptureFixture) -> None:
    store = S3ArtifactBackend(BackendUrl(fake.url()), attempts=1)
    # One thread waits for the parts of its object, one tidies up.
    callers = THREADS - 1 + store._bucket.parts_at_once + LOOKUP_THREADS + WALK_THREADS + 1
    together = threading.Barrier(callers)

    def wait(asked: Asked) -> Answer | None:
        if asked.method == "HEAD":
            together.wait(10)
        return None

    with closing(store), ThreadPoolExecutor(callers) as threads, caplog.at_level(logging.WARNING):
        store.open()
        fake.say = wait
        assert all(threads.map(store.exists, ["key"] * callers))
    assert [record.getMessage() for record in caplog.records] == []
