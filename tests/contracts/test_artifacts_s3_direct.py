"""Small objects go past boto3, in requests that do not differ from its own."""

import datetime as dt
import itertools
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, HeadersDict
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError, NoCredentialsError
from s3_doubles import Answer, Asked, FakeS3, is_direct

from morphml_ray.artifacts.s3 import S3ArtifactBackend
from morphml_ray.artifacts.s3.client import make_client, make_session
from morphml_ray.artifacts.s3.direct import DirectRequests
from morphml_ray.config import BackendUrl
from morphml_ray.config.s3 import parse_s3

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
CREDENTIALS = Credentials("key", "secret", "token-of-session")


def client_of(url: str) -> "S3Client":
    place = parse_s3(url.removeprefix("s3://"), None)
    return make_client(make_session(place), place, timeout_s=5, attempts=1, connections=2)


@pytest.fixture
def client(fake: FakeS3) -> "Iterator[S3Client]":
    with closing(client_of(fake.url())) as made:
        yield made


@pytest.fixture
def direct(client: "S3Client") -> DirectRequests:
    return DirectRequests(client, CREDENTIALS, "bucket")


def where(key: str) -> Any:
    return {"Bucket": "bucket", "Key": key}


# The same request as boto3's


@pytest.mark.parametrize("key", [*KEYS, "a//b", "a/./b", "a/../b"])
def test_a_key_has_one_address(fake: FakeS3, client: "S3Client", direct: DirectRequests, key: str) -> None:
    direct.put_object(b"1", where(key))
    client.put_object(Body=b"1", **where(key))
    assert is_direct(fake.asked[0])
    assert not is_direct(fake.asked[1])
    assert fake.asked[0].path == fake.asked[1].path


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_one_object(artifacts_url: str, key: str) -> None:
    place = parse_s3(artifacts_url.removeprefix("s3://"), None)
    session = make_session(place)
    with closing(make_client(session, place, timeout_s=5, attempts=1, connections=2)) as client:
        direct = DirectRequests(client, session.get_credentials(), place.bucket)
        name: Any = {"Bucket": place.bucket, "Key": f"{place.prefix}/{key}"}
        described: Any = {**name, "Metadata": {"plain": "two words"}, "ContentType": "a/b"}
        assert direct.put_object(b"direct", described) is not None
        answer = client.get_object(**name)
        assert answer["Body"].read() == b"direct"
        assert (answer["Metadata"], answer["ContentType"]) == ({"plain": "two words"}, "a/b")
        assert [one["Key"] for one in client.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix)["Contents"]] == [
            name["Key"]
        ]
        described["Metadata"]["plain"] = "other"
        client.put_object(Body=b"boto3", **described)
        found = direct.get_object({**name, "Range": "bytes=1-"})
        head = direct.head_object(name)
        assert found is not None
        assert head is not None
        assert (found["Body"], found["ContentRange"], head["ContentLength"]) == (b"oto3", "bytes 1-4/5", 5)
        assert facts(found) == facts(head) == facts(client.head_object(**name))


def facts(answer: Any) -> list[object]:
    metadata = {name.lower(): value for name, value in answer["Metadata"].items()}
    return [metadata, *(answer[name] for name in ("ContentType", "ETag", "LastModified"))]


def seen(asked: Asked) -> dict[str, str]:
    """Give the headers that mean something to the server."""
    own = ("x-amz-date", "x-amz-content-sha256")
    names = ("content-type", "content-length", "if-match", "if-none-match", "range")
    return {
        name: value
        for name, value in asked.headers.items()
        if name in names or (name.startswith("x-amz-") and name not in own)
    }


def test_the_headers_are_those_of_boto3(fake: FakeS3) -> None:
    options = "&sse=aws:kms&sse_kms_key_id=arn:aws:kms:eu-west-1:1:key/2&aws_session_token=token&region=eu-west-1"
    store = S3ArtifactBackend(BackendUrl(fake.url(options)), attempts=1)
    with closing(store):
        store.open()
        for is_usable in (True, False):
            store._bucket.direct._is_usable = is_usable
            store.put("key", b"1234", {"a": "b c", "ü": "x"}, content_type="text/csv", if_absent=True, write_id="w")
            store.put("key", b"")
            fake.say = lambda _: Answer(200, b"1234", {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"})
            store.get("key", 0, 3, '"1"')
            store.head("key")
            fake.say = lambda _: None
    asked = fake.asked[1:]
    assert [one.method for one in asked] == ["PUT", "PUT", "GET", "HEAD"] * 2
    assert [is_direct(one) for one in asked] == [True] * 4 + [False] * 4
    for one, other in zip(asked[:4], asked[4:], strict=True):
        written = one.headers.get("x-amz-meta-morphml-write")
        assert written is None or other.headers["x-amz-meta-morphml-write"]
        ignored = {"x-amz-meta-morphml-write": ""}
        assert seen(one) | ignored == seen(other) | ignored
        assert "morphml_ray" in one.headers["user-agent"]
        assert "/eu-west-1/s3/aws4_request" in one.headers["authorization"]
    put = asked[0].headers
    assert put["x-amz-server-side-encryption"] == "aws:kms"
    assert put["x-amz-server-side-encryption-aws-kms-key-id"] == "arn:aws:kms:eu-west-1:1:key/2"
    assert (put["x-amz-security-token"], put["if-none-match"], put["content-type"]) == ("token", "*", "text/csv")
    assert (asked[2].headers["range"], asked[2].headers["if-match"]) == ("bytes=0-2", '"1"')


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[AWSPreparedRequest]:
    """What any client would send, and nothing is."""
    requests: list[AWSPreparedRequest] = []

    def send(_: object, request: AWSPreparedRequest) -> SimpleNamespace:
        requests.append(request)
        return SimpleNamespace(status_code=200, headers=HeadersDict({"Content-Length": "0"}), content=b"", raw=None)

    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", send)
    return requests


def scope_of(request: AWSPreparedRequest) -> str:
    authorization = request.headers["Authorization"]
    text = authorization.decode() if isinstance(authorization, bytes) else authorization
    return text.partition("Credential=")[2].partition(",")[0]


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
        direct = DirectRequests(client, CREDENTIALS, place.bucket)
        assert sent == []
        assert direct.head_object({"Key": "dir/x"}) is not None
        client.head_object(Bucket=place.bucket, Key="dir/x")
    one, other = sent
    assert one.url == other.url
    assert scope_of(one) == scope_of(other)


def test_a_bucket_with_sessions_of_its_own_is_left_to_boto3(sent: list[AWSPreparedRequest]) -> None:
    url = "s3://name--use1-az4--x-s3?region=us-east-1&aws_access_key_id=key&aws_secret_access_key=secret"
    for options in ("", "&endpoint_url=https://minio.example"):
        with closing(client_of(f"{url}{options}")) as client:
            assert DirectRequests(client, CREDENTIALS, "name--use1-az4--x-s3").head_object({"Key": "x"}) is None
    assert sent == []


# Credentials


def test_without_credentials_boto3_says_so(fake: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    class Expired(Credentials):
        def get_frozen_credentials(self) -> Any:
            raise CredentialRetrievalError(provider="role", error_msg="away")

    with closing(client_of(f"s3://bucket?endpoint_url={fake.endpoint_url}")) as client:
        for credentials in (None, Expired("key", "secret")):
            assert DirectRequests(client, credentials, "bucket").put_object(b"1", where("key")) is None
        with pytest.raises(NoCredentialsError):
            client.head_object(**where("key"))
    assert fake.asked == []


def test_credentials_that_are_renewed_stay_together(fake: FakeS3, client: "S3Client") -> None:
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

    credentials = RefreshableCredentials.create_from_metadata(renew(), renew, "role")
    direct = DirectRequests(client, credentials, "bucket")
    for _ in range(3):
        direct.head_object(where("key"))
    used = [(one.headers["authorization"], one.headers["x-amz-security-token"]) for one in fake.asked]
    assert len({token for _, token in used}) == 3
    for authorization, token in used:
        assert f"Credential=key{token.removeprefix('token')}/" in authorization
