"""Objects go past boto3, in requests that mean the same; where obstore has other rules, boto3 moves them."""

import datetime as dt
import itertools
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, HeadersDict
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError, ParamValidationError
from s3_doubles import Answer, Asked, FakeS3, is_direct
from waiting import wait_until

from morphml_ray.artifacts.s3 import S3ArtifactBackend
from morphml_ray.artifacts.s3.client import make_client, make_session
from morphml_ray.artifacts.s3.obstore_client import ObstoreClient, _find_target, choose_client
from morphml_ray.config import BackendUrl
from morphml_ray.config.s3 import parse_s3
from morphml_ray.rpc.patience import Patience

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

KEYS = [
    "two  blanks ",
    "plus+plus",
    "100%",
    "%41%2F%zz",
    "ü/日本/😀",
    "combined/e\u0301",
    "~tilde~/.../-_",
    "a?b=1&x#fragment",
    ";:@!$&'()*,=[]{}|^`\"<>",
    "x",
]
DATED = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
CREDENTIALS = Credentials("key", "secret", "token-of-session")


class Holding(boto3.session.Session):
    """A session whose credentials the test chooses."""

    held: Any = CREDENTIALS

    def get_credentials(self) -> Any:
        return self.held


def client_of(url: str) -> "S3Client":
    place = parse_s3(url.removeprefix("s3://"), None)
    return make_client(make_session(place), place, timeout_s=5, attempts=1, connections=2)


def chosen(client: "S3Client", credentials: Any = CREDENTIALS, bucket: str = "bucket") -> Any:
    session = Holding()
    session.held = credentials
    return choose_client(client, session, bucket, {}, timeout_s=5, patience=lambda: Patience(attempts=1))


@pytest.fixture
def client(fake: FakeS3) -> "Iterator[S3Client]":
    with closing(client_of(fake.url())) as made:
        yield made


def opened(url: str, attempts: int = 1, timeout_s: float = 5) -> closing[S3ArtifactBackend]:
    backend = S3ArtifactBackend(BackendUrl(url), attempts=attempts, timeout_s=timeout_s)
    backend.open()
    return closing(backend)


def where(key: str) -> Any:
    return {"Bucket": "bucket", "Key": key}


# The same request as boto3's


@pytest.mark.parametrize("key", KEYS)
def test_a_key_has_one_address(fake: FakeS3, client: "S3Client", key: str) -> None:
    for writer in (chosen(client), client):
        writer.put_object(Body=b"1", ContentType="a/b", **where(key))
    assert [is_direct(one) for one in fake.asked] == [True, False]
    first, second = (unquote(one.path) for one in fake.asked)
    assert first == second == f"/bucket/{key}"


def test_what_is_no_key_of_obstore_is_refused_as_by_boto3(fake: FakeS3, client: "S3Client") -> None:
    for key in ("a//b", "a/../b"):
        with pytest.raises(ParamValidationError):
            chosen(client).head_object(**where(key))
    assert fake.asked == []


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_one_object(artifacts_url: str, key: str) -> None:
    place = parse_s3(artifacts_url.removeprefix("s3://"), None)
    session = make_session(place)
    with closing(make_client(session, place, timeout_s=5, attempts=1, connections=2)) as client:
        objects = chosen(client, session.get_credentials(), place.bucket)
        name: Any = {"Bucket": place.bucket, "Key": f"{place.prefix}/{key}"}
        described: Any = {**name, "Metadata": {"plain": "two words"}, "ContentType": "a/b"}
        objects.put_object(Body=b"direct", **described)
        answer = client.get_object(**name)
        assert answer["Body"].read() == b"direct"
        assert (answer["Metadata"], answer["ContentType"]) == ({"plain": "two words"}, "a/b")
        assert [one["Key"] for one in client.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix)["Contents"]] == [
            name["Key"]
        ]
        described["Metadata"]["plain"] = "other"
        client.put_object(Body=b"boto3", CacheControl="no-store", **described)
        found = objects.get_object(**name, Range="bytes=1-")
        head = objects.head_object(**name)
        assert (found["Body"].read(), found["ContentRange"], head["ContentLength"]) == (b"oto3", "bytes 1-4/5", 5)
        assert facts(found) == facts(head) == facts(client.head_object(**name))


def facts(answer: Any) -> list[object]:
    return [answer[name] for name in ("Metadata", "ContentType", "ETag", "LastModified")]


def seen(asked: Asked) -> dict[str, str]:
    """Give the headers that mean something to the server; a body has one checksum or another."""
    own = ("x-amz-date", "x-amz-content-sha256", "x-amz-checksum-crc32", "x-amz-meta-morphml-write")
    names = ("content-type", "content-length", "if-match", "if-none-match", "range")
    return {
        name: value
        for name, value in asked.headers.items()
        if name in names or (name.startswith("x-amz-") and name not in own)
    }


def test_the_headers_are_those_of_boto3(fake: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    options = "&sse=aws:kms&sse_kms_key_id=arn:aws:kms:eu-west-1:1:key/2&aws_session_token=token&region=eu-west-1"
    part = Answer(206, b"123", {**DATED, "Content-Range": "bytes 0-2/4"})
    for is_boto3 in (False, True):
        if is_boto3:
            monkeypatch.setenv("AWS_UNSIGNED_PAYLOAD", "true")
        with opened(fake.url(options)) as store:
            store.put("key", b"1234", {"a": "b c", "ü": "x"}, content_type="text/csv", if_absent=True)
            store.put("key", b"")
            fake.say = lambda _: part
            assert store.get("key", 0, 3, '"1"') == b"123"
            store.head("key")
            fake.say = lambda _: None
    asked = [one for one in fake.asked if "list-type" not in one.path]
    assert [one.method for one in asked] == ["PUT", "PUT", "GET", "HEAD"] * 2
    assert [is_direct(one) for one in asked] == [True] * 4 + [False] * 4
    for one, other in zip(asked[:4], asked[4:], strict=True):
        assert seen(one) == seen(other)
        assert "morphml_ray" in one.headers["user-agent"]
        assert "/eu-west-1/s3/aws4_request" in one.headers["authorization"]
        assert one.headers["x-amz-content-sha256"] != "UNSIGNED-PAYLOAD"  # so the server compares what arrives
    put = asked[0].headers
    assert put["x-amz-server-side-encryption"] == "aws:kms"
    assert put["x-amz-server-side-encryption-aws-kms-key-id"] == "arn:aws:kms:eu-west-1:1:key/2"
    assert (put["x-amz-security-token"], put["if-none-match"], put["content-type"]) == ("token", "*", "text/csv")
    assert (asked[2].headers["range"], asked[2].headers["if-match"]) == ("bytes=0-2", '"1"')


def test_metadata_that_obstore_would_take_for_a_header_go_by_boto3(fake: FakeS3) -> None:
    with opened(fake.url()) as store:
        store.put("key", b"1", {"content-type": "mine", "cache-control": "none"}, content_type="a/b")
    put = fake.asked[-1].headers
    assert (put["content-type"], put["x-amz-meta-content-type"], put.get("cache-control")) == ("a/b", "mine", None)
    assert put["x-amz-meta-cache-control"] == "none"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[AWSPreparedRequest]:
    """What boto3 would send, and nothing is."""
    requests: list[AWSPreparedRequest] = []

    def send(_: object, request: AWSPreparedRequest) -> SimpleNamespace:
        requests.append(request)
        return SimpleNamespace(status_code=200, headers=HeadersDict({"Content-Length": "0"}), content=b"", raw=None)

    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", send)
    return requests


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket?region=eu-west-1",
        "s3://bucket?region=us-east-1",
        "s3://bucket?region=cn-north-1",
        "s3://bucket.with.dots?region=eu-west-1",
        "s3://bucket?region=eu-west-1&addressing_style=path",
        "s3://bucket-s3alias?region=eu-west-1",
        "s3://bucket?endpoint_url=https://minio.example:9000/below",
        "s3://bucket?endpoint_url=https://minio.example&addressing_style=virtual",
    ],
)
def test_the_server_is_that_of_boto3(sent: list[AWSPreparedRequest], url: str) -> None:
    place = parse_s3(url.removeprefix("s3://"), None)
    with closing(client_of(f"{url}&aws_access_key_id=key&aws_secret_access_key=secret")) as client:
        target = _find_target(client, place.bucket)
        assert sent == []
        client.head_object(Bucket=place.bucket, Key="dir/x")
    authorization = sent[0].headers["Authorization"]
    text = authorization.decode() if isinstance(authorization, bytes) else authorization
    assert sent[0].url == f"{target.place}/dir/x"
    assert text.partition("Credential=")[2].split("/")[2] == target.region


def test_a_path_of_the_server_is_kept(fake: FakeS3) -> None:
    with opened(fake.url().replace(fake.endpoint_url, f"{fake.endpoint_url}/below")) as store:
        store.put("key", b"1")
    assert is_direct(fake.asked[-1])
    assert fake.asked[-1].path == "/below/bucket/prefix/key"


# Where boto3 moves the objects


def test_a_bucket_with_sessions_of_its_own_is_left_to_boto3(sent: list[AWSPreparedRequest]) -> None:
    url = "s3://name--use1-az4--x-s3?region=us-east-1&aws_access_key_id=key&aws_secret_access_key=secret"
    for options in ("", "&endpoint_url=https://minio.example"):
        with closing(client_of(f"{url}{options}")) as client:
            assert chosen(client, bucket="name--use1-az4--x-s3") is client
    assert sent == []


def test_without_credentials_boto3_says_so(client: "S3Client") -> None:
    assert chosen(client, None) is client


@pytest.mark.parametrize(
    ("name", "value", "is_boto3"),
    [
        ("HTTP_PROXY", "http://127.0.0.1:1", True),
        ("https_proxy", "http://127.0.0.1:1", False),
        ("AWS_SKIP_SIGNATURE", "true", True),
        ("AWS_SERVER_SIDE_ENCRYPTION", "AES256", True),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1", False),
        ("AWS_CA_BUNDLE", "/dev/null", False),
    ],
)
def test_the_environment_is_obeyed_by_boto3s_rules(
    fake: FakeS3, client: "S3Client", monkeypatch: pytest.MonkeyPatch, name: str, value: str, *, is_boto3: bool
) -> None:
    monkeypatch.setenv(name, value)
    objects = chosen(client)
    assert isinstance(objects, ObstoreClient) is not is_boto3
    if not is_boto3:
        objects.put_object(Body=b"1", ContentType="a/b", **where("key"))
        assert is_direct(fake.asked[0])


def test_a_proxy_that_this_server_needs_not_is_not_used(
    fake: FakeS3, client: "S3Client", monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    chosen(client).put_object(Body=b"1", ContentType="a/b", **where("key"))
    assert is_direct(fake.asked[0])


@pytest.mark.parametrize(("bundle", "is_boto3"), [("/dev/null", True), (None, False)])
def test_an_authority_of_ones_own_is_trusted_alone(
    monkeypatch: pytest.MonkeyPatch, bundle: str | None, *, is_boto3: bool
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    with closing(client_of("s3://bucket?region=eu-west-1&aws_access_key_id=k&aws_secret_access_key=s")) as client:
        if bundle is not None:
            monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
        assert (chosen(client) is client) == is_boto3


# Credentials


def renewing() -> RefreshableCredentials:
    numbers = itertools.count()

    def renew() -> dict[str, str]:
        number = next(numbers)
        return {
            "access_key": f"key{number}",
            "secret_key": "secret",
            "token": f"token{number}",
            # So soon that whoever asks gets other ones.
            "expiry_time": (dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=5)).isoformat(),
        }

    return RefreshableCredentials.create_from_metadata(renew(), renew, "role")


def test_credentials_that_are_renewed_stay_together(fake: FakeS3, client: "S3Client") -> None:
    objects = chosen(client, renewing())

    def tokens() -> set[str]:
        objects.head_object(**where("key"))
        return {one.headers["x-amz-security-token"] for one in fake.asked}

    wait_until(lambda: len(tokens()) > 2, 10)
    for asked in fake.asked:
        number = asked.headers["x-amz-security-token"].removeprefix("token")
        assert f"Credential=key{number}/" in asked.headers["authorization"]


def test_credentials_that_cannot_be_renewed_say_why(fake: FakeS3, client: "S3Client") -> None:
    class Away(Credentials):
        def get_frozen_credentials(self) -> Any:
            raise CredentialRetrievalError(provider="role", error_msg="away")

    with pytest.raises(CredentialRetrievalError, match="role"):
        chosen(client, Away("key", "secret")).put_object(Body=b"1", ContentType="a/b", **where("key"))
    assert fake.asked == []
