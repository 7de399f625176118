import pickle
from pathlib import Path

import pytest

from morphml_ray.config import BackendUrl, StorageConfig, fingerprint, stash_secret
from morphml_ray.errors import ConfigurationError

SECRET = "S3NTINEL+/="  # noqa: S105 - it opens nothing
CREDENTIALS = f"aws_access_key_id=AKIA&aws_secret_access_key={SECRET}"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://my.bucket-1/a b/ü", "s3://my.bucket-1/a%20b/%C3%BC"),
        ("s3://bucket/a%2Fb/?region=eu-west-1", "s3://bucket/a/b?region=eu-west-1"),
        ("s3://bucket?endpoint_url=HTTP://Minio:9000/&region=x", "s3://bucket?endpoint_url=http://minio:9000&region=x"),
        ("s3://bucket?create_bucket=False", "s3://bucket?create_bucket=0"),
        (
            "s3://bucket?sse=aws:kms&sse_kms_key_id=arn:aws:kms:x",
            "s3://bucket?sse=aws:kms&sse_kms_key_id=arn:aws:kms:x",
        ),
        (f"s3://bucket?{CREDENTIALS}", "s3://bucket?aws_access_key_id=***&aws_secret_access_key=***"),
    ],
)
def test_an_s3_url_is_read_and_shown_without_secrets(text: str, masked: str) -> None:
    url = BackendUrl(text)
    assert (url.scheme, url.path, url.masked) == ("s3", None, masked)
    assert BackendUrl(url.reveal()) == url
    assert pickle.loads(pickle.dumps(url)) == url  # noqa: S301 - our own
    assert url.has_plain_secret == ("aws_secret" in text)
    for shown in (repr(url), str(url), url.fingerprint_text, f"{url}"):
        assert "S3NTINEL" not in shown


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("s3://", "name of a bucket"),
        ("s3://ab", "name of a bucket"),
        ("s3://Bucket", "name of a bucket"),
        ("s3://a..b", "name of a bucket"),
        (f"s3://key:{SECRET}@bucket", "neither credentials nor a host"),
        ("s3://host:9000/bucket", "neither credentials nor a host"),
        ("s3://bucket/../x", "no empty segment"),
        ("s3://bucket/a//b", "no empty segment"),
        ("s3://bucket/a#x", "%23"),
        ("s3://bucket?endpoint=http://x", "did you mean endpoint_url"),
        (f"s3://bucket?{SECRET}=1", "known are endpoint_url"),
        (f"s3://bucket?endpoint_url=http://k:{SECRET}@host", "nothing else"),
        ("s3://bucket?endpoint_url=minio:9000", "http://host:port"),
        ("s3://bucket?endpoint_url=http://host:port", "http://host:port"),
        ("s3://bucket?region=", "no value for region"),
        ("s3://bucket?region=a&region=b", "states region twice"),
        ("s3://bucket?create_bucket=maybe", "one of 0, 1"),
        ("s3://bucket?sse=rot13", "AES256"),
        ("s3://bucket?sse=AES256&sse_kms_key_id=x", "sse=aws:kms"),
        (f"s3://bucket?aws_secret_access_key={SECRET}", "together"),
        ("s3://bucket?aws_session_token=x", "together"),
        ("s3://bucket?aws_access_key_id=***&aws_secret_access_key=***", "masked copy"),
        ("s3://bucket?region=a%00b", "printable"),
        ("file://", "file:///path"),
        ("file:///", "other than /"),
        ("file://host/path", "file:///path"),
        ("file:///path?x=1", "takes no options"),
        ("file:///a%00b", "file:///path"),
    ],
)
def test_a_wrong_url_says_what_to_change(text: str, advice: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        BackendUrl(text)
    assert advice in str(caught.value)
    assert "S3NTINEL" not in str(caught.value)


def test_secrets_are_resolved_where_they_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    monkeypatch.setenv("KEY", "AKIA")
    text = f"s3://bucket?aws_access_key_id=env:KEY&aws_secret_access_key=file:{tmp_path}/secret"
    url = BackendUrl(text)
    assert not url.has_plain_secret
    assert stash_secret(url, tmp_path / "stash") is url
    literal = BackendUrl(f"s3://bucket?{CREDENTIALS}")
    assert BackendUrl(url.resolve("artifacts")) == literal
    stashed = stash_secret(literal, tmp_path / "stash")
    assert (stashed.scheme, stashed.masked) == ("s3", literal.masked)
    assert "S3NTINEL" not in stashed.reveal()
    assert stashed.resolve("artifacts") == literal.reveal()
    assert fingerprint(stashed) == fingerprint(literal) == fingerprint(url) == fingerprint(BackendUrl("s3://bucket"))


@pytest.mark.parametrize(
    "other", ["s3://bucket/a", "s3://bucke2", "s3://bucket?endpoint_url=http://x", "s3://bucket?sse=AES256"]
)
def test_other_places_have_other_fingerprints(other: str) -> None:
    assert fingerprint(BackendUrl(other)) != fingerprint(BackendUrl("s3://bucket"))
    assert fingerprint(BackendUrl("s3://bucket?region=x&create_bucket=0")) == fingerprint(BackendUrl("s3://bucket"))


def test_a_directory_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ann")
    paths = {
        "file:///data/art ifacts/%25/": "/data/art ifacts/%",
        "file://localhost/data": "/data",
        "file://./art": f"{tmp_path}/art",
        "file://../art": f"{tmp_path}/../art",
        "file://~/art": "/home/ann/art",
    }
    for text, path in paths.items():
        url = BackendUrl(text)
        assert (url.scheme, str(url.path)) == ("file", path)
        assert BackendUrl(url.reveal()) == url
    monkeypatch.setenv("TEST_URL", "file://./art")
    with pytest.raises(ConfigurationError, match="absolute path"):
        BackendUrl("env:TEST_URL").resolve()
    (tmp_path / "link").symlink_to(tmp_path / "art")
    assert fingerprint(BackendUrl("file://./link")) == fingerprint(BackendUrl("file://./art"))


def test_artifacts_are_configured_like_the_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    embedded = StorageConfig(root="a %2F?#b")
    assert embedded.artifacts is None
    assert not embedded.are_artifacts_stated
    assert embedded.artifacts_url.path == tmp_path / "a %2F?#b" / "artifacts"
    monkeypatch.setenv("MORPHML_ARTIFACTS_URL", f"s3://bucket?{CREDENTIALS}")
    stated = StorageConfig()
    assert stated.are_artifacts_stated
    assert stated.artifacts_url.scheme == "s3"
    assert "S3NTINEL" not in repr(stated)
    assert StorageConfig(artifacts="file:///x").artifacts_url.path == Path("/x")
    assert StorageConfig(artifacts="file:/run/secrets/url").artifacts_url.reveal() == "file:/run/secrets/url"


@pytest.mark.parametrize(
    "settings",
    [{"artifacts": "sqlite:///x.db"}, {"artifacts": "redis://h"}, {"database": "file:///x"}, {"cache": "s3://bucket"}],
)
def test_a_url_of_another_kind_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        StorageConfig(**settings)
    with pytest.raises(ConfigurationError, match="artifacts"):
        BackendUrl("sqlite:////x.db").resolve("artifacts")
