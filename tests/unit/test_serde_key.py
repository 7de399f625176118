"""The signing key: where it comes from, and that it does not get out."""

import copy
import os
import pickle
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from morphml_ray.errors import ConfigurationError
from morphml_ray.serde import SigningKey, load_signing_key

TEXT = "a key of the tests, 32 characters"


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_text_always_gives_the_same_key() -> None:
    key = SigningKey(TEXT)
    assert key.id.hex() == "eff9c86d"
    assert key.sign([b"a", memoryview(b"bc")]).hex()[:16] == "a5eecdb696722ca1"
    assert key == SigningKey(TEXT)
    assert hash(key) == hash(SigningKey(TEXT))
    assert key != SigningKey(TEXT.upper())
    assert key != TEXT


def test_a_signature_fits_one_text_and_one_key() -> None:
    key = SigningKey(TEXT)
    signature = key.sign([b"a", b"bc"])
    assert len(signature) == 32
    assert key.verifies(b"abc", signature)
    assert not key.verifies(b"xyz", signature)
    assert not key.verifies(b"abc", signature[:-1])
    assert not SigningKey(TEXT + "!").verifies(b"abc", signature)


def test_a_key_is_not_shown_and_not_sent() -> None:
    key = SigningKey(TEXT)
    assert (repr(key), f"{key}") == (f"SigningKey(<hidden>, id={key.id.hex()})",) * 2
    for send in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="each loads its own"):
            send(key)


def test_the_variable_is_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MORPHML_SIGNING_KEY", f"  {TEXT}\n")
    assert load_signing_key() == SigningKey(TEXT)
    assert load_signing_key(tmp_path / "key") == SigningKey(TEXT)
    assert not (tmp_path / "key").exists()


def test_the_variable_may_name_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{TEXT}\n")
    monkeypatch.setenv("MORPHML_SIGNING_KEY", f"file:{tmp_path}/secret")
    assert load_signing_key() == SigningKey(TEXT)


@pytest.mark.parametrize("text", ["short", "file:/nowhere/at/all/in/this/file/system", "env:NOT_SET", "file:relative"])
def test_a_variable_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MORPHML_SIGNING_KEY", text)
    with pytest.raises(ConfigurationError, match="MORPHML_SIGNING_KEY: "):
        load_signing_key()


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_variable_states_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    monkeypatch.setenv("MORPHML_SIGNING_KEY", text)
    assert load_signing_key(tmp_path / "key") == SigningKey((tmp_path / "key").read_text().strip())


def test_the_file_is_made_once_and_private() -> None:
    key = load_signing_key()
    file = Path.home() / ".morphml_ray" / "signing.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert names(file.parent) == ["signing.key"]
    assert load_signing_key() == key
    assert len(file.read_text().strip()) == 64


def test_the_text_of_the_file_may_be_set_as_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    key = load_signing_key()
    monkeypatch.setenv("MORPHML_SIGNING_KEY", (Path.home() / ".morphml_ray" / "signing.key").read_text())
    assert load_signing_key(Path("/nowhere")) == key


def test_all_who_start_together_get_one_key(tmp_path: Path) -> None:
    start = Barrier(8)

    def load(_: int) -> SigningKey:
        start.wait(timeout=10)
        return load_signing_key(tmp_path / "new" / "key")

    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(load, range(8)))
    assert len(set(keys)) == 1
    assert names(tmp_path / "new") == ["key"]


def test_a_loser_of_the_race_reads_the_winners_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    link = os.link

    def late(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        file.touch(0o600)
        file.write_text(TEXT)
        link(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "link", late)
    assert load_signing_key(file) == SigningKey(TEXT)
    assert names(tmp_path) == ["key"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.touch(0o600)
    file.write_text(TEXT)
    return file


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_file_open_to_others_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"open to other users.*chmod 600"):
        load_signing_key(file)


def test_a_file_of_another_user_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        load_signing_key(file)


def test_a_link_is_followed_to_what_is_checked(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    assert load_signing_key(tmp_path / "link") == SigningKey(TEXT)
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="open to other users"):
        load_signing_key(tmp_path / "link")


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 10])
def test_a_short_file_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot be used: A signing key needs at least 32"):
        load_signing_key(file)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigurationError, match="no regular file"):
        load_signing_key(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="no regular file"):
        load_signing_key(tmp_path)


def test_a_place_that_cannot_hold_the_file_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="Set MORPHML_SIGNING_KEY instead"):
        load_signing_key(tmp_path / "file" / "key")
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(PermissionError(1, "no hard links here")))
    with pytest.raises(ConfigurationError, match="no hard links here"):
        load_signing_key(tmp_path / "new")
    assert names(tmp_path) == ["file"]
    with pytest.raises(ConfigurationError, match="Set MORPHML_SIGNING_KEY instead"):
        load_signing_key(Path("~nobody-of-this-name/key"))
