"""Secrets that were stashed for a connection, and what becomes of them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from morphml_ray.artifacts.credentials import with_own_credentials
from morphml_ray.config import BackendUrl, HeldSecret, fingerprint, stash_secret

PLAIN = "postgresql://ann:word@db.example/nas"
S3 = "s3://bucket/prefix?region=eu-north-1"
KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "se/c+ret"}


@pytest.fixture
def private(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_case_66_what_nobody_could_connect_with_is_removed(private: Path) -> None:
    held = HeldSecret(stash_secret(BackendUrl(PLAIN), private))
    held.release(keep=False)
    held.release(keep=False)
    assert not list(private.iterdir())


def test_case_66_what_somebody_connected_with_stays(private: Path) -> None:
    url = stash_secret(BackendUrl(PLAIN), private)
    HeldSecret(url).release(keep=True)
    again = stash_secret(BackendUrl(PLAIN), private)
    assert again == url
    HeldSecret(again).release(keep=False)
    assert url.resolve() == BackendUrl(PLAIN).resolve()


def test_case_66_what_somebody_else_tries_at_the_moment_stays_until_that_fails(private: Path) -> None:
    url = stash_secret(BackendUrl(PLAIN), private)
    one, other = HeldSecret(url), HeldSecret(url)
    one.release(keep=False)
    assert url.resolve() == BackendUrl(PLAIN).resolve()
    other.release(keep=False)
    with pytest.raises(FileNotFoundError):
        HeldSecret(url)


def test_what_is_no_stashed_secret_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text(PLAIN)
    for text in (f"file:{mine}", f"file://{tmp_path}", f"sqlite:///{mine}", "memory://"):
        HeldSecret(BackendUrl(text)).release(keep=False)
    assert mine.exists()


@pytest.mark.usefixtures("open_umask")
def test_case_66_under_any_umask_the_stash_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = Path(stash_secret(BackendUrl(PLAIN)).reveal().removeprefix("file:"))
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent, path.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]


def test_case_37_credentials_of_the_environment_are_stashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    url = BackendUrl(S3)
    own = with_own_credentials(url, {**KEYS, "AWS_SESSION_TOKEN": "token", "AWS_ENDPOINT_URL_S3": "http://host:9000"})
    assert own is not None
    assert own.masked == url.masked
    assert fingerprint(own) == fingerprint(url)
    assert "aws_secret_access_key=se%2Fc%2Bret" in own.resolve("artifacts")
    assert "aws_session_token=token" in own.resolve("artifacts")
    assert "endpoint_url=http://host:9000" in own.resolve("artifacts")


@pytest.mark.parametrize(
    "text", [f"{S3}&aws_access_key_id=env:A&aws_secret_access_key=env:B", "file:///data", "env:URL"]
)
def test_case_37_what_is_stated_beats_the_environment(text: str) -> None:
    assert with_own_credentials(BackendUrl(text), KEYS) is None
    assert with_own_credentials(BackendUrl(S3), {"AWS_ACCESS_KEY_ID": "AKID"}) is None
