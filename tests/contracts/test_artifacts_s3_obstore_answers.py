"""What obstore is answered, or not, and what is made of it."""

from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler

import pytest
from s3_doubles import Answer, Asked, FakeS3, LossyProxy

from morphml_ray.artifacts.s3 import S3ArtifactBackend
from morphml_ray.artifacts.s3.obstore_client import SMALL_BYTES
from morphml_ray.config import BackendUrl
from morphml_ray.errors import AlreadyExistsError, BackendUnavailable, ConfigurationError, ConflictError

DATED = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}


def opened(url: str, attempts: int = 1) -> closing[S3ArtifactBackend]:
    backend = S3ArtifactBackend(BackendUrl(url), attempts=attempts)
    backend.open()
    return closing(backend)


def test_a_missing_object_is_asked_for_once(fake: FakeS3) -> None:
    with opened(fake.url()) as store:
        fake.say = lambda asked: Answer(404) if asked.method == "HEAD" else None
        before = len(fake.asked)
        assert not store.exists("none")
        assert [asked.method for asked in fake.asked[before:]] == ["HEAD"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(206, b"1234", {**DATED, "Content-Range": "bytes 0-3/4", "Content-Length": "5"}), BackendUnavailable),
        (Answer(206, b"1234", {**DATED, "Content-Range": "bytes 1-4/9"}), BackendUnavailable),
        (Answer(200, b"1234", DATED), BackendUnavailable),
        (Answer(412, headers=DATED), ConflictError),
        (Answer(301), ConfigurationError),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_not_taken(
    fake: FakeS3, answer: Answer, error: type[Exception]
) -> None:
    with opened(fake.url()) as store:
        fake.say = lambda _: answer
        with pytest.raises(error):
            store.get("key", 0, 4, '"1"')


def test_a_redirect_of_a_bucket_that_is_new_passes(fake: FakeS3) -> None:
    with opened(fake.url()) as store:
        fake.say = lambda asked: (
            Answer(307, headers={"Location": f"{fake.endpoint_url}/elsewhere"}) if asked.method == "PUT" else None
        )
        with pytest.raises(BackendUnavailable):
            store.put("key", b"1")


def test_an_object_without_a_date_is_of_now(fake: FakeS3) -> None:
    with opened(fake.url()) as store:
        fake.say = lambda _: Answer(200, b"1234")
        found = store.head("key")
    assert found is not None
    assert found.last_modified.year > 2020


# Connections


@pytest.fixture
def proxy(artifacts_url: str) -> Iterator[LossyProxy]:
    made = LossyProxy(artifacts_url)
    yield made
    made.close()


def test_a_small_read_that_breaks_goes_on(proxy: LossyProxy) -> None:
    data = bytes(range(256)) * 400
    with opened(proxy.url, attempts=2) as store:
        store.put("key", data)
        for after_bytes in (0, 50_000):
            lost = proxy.lose(b"GET ", after_bytes)
            assert store.get("key", 0, len(data)) == data
            assert lost.happened.is_set()
        lost = proxy.lose(b"HEAD ")
        assert store.exists("key")
        assert lost.happened.is_set()


@pytest.mark.parametrize("size_bytes", [4, SMALL_BYTES, SMALL_BYTES + 1])
def test_lesson_31_a_lost_answer_to_a_small_create_is_no_conflict(proxy: LossyProxy, size_bytes: int) -> None:
    with opened(proxy.url, attempts=2) as store:
        lost = proxy.lose(b"PUT ")
        info = store.put("key", bytes(size_bytes), if_absent=True, write_id="mine")
        assert lost.happened.is_set()
        assert info.size_bytes == size_bytes
        assert store.put("key", bytes(size_bytes), if_absent=True, write_id="mine") == info
        with pytest.raises(AlreadyExistsError):
            store.put("key", b"other", if_absent=True)


class FaintingS3(FakeS3):
    """A server that falls silent in the middle of an object."""

    def answer(self, handler: BaseHTTPRequestHandler, asked: Asked) -> None:
        if "/prefix/key" not in asked.path:
            super().answer(handler, asked)
            return
        self.asked.append(asked)
        handler.close_connection = True
        head = "HTTP/1.1 206 Partial\r\nETag: 1\r\nContent-Length: 9\r\nContent-Range: bytes 0-8/9\r\n"
        handler.wfile.write(f"{head}Last-Modified: {DATED['Last-Modified']}\r\n\r\nsome".encode())
        self.stall()


def test_lesson_26_a_server_that_falls_silent_within_an_object_is_not_waited_for() -> None:
    server = FaintingS3()
    store = S3ArtifactBackend(BackendUrl(server.url()), timeout_s=0.3, attempts=2)
    with closing(server), closing(store):
        store.open()
        calls: list[Callable[[], object]] = [
            lambda: store.get("key", 0, 9),
            lambda: store.get_into("key", bytearray(9)),
            lambda: store.get_parts("key", 9),
        ]
        for call in calls:
            with pytest.raises(BackendUnavailable, match="broke off"):
                call()
    assert len(server.asked) == 1 + 2 * len(calls)


def test_lesson_26_a_time_out_is_waited_for_once(fake: FakeS3) -> None:
    calls: list[Callable[[S3ArtifactBackend], object]] = [
        lambda store: store.put("key", b"1"),
        lambda store: store.get("key", 0, 1),
        lambda store: store.exists("key"),
    ]
    store = S3ArtifactBackend(BackendUrl(fake.url()), timeout_s=0.2, attempts=3)
    with closing(store):
        store.open()
        fake.say = lambda _: fake.stall()
        for call in calls:
            with pytest.raises(BackendUnavailable):
                call(store)
    assert [asked.method for asked in fake.asked[1:]] == ["PUT", "GET", "HEAD"]
