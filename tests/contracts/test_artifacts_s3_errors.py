"""What comes out when S3 refuses, fails or is not there."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from s3_doubles import Answer, Asked, FakeS3, refusal

from morphml_ray.artifacts.s3 import S3ArtifactBackend
from morphml_ray.config import BackendUrl
from morphml_ray.devstack import SeaweedServer
from morphml_ray.errors import (
    BackendUnavailable,
    ConfigurationError,
    ConflictError,
    CorruptDataError,
    MorphMLRayError,
    NotFoundError,
    ValidationError,
)

pytestmark = pytest.mark.usefixtures("driver")

SECRET = "S3NTINEL"  # noqa: S105 - it opens nothing


@pytest.fixture
def store(fake: FakeS3) -> Iterator[S3ArtifactBackend]:
    backend = S3ArtifactBackend(BackendUrl(fake.url()), attempts=1)
    with closing(backend):
        backend.open()
        yield backend


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    return path


def answering(method: str, answer: Answer, path: str = "") -> Callable[[Asked], Answer | None]:
    return lambda asked: answer if asked.method == method and path in asked.path else None


def error_of(call: Callable[[], object]) -> MorphMLRayError:
    with pytest.raises(MorphMLRayError) as caught:
        call()
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.__cause__)
    return caught.value


# What the server says


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AccessDenied", ConfigurationError),
        (403, "SignatureDoesNotMatch", ConfigurationError),
        (403, "RequestTimeTooSkewed", ConfigurationError),
        (401, "Unauthorized", ConfigurationError),
        (400, "ExpiredToken", ConfigurationError),
        (404, "NoSuchBucket", ConfigurationError),
        (501, "NotImplemented", ConfigurationError),
        (400, "KeyTooLongError", ValidationError),
        (400, "MetadataTooLarge", ValidationError),
        (400, "BadDigest", ConflictError),
        (400, "RequestTimeout", BackendUnavailable),
        (409, "OperationAborted", BackendUnavailable),
        (409, "ConditionalRequestConflict", BackendUnavailable),
        (429, "TooManyRequests", BackendUnavailable),
        (500, "InternalError", BackendUnavailable),
        (503, "SlowDown", BackendUnavailable),
        (507, "InsufficientStorage", BackendUnavailable),
    ],
)
def test_each_refusal_has_its_error(
    fake: FakeS3, store: S3ArtifactBackend, status: int, code: str, error: type[MorphMLRayError]
) -> None:
    fake.say = lambda _: refusal(status, code)
    for call in (lambda: store.put("key", b"1"), lambda: list(store.list()), lambda: store.get("key")):
        raised = error_of(call)
        assert type(raised) is error
        assert code in str(raised)
        assert "s3://bucket/prefix" in str(raised)
    assert type(error_of(lambda: store.get("key"))) is error


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, ConfigurationError), (500, BackendUnavailable), (503, BackendUnavailable), (429, BackendUnavailable)],
)
def test_lesson_25_exists_is_an_answer_of_the_server_only(
    fake: FakeS3, store: S3ArtifactBackend, status: int, error: type[MorphMLRayError]
) -> None:
    fake.say = answering("HEAD", Answer(status))
    calls: list[Callable[[str], object]] = [store.exists, store.head, store.delete, lambda key: store.copy(key, "x")]
    for call in calls:
        assert type(error_of(partial(call, "key"))) is error
    assert not [asked for asked in fake.asked if asked.method == "DELETE"]
    fake.say = answering("HEAD", Answer(404))
    assert store.exists("key") is False


@pytest.mark.parametrize(
    ("status", "error"), [(403, ConfigurationError), (500, BackendUnavailable), (507, BackendUnavailable)]
)
@pytest.mark.parametrize("step", ["?uploads", "partNumber=2", "?uploadId="])
def test_lesson_26_a_refusal_inside_a_large_upload_comes_out(
    fake: FakeS3, store: S3ArtifactBackend, large: Path, status: int, error: type[MorphMLRayError], step: str
) -> None:
    begun = Answer(200, b"<InitiateMultipartUploadResult><UploadId>7</UploadId></InitiateMultipartUploadResult>")

    def say(asked: Asked) -> Answer | None:
        if asked.method != "DELETE" and step in asked.path:
            return refusal(status, "Refused")
        return begun if "?uploads" in asked.path else None

    fake.say = say
    assert type(error_of(lambda: store.put_file("key", large))) is error
    ended = [asked.path for asked in fake.asked if asked.method == "DELETE"]
    assert ended == ([] if step == "?uploads" else ["/bucket/prefix/key?uploadId=7"])


def test_a_short_failure_is_retried(fake: FakeS3) -> None:
    failures = [refusal(503, "SlowDown"), refusal(500, "InternalError")]
    store = S3ArtifactBackend(BackendUrl(fake.url()), attempts=3)
    with closing(store):
        store.open()
        fake.say = lambda asked: failures.pop() if asked.method == "PUT" and failures else None
        store.put("key", b"1")
    assert [asked.method for asked in fake.asked] == ["GET", "PUT", "PUT", "PUT"]


def listing_of_three() -> Answer:
    keys = "".join(
        f"<Contents><Key>prefix/exp/{n}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
        for n in range(3)
    )
    return Answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{keys}</ListBucketResult>".encode())


def one_stays(code: str) -> Answer:
    error = f"<Error><Key>prefix/exp/1</Key><Code>{code}</Code><Message>no</Message></Error>"
    return Answer(200, f"<DeleteResult>{error}</DeleteResult>".encode())


def test_what_could_not_be_deleted_at_once_is_asked_for_again(fake: FakeS3) -> None:
    answers = [one_stays("InternalError"), Answer(200, b"<DeleteResult></DeleteResult>")]
    store = S3ArtifactBackend(BackendUrl(fake.url()), attempts=2)
    with closing(store):
        store.open()
        fake.say = lambda asked: listing_of_three() if asked.method == "GET" else answers.pop(0)
        assert store.delete_prefix("exp/") == 3
    first, second = (asked.body for asked in fake.asked if asked.method == "POST")
    assert [first.count(b"<Key>"), second.count(b"<Key>"), second.count(b"<Key>prefix/exp/1</Key>")] == [3, 1, 1]


def test_lesson_28_errors_inside_an_answer_come_out(fake: FakeS3, store: S3ArtifactBackend) -> None:
    results = {"GET": listing_of_three()}
    fake.say = lambda asked: results.get(asked.method)
    for code, error in (("AccessDenied", ConfigurationError), ("InternalError", BackendUnavailable)):
        results["POST"] = one_stays(code)
        raised = error_of(lambda: store.delete_prefix("exp/"))
        assert type(raised) is error
        assert f"deleted 2, but 1 objects stayed, exp/1 for one: {code} no" in str(raised)


def test_a_wrong_answer_to_a_download_is_not_taken(fake: FakeS3, store: S3ArtifactBackend, tmp_path: Path) -> None:
    changed = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "x-amz-checksum-crc32": "AAAAAA=="}
    fake.say = answering("GET", Answer(200, b"not empty", changed))
    with pytest.raises(CorruptDataError, match="key"):
        store.get("key")
    fake.say = lambda asked: refusal(404, "NoSuchKey") if asked.method == "GET" else None
    with pytest.raises(NotFoundError):
        store.get_file("key", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


# What the driver says


@pytest.fixture
def dead_url() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    return f"s3://bucket?endpoint_url=http://127.0.0.1:{port}&aws_access_key_id=key&aws_secret_access_key={SECRET}"


def test_lesson_26_a_dead_endpoint_is_unavailable(dead_url: str) -> None:
    assert type(error_of(S3ArtifactBackend(BackendUrl(dead_url), attempts=1).open)) is BackendUnavailable


def test_lesson_26_every_operation_says_so_when_the_server_goes(fake: FakeS3, large: Path, tmp_path: Path) -> None:
    store = S3ArtifactBackend(BackendUrl(fake.url()), attempts=1)
    store.open()
    fake.close()
    calls: list[Callable[[], Any]] = [
        lambda: store.put("key", b"1"),
        lambda: store.put_file("key", large),
        lambda: store.put("key", bytes(17 * 1024 * 1024)),
        lambda: store.begin_upload("key"),
        lambda: store.get("key"),
        lambda: store.get_into("key", bytearray(1)),
        lambda: store.get_file("key", tmp_path / "new"),
        lambda: store.head("key"),
        lambda: store.exists("key"),
        lambda: store.delete("key"),
        lambda: store.delete_prefix("key"),
        lambda: store.copy("key", "x"),
        lambda: list(store.list()),
        store.list_page,
        store.total_size,
        lambda: store.purge_uploads(0),
    ]
    for call in calls:
        assert type(error_of(call)) is BackendUnavailable
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["large"]


def test_lesson_26_a_server_that_falls_silent_is_not_waited_for(fake: FakeS3, large: Path, tmp_path: Path) -> None:
    store = S3ArtifactBackend(BackendUrl(fake.url()), timeout_s=0.3, attempts=2)
    with closing(store):
        store.open()
        fake.say = lambda _: fake.stall()
        calls: list[Callable[[], Any]] = [
            lambda: store.put("key", b"1"),
            lambda: store.put_file("key", large),
            lambda: store.get("key"),
            lambda: store.get_file("key", tmp_path / "new"),
        ]
        for call in calls:
            started_at = time.monotonic()
            assert type(error_of(call)) is BackendUnavailable
            assert time.monotonic() - started_at < 5
    assert [path.name for path in tmp_path.iterdir()] == ["large"]


def test_lesson_26_a_silent_server_is_not_waited_for() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        url = f"s3://bucket?endpoint_url=http://127.0.0.1:{port}&aws_access_key_id=k&aws_secret_access_key={SECRET}"
        started_at = time.monotonic()
        assert type(error_of(S3ArtifactBackend(BackendUrl(url), timeout_s=0.3, attempts=2).open)) is BackendUnavailable
        assert time.monotonic() - started_at < 5


def test_lesson_26_no_credentials_are_a_configuration_error(fake: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    url = BackendUrl(f"s3://bucket?endpoint_url={fake.endpoint_url}")
    assert isinstance(error_of(S3ArtifactBackend(url).open), ConfigurationError)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert type(error_of(S3ArtifactBackend(url).open)) is ConfigurationError
    assert fake.asked == []


def test_a_wrong_secret_is_a_configuration_error(s3_server: SeaweedServer) -> None:
    for key, said in (("morphml", "SignatureDoesNotMatch"), ("nobody", "InvalidAccessKeyId")):
        url = f"{s3_server.url}&aws_access_key_id={key}&aws_secret_access_key={SECRET}"
        raised = error_of(S3ArtifactBackend(BackendUrl(url)).open)
        assert type(raised) is ConfigurationError
        assert said in str(raised)


def test_a_reference_is_resolved_where_the_backend_opens(
    s3_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = BackendUrl(f"{s3_server.url}&aws_access_key_id=env:TEST_KEY&aws_secret_access_key=env:TEST_SECRET")
    store = S3ArtifactBackend(url)
    with pytest.raises(ConfigurationError, match="TEST_KEY"):
        store.open()
    monkeypatch.setenv("TEST_KEY", s3_server.exports()["AWS_ACCESS_KEY_ID"])
    monkeypatch.setenv("TEST_SECRET", s3_server.exports()["AWS_SECRET_ACCESS_KEY"])
    with closing(store):
        store.open()
        assert store.exists("nothing here") is False
    monkeypatch.setenv("TEST_URL", "sqlite:////tmp/x.db")
    with pytest.raises(ConfigurationError, match="TEST_URL"):
        S3ArtifactBackend(BackendUrl("env:TEST_URL")).open()
