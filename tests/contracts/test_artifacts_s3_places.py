"""Buckets, regions, endpoints, encryption, presigned URLs, and what others put there."""

import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from s3_doubles import Answer, Asked, FakeS3, refusal

from morphml_ray.artifacts.s3 import S3ArtifactBackend
from morphml_ray.artifacts.s3.client import make_client, make_session
from morphml_ray.config import BackendUrl
from morphml_ray.config.s3 import parse_s3
from morphml_ray.devstack import SeaweedServer
from morphml_ray.errors import BackendUnavailable, ConfigurationError
from morphml_ray.testing.artifacts.files import LARGE_BYTES, some_bytes

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


@pytest.fixture
def client(s3_server: SeaweedServer) -> "Iterator[S3Client]":
    place = parse_s3(s3_server.bucket_url("morphml", with_credentials=True).removeprefix("s3://"), None)
    made = make_client(make_session(place), place, timeout_s=5, attempts=2, connections=2)
    yield made
    made.close()


@pytest.fixture
def new_bucket(client: "S3Client") -> Iterator[str]:
    name = f"new-{secrets.token_hex(6)}"
    yield name
    client.delete_bucket(Bucket=name)


def opened(url: str) -> closing[S3ArtifactBackend]:
    store = S3ArtifactBackend(BackendUrl(url), attempts=1)
    store.open()
    return closing(store)


# Buckets


class Creation:
    """A server without the bucket until it is created; ``answers`` are the first ones to that."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = [*answers]
        self.is_there = False

    def __call__(self, asked: Asked) -> Answer | None:
        if asked.method == "PUT":
            self.is_there = True
            return self.answers.pop(0) if self.answers else None
        return None if self.is_there else refusal(404, "NoSuchBucket")


@pytest.mark.parametrize(("region", "body"), [("us-east-1", b""), ("eu-west-1", b"<LocationConstraint>eu-west-1</")])
def test_lesson_27_a_bucket_is_created_in_its_region(fake: FakeS3, region: str, body: bytes) -> None:
    fake.say = Creation()
    with opened(fake.url(f"&region={region}")):
        created = next(asked for asked in fake.asked if asked.method == "PUT")
    assert created.path == "/bucket"
    assert body in created.body
    assert bool(created.body) == bool(body)
    assert f"/{region}/s3/" in created.headers["authorization"]


@pytest.mark.parametrize("code", ["BucketAlreadyOwnedByYou", "BucketAlreadyExists", "OperationAborted"])
def test_lesson_27_the_loser_of_two_creators_goes_on(fake: FakeS3, code: str) -> None:
    fake.say = Creation(refusal(409, code))
    with opened(fake.url()) as store:
        assert list(store.list()) == []


def test_lesson_27_creators_at_once(s3_server: SeaweedServer, new_bucket: str) -> None:
    url = s3_server.bucket_url(new_bucket, with_credentials=True)

    def create(number: int) -> bool:
        with opened(url) as store:
            store.put(f"key{number}", b"1")
            return store.delete(f"key{number}")

    with ThreadPoolExecutor(3) as creators:
        assert list(creators.map(create, range(3))) == [True] * 3


def test_lesson_27_the_session_token_is_sent(fake: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "x"), ("SESSION_TOKEN", "token-of-session")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with opened(f"s3://bucket?endpoint_url={fake.endpoint_url}"):
        pass
    with opened(fake.url("&aws_session_token=token-of-url")):
        pass
    assert [asked.headers["x-amz-security-token"] for asked in fake.asked] == ["token-of-session", "token-of-url"]


def test_a_missing_bucket_can_be_refused(s3_server: SeaweedServer, fake: FakeS3) -> None:
    url = s3_server.bucket_url("not-there", with_credentials=True)
    with pytest.raises(ConfigurationError, match="there is no bucket not-there, and create_bucket=0"):
        opened(f"{url}&create_bucket=0")
    fake.say = lambda asked: None if asked.method == "PUT" else refusal(404, "NoSuchBucket")
    with pytest.raises(BackendUnavailable, match="is not there yet"):
        opened(fake.url())


def test_a_bucket_that_goes_is_a_configuration_error(
    s3_server: SeaweedServer, client: "S3Client", new_bucket: str
) -> None:
    with opened(s3_server.bucket_url(new_bucket, with_credentials=True)) as store:
        client.delete_bucket(Bucket=new_bucket)
        with pytest.raises(ConfigurationError, match="NoSuchBucket"):
            store.put("key", b"1")
        with pytest.raises(ConfigurationError, match="NoSuchBucket"):
            list(store.list())
        client.create_bucket(Bucket=new_bucket)


# Endpoints


def test_the_endpoint_of_the_environment_is_used(fake: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fake.endpoint_url.replace("127.0.0.1", "localhost"))
    with opened("s3://bucket?aws_access_key_id=k&aws_secret_access_key=s") as store:
        store.put("key", b"1")
    # The bucket in the path: few servers of one's own have a name for each bucket.
    assert [asked.path.partition("?")[0] for asked in fake.asked] == ["/bucket", "/bucket/key"]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "not an address")
    with pytest.raises(ConfigurationError):
        opened("s3://bucket?aws_access_key_id=k&aws_secret_access_key=s")


def test_a_host_can_have_a_name_for_each_bucket(fake: FakeS3) -> None:
    url = fake.url("&addressing_style=virtual").replace("127.0.0.1", "localhost")
    try:
        with opened(url):
            assert fake.asked[0].headers["host"].startswith("bucket.localhost")
    except BackendUnavailable as error:  # where bucket.localhost is no address
        assert "bucket.localhost" in str(error)  # noqa: PT017 - either shows the name


@pytest.mark.parametrize("module", ["transfer", "inject"])  # the latter has a name of its own for it
def test_lesson_30_large_objects_go_to_the_endpoint_too(
    artifacts_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("boto3's transfer manager may choose another client")

    monkeypatch.setattr(f"boto3.s3.{module}.create_transfer_manager", refuse)
    data = some_bytes(LARGE_BYTES)
    (tmp_path / "source").write_bytes(data)
    with opened(artifacts_url) as store:
        store.put("large", bytes(LARGE_BYTES))
        store.put_file("large", tmp_path / "source")
        store.copy("large", "copy")
        buffer = bytearray(LARGE_BYTES)
        store.get_into("copy", buffer)
        assert buffer == data
        store.get_file("copy", tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == data


# Unfinished uploads


def test_lesson_24_unfinished_uploads_of_all_pages_end(fake: FakeS3) -> None:
    def page(number: int) -> Answer:
        marks = f"<NextKeyMarker>prefix/{number}</NextKeyMarker><NextUploadIdMarker>id{number}</NextUploadIdMarker>"
        end = "<IsTruncated>false</IsTruncated>" if number == 3 else f"<IsTruncated>true</IsTruncated>{marks}"
        upload = f"<Key>prefix/{number}</Key><UploadId>id{number}</UploadId><Initiated>2026-01-01T00:00:00Z</Initiated>"
        body = f"<ListMultipartUploadsResult>{end}<Upload>{upload}</Upload></ListMultipartUploadsResult>"
        return Answer(200, body.encode())

    def say(asked: Asked) -> Answer | None:
        if "?uploads" not in asked.path:
            return None
        return page(next((number + 1 for number in (1, 2) if f"upload-id-marker=id{number}" in asked.path), 1))

    with opened(fake.url()) as store:
        fake.say = say
        assert store.purge_uploads(0) == 3
    ended = [asked.path for asked in fake.asked if asked.method == "DELETE"]
    assert ended == [f"/bucket/prefix/{number}?uploadId=id{number}" for number in (1, 2, 3)]


# Encryption, types


def test_encryption_and_type_are_asked_for(fake: FakeS3) -> None:
    def say(asked: Asked) -> Answer | None:
        if asked.method == "POST" and "uploads" in asked.path:
            return Answer(200, b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")
        if asked.method == "POST":
            return Answer(200, b"<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>")
        return None

    fake.say = say
    with opened(fake.url("&sse=aws:kms&sse_kms_key_id=arn:aws:kms:eu-west-1:1:key/2")) as store:
        store.put("small", b"1", content_type="text/csv")
        store.put("large", bytes(17 * 1024 * 1024), content_type="text/csv")
    for asked in (one for one in fake.asked if one.path in ("/bucket/prefix/small", "/bucket/prefix/large?uploads")):
        assert asked.headers["x-amz-server-side-encryption"] == "aws:kms"
        assert asked.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "arn:aws:kms:eu-west-1:1:key/2"
        assert asked.headers["content-type"] == "text/csv"
    assert len([one for one in fake.asked if "partNumber" in one.path]) == 3


def test_encryption_at_rest_is_transparent(artifacts_url: str) -> None:
    with opened(f"{artifacts_url}&sse=AES256") as store:
        store.put("key", b"secret weights")
        assert store.get("key") == b"secret weights"
        store.copy("key", "copy")
        assert store.get("copy", 7) == b"weights"


# Presigned URLs


def fetch(url: str, data: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, data, method="GET" if data is None else "PUT")  # noqa: S310 - our own server
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the same
        body: bytes = answer.read()
    return body


def test_a_presigned_url_reads_or_writes_one_object(artifacts_url: str) -> None:
    with opened(artifacts_url) as store:
        store.put("dir/ü &?", b"shared")
        assert fetch(store.presign("dir/ü &?", 60)) == b"shared"
        fetch(store.presign("new", 60, "put_object"), b"from outside")
        assert store.get("new") == b"from outside"
        for url in (store.presign("new", 60).replace("/new?", "/dir?"), store.presign("new", 60).replace("=60", "=61")):
            with pytest.raises(urllib.error.HTTPError, match="403") as refused:
                fetch(url)
            refused.value.close()


# What others left


def test_objects_of_others_are_read(artifacts_url: str, client: "S3Client") -> None:
    prefix = parse_s3(artifacts_url.removeprefix("s3://"), None).prefix
    client.put_object(
        Bucket="morphml",
        Key=f"{prefix}/foreign",
        Body=b"data",
        Metadata={"plain": "text", "word": "=?UTF-8?B?R3LDvMOfZQ==?=", "broken": "=?x?y?z?=", "morphml-json": "{"},
    )
    client.put_object(Bucket="morphml", Key=f"{prefix}/folder/", Body=b"")
    client.put_object(Bucket="morphml", Key=f"{prefix}/folder/real", Body=b"1")
    with opened(artifacts_url) as store:
        found = store.head("foreign")
        assert found is not None
        assert (found.metadata["plain"], found.metadata["word"], found.checksum) == ("text", "Grüße", None)
        assert store.get("foreign") == b"data"
        assert [info.key for info in store.list()] == ["folder/real", "foreign"]
        assert store.delete_prefix("folder") >= 1
        assert [info.key for info in store.list()] == ["foreign"]


def test_nothing_outside_of_the_prefix_is_seen(artifacts_url: str, client: "S3Client") -> None:
    prefix = parse_s3(artifacts_url.removeprefix("s3://"), None).prefix
    client.put_object(Bucket="morphml", Key=f"{prefix}0/key", Body=b"1")
    client.put_object(Bucket="morphml", Key=prefix, Body=b"1")
    with opened(artifacts_url) as store:
        assert list(store.list()) == []
        assert store.total_size() == 0
    for key in (f"{prefix}0/key", prefix):
        client.delete_object(Bucket="morphml", Key=key)
