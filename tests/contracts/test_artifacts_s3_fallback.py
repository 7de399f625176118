"""When boto3 is asked after a direct request, and what becomes of lost and late answers to that."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from s3_doubles import Answer, FakeS3, LossyProxy, is_direct

from morphml_ray.artifacts.s3 import S3ArtifactBackend
from morphml_ray.artifacts.s3.client import make_client, make_session
from morphml_ray.artifacts.s3.direct import DIRECT_BYTES, DirectRequests
from morphml_ray.config import BackendUrl
from morphml_ray.config.s3 import parse_s3
from morphml_ray.errors import AlreadyExistsError, BackendUnavailable

OBJECT = {"Bucket": "bucket", "Key": "key"}


@pytest.fixture
def direct(fake: FakeS3) -> Iterator[DirectRequests]:
    place = parse_s3(fake.url().removeprefix("s3://"), None)
    session = make_session(place)
    with closing(make_client(session, place, timeout_s=5, attempts=1, connections=2)) as client:
        yield DirectRequests(client, session.get_credentials(), "bucket")


@pytest.mark.parametrize(
    ("status", "is_over"),
    [(301, True), (307, True), (400, True), (401, True), (403, True)]
    + [(status, False) for status in (404, 408, 409, 412, 416, 429, 500, 501, 503)],
)
def test_a_refusal_of_the_request_itself_is_the_last_one_for_a_while(
    fake: FakeS3, direct: DirectRequests, status: int, is_over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.say = lambda _: Answer(status)
    assert direct.get_object(OBJECT) is None
    assert len(fake.asked) == 1
    fake.say = lambda _: None
    assert (direct.put_object(b"1", OBJECT) is None) == is_over
    assert len(fake.asked) == (1 if is_over else 2)
    later = time.monotonic() + 60
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert direct.put_object(b"1", OBJECT) is not None


def test_a_missing_object_is_asked_for_once(fake: FakeS3) -> None:
    store = S3ArtifactBackend(BackendUrl(fake.url()), attempts=1)
    with closing(store):
        store.open()
        fake.say = lambda asked: Answer(404) if asked.method == "HEAD" else None
        before = len(fake.asked)
        assert not store.exists("none")
        assert [asked.method for asked in fake.asked[before:]] == ["HEAD"]


def test_a_server_that_takes_boto3_only_is_used_by_boto3(fake: FakeS3) -> None:
    store = S3ArtifactBackend(BackendUrl(fake.url()), attempts=1)
    with closing(store):
        store.open()
        fake.say = lambda asked: Answer(403) if is_direct(asked) else None
        for turn in range(3):
            store.put(f"key{turn}", b"1")
    assert [is_direct(asked) for asked in fake.asked[1:]] == [True, False, False, False]


@pytest.mark.parametrize(
    ("method", "headers", "is_taken"),
    [
        ("get_object", {}, True),
        ("get_object", {"Content-Length": "5"}, False),
        ("get_object", {"Content-Length": "many"}, False),
        ("head_object", {}, True),
        ("head_object", {"Content-Length": ""}, False),
        ("head_object", {"Last-Modified": "yesterday"}, False),
    ],
)
def test_an_answer_that_is_not_whole_is_not_taken(
    fake: FakeS3, direct: DirectRequests, method: str, headers: dict[str, str], is_taken: bool
) -> None:
    fake.say = lambda _: Answer(200, b"1234", headers)
    assert (getattr(direct, method)(OBJECT) is not None) == is_taken


def test_a_write_needs_no_length_in_its_answer(fake: FakeS3, direct: DirectRequests) -> None:
    fake.say = lambda _: Answer(200, b"", {"Content-Length": ""})
    assert direct.put_object(b"1", OBJECT) is not None


# Connections


@pytest.fixture
def proxy(artifacts_url: str) -> Iterator[LossyProxy]:
    made = LossyProxy(artifacts_url)
    yield made
    made.close()


def test_a_small_read_that_breaks_goes_on(proxy: LossyProxy) -> None:
    data = bytes(range(256)) * 400
    store = S3ArtifactBackend(BackendUrl(proxy.url), attempts=1)
    with closing(store):
        store.open()
        store.put("key", data)
        for after_bytes in (0, 50_000):
            lost = proxy.lose(b"GET ", after_bytes)
            assert store.get("key", 0, len(data)) == data
            assert lost.happened.is_set()
        lost = proxy.lose(b"HEAD ")
        assert store.exists("key")
        assert lost.happened.is_set()


@pytest.mark.parametrize("size_bytes", [4, DIRECT_BYTES, DIRECT_BYTES + 1])
def test_lesson_31_a_lost_answer_to_a_small_create_is_no_conflict(proxy: LossyProxy, size_bytes: int) -> None:
    store = S3ArtifactBackend(BackendUrl(proxy.url), attempts=2)
    with closing(store):
        store.open()
        lost = proxy.lose(b"PUT ")
        info = store.put("key", bytes(size_bytes), if_absent=True, write_id="mine")
        assert lost.happened.is_set()
        assert info.size_bytes == size_bytes
        assert store.put("key", bytes(size_bytes), if_absent=True, write_id="mine") == info
        with pytest.raises(AlreadyExistsError):
            store.put("key", b"other", if_absent=True)


def test_lesson_26_a_time_out_is_waited_for_once(fake: FakeS3) -> None:
    store = S3ArtifactBackend(BackendUrl(fake.url()), timeout_s=0.2, attempts=3)
    calls: list[Callable[[], object]] = [
        lambda: store.put("key", b"1"),
        lambda: store.get("key", 0, 1),
        lambda: store.exists("key"),
    ]
    with closing(store):
        store.open()
        fake.say = lambda _: fake.stall()
        for call in calls:
            with pytest.raises(BackendUnavailable):
                call()
    assert [asked.method for asked in fake.asked[1:]] == ["PUT", "GET", "HEAD"]
