import copy
import os
import pickle
import socket
import stat
import threading
import traceback
from pathlib import Path

import pytest

from morphml_ray.config import BackendUrl, fingerprint, stash_secret
from morphml_ray.errors import ConfigurationError

SECRET = "S3NTINEL-word"  # noqa: S105 - the word that nothing may show
PLAIN = f"postgresql://ann:{SECRET}@db.example/nas"


def told_by(error: BaseException) -> str:
    context = error.__cause__ or error.__context__
    return "".join(traceback.format_exception(error)) + repr(vars(error)) + (told_by(context) if context else "")


@pytest.fixture
def private(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


def test_a_whole_url_may_be_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    url = BackendUrl("env:NAS_URL")
    assert (url.scheme, url.masked, url.fingerprint_text) == ("env", "env:NAS_URL", "env:NAS_URL")
    assert not url.has_plain_secret
    monkeypatch.setenv("NAS_URL", PLAIN)
    assert url.resolve() == f"postgresql+psycopg2://ann:{SECRET}@db.example/nas"
    assert url.reveal() == "env:NAS_URL"
    assert SECRET not in repr(url) + repr(pickle.dumps(url))


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_whole_url_may_be_a_file(tmp_path: Path, ending: str) -> None:
    file = tmp_path / "url"
    file.write_bytes(f"postgres://ann:env%3Apw@h/db{ending}".encode())
    url = BackendUrl(f"file:{file}")
    assert (url.scheme, str(url)) == ("file", f"file:{file}")
    assert url.resolve() == "postgresql+psycopg2://ann:env%3Apw@h/db"


def test_a_password_may_be_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    url = BackendUrl("postgresql://ann:env:PGPASS@db.example/nas?sslpassword=env:PGPASS")
    assert url.masked == "postgresql+psycopg2://ann:***@db.example/nas?sslpassword=***"
    assert fingerprint(url) == fingerprint(BackendUrl(PLAIN))
    assert not url.has_plain_secret
    monkeypatch.setenv("PGPASS", "env:p@ss/w:rd")
    encoded = "env%3Ap%40ss%2Fw%3Ard"
    assert url.resolve() == f"postgresql+psycopg2://ann:{encoded}@db.example/nas?sslpassword={encoded}"


def test_a_password_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "pg"
    file.write_text("p#1\n")
    url = BackendUrl(f"postgresql://ann:file:{file}@h:5433/db")
    assert not url.has_plain_secret
    assert url.resolve() == "postgresql+psycopg2://ann:p%231@h:5433/db"
    assert BackendUrl(url.reveal()) == url


def test_a_url_in_a_variable_may_refer_to_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_URL", "postgresql://ann:env:PGPASS@h/db")
    monkeypatch.setenv("PGPASS", "pw")
    assert BackendUrl("env:NAS_URL").resolve() == "postgresql+psycopg2://ann:pw@h/db"


def test_a_password_that_looks_like_a_reference_can_be_stated() -> None:
    url = BackendUrl("postgresql://ann:env%3APGPASS@h/db")
    assert url.has_plain_secret
    assert BackendUrl(url.reveal()).resolve() == "postgresql+psycopg2://ann:env%3APGPASS@h/db"


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (f"env:{SECRET}", "letters, digits, _"),
        ("env:", "letters, digits, _"),
        (f"env://{SECRET}", "as in env:NAME"),
        (f"file://{SECRET}", "as in file:/run/secrets/database"),
        (f"file:{SECRET}", "absolute path"),
        (f"postgresql://ann:env:{SECRET}@h/db", "env%3A"),
        (f"postgresql://ann:file:{SECRET}@h/db", "file%3A"),
        (f"postgresql://env:{SECRET}@h/db", "postgresql://user:env:NAME@host/database"),
        ("postgresql://ann:file:/a@b@h/db", "%40"),
    ],
)
def test_a_wrong_reference_says_what_to_change(text: str, advice: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        BackendUrl(text)
    assert advice in str(caught.value)
    assert SECRET not in told_by(caught.value).replace("postgresql://env:", "")


@pytest.mark.parametrize("text", ["env:NAS_MISSING", "postgresql://ann:env:NAS_MISSING@h/db"])
def test_a_missing_variable_is_named_with_the_host(text: str) -> None:
    url = BackendUrl(text)
    with pytest.raises(ConfigurationError, match=r"variable NAS_MISSING .* it is not set") as caught:
        url.resolve()
    assert socket.gethostname() in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (b"two\nlines\n", "it is not one line"),
        (b"bytes\xff", "it is not one line"),
        (b"x" * 70_000, "larger than 65536 bytes"),
    ],
)
def test_an_unusable_file_is_named_with_the_host(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "pg"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=reason) as caught:
        BackendUrl(f"postgresql://ann:file:{file}@h/db").resolve()
    assert str(file) in str(caught.value)
    assert socket.gethostname() in str(caught.value)


def test_a_missing_file_and_a_pipe_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        BackendUrl(f"file:{tmp_path}/none").resolve()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="not a regular file"):
        BackendUrl(f"file:{tmp_path}/pipe").resolve()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (SECRET, "This is not a URL"),
        (f"mysql://ann:{SECRET}@h/db", "not supported"),
        (f"postgresql://ann:{SECRET}@h", "names no database"),
        (f"postgresql://ann:{SECRET}/@h/db", "ambiguous"),
        (f"env:{SECRET}", "This is not a URL"),
        (f"sqlite:///{SECRET}.db", "absolute path"),
    ],
)
def test_resolved_text_is_checked_like_a_literal(monkeypatch: pytest.MonkeyPatch, content: str, reason: str) -> None:
    monkeypatch.setenv("NAS_URL", content)
    with pytest.raises(ConfigurationError, match=reason) as caught:
        BackendUrl("env:NAS_URL").resolve()
    assert "env:NAS_URL" in str(caught.value)
    assert SECRET not in told_by(caught.value)


def test_a_stashed_url_keeps_its_face(private: Path) -> None:
    url = BackendUrl(PLAIN)
    stashed = stash_secret(url, private)
    assert (stashed.scheme, stashed.masked, stashed.fingerprint_text) == (
        url.scheme,
        url.masked,
        url.fingerprint_text,
    )
    assert repr(stashed) == repr(url)
    assert not stashed.has_plain_secret
    assert stashed != url
    assert SECRET.encode() not in pickle.dumps(stashed)
    assert copy.copy(stashed).resolve() == url.resolve()
    assert stash_secret(stashed, private) is stashed


def test_the_stash_is_private(private: Path) -> None:
    old_mask = os.umask(0)
    try:
        stash_secret(BackendUrl(PLAIN), private)
    finally:
        os.umask(old_mask)
    (file,) = private.iterdir()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text", ["sqlite:////data/x.db", "postgresql://ann@h/db", "env:X", "postgresql://a:env:X@h/db"]
)
def test_a_url_without_a_secret_is_not_stashed(private: Path, text: str) -> None:
    url = BackendUrl(text)
    assert stash_secret(url, private) is url
    assert not private.exists()


def test_another_password_leaves_the_one_that_an_actor_uses(private: Path) -> None:
    first = stash_secret(BackendUrl(PLAIN), private)
    second = stash_secret(BackendUrl(PLAIN.replace(SECRET, "new")), private)
    assert fingerprint(first) == fingerprint(second)
    assert first.resolve() == f"postgresql+psycopg2://ann:{SECRET}@db.example/nas"
    assert second.resolve() == "postgresql+psycopg2://ann:new@db.example/nas"


def test_the_same_secret_has_one_file(private: Path) -> None:
    assert stash_secret(BackendUrl(PLAIN), private) == stash_secret(BackendUrl(PLAIN), private)
    (file,) = private.iterdir()
    assert SECRET not in file.name


def test_stashing_from_many_threads_leaves_whole_files(private: Path) -> None:
    threads = [threading.Thread(target=stash_secret, args=(BackendUrl(PLAIN), private)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for file in private.iterdir():
        assert BackendUrl(f"file:{file}").resolve() == BackendUrl(PLAIN).resolve()


def test_the_default_stash_is_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    stashed = stash_secret(BackendUrl(PLAIN))
    assert stashed.reveal().startswith(f"file:{tmp_path}/.morphml_ray/secrets/")
    assert stashed.resolve() == BackendUrl(PLAIN).resolve()


def test_a_link_in_the_stash_is_not_followed(private: Path, tmp_path: Path) -> None:
    path = Path(stash_secret(BackendUrl(PLAIN), private).reveal().removeprefix("file:"))
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    path.unlink()
    path.symlink_to(victim)
    stashed = stash_secret(BackendUrl(PLAIN), private)
    assert victim.read_text() == "untouched"
    assert stashed.reveal() != f"file:{path}"
    assert stashed.resolve() == BackendUrl(PLAIN).resolve()


def test_a_stash_that_others_can_enter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = tmp_path / "wide"
    wide.mkdir()
    wide.chmod(0o755)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    (tmp_path / "file").touch()
    for folder, reason in ((wide, "chmod 700"), (link, "cannot be kept"), (tmp_path / "file", "cannot be kept")):
        with pytest.raises(ConfigurationError, match=reason) as caught:
            stash_secret(BackendUrl(PLAIN), folder)
        assert SECRET not in told_by(caught.value)
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(ConfigurationError, match="belong to this user"):
        stash_secret(BackendUrl(PLAIN), tmp_path / "mine")


def test_a_failed_write_leaves_nothing_behind(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="No space left") as caught:
        stash_secret(BackendUrl(PLAIN), private)
    assert list(private.iterdir()) == []
    assert SECRET not in told_by(caught.value)
