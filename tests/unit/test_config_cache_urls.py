"""URLs of caches; what all URLs have in common is tested in test_config_urls.py."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from redis.connection import parse_url as untyped_parse_url

from morphml_ray.config import BackendUrl, StorageConfig, fingerprint, stash_secret
from morphml_ray.errors import ConfigurationError

SECRET = "S3NTINEL-word"  # noqa: S105 - the word that nothing may show
parse_url: Callable[[str], dict[str, object]] = untyped_parse_url


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("redis://cache", {"host": "cache", "port": 6379, "db": 0}),
        ("redis://", {"host": "localhost", "port": 6379, "db": 0}),
        ("redis://cache:1/", {"host": "cache", "port": 1, "db": 0}),
        ("valkey://cache/15", {"host": "cache", "port": 6379, "db": 15}),
        ("Redis://[::1]:6380/2", {"host": "::1", "port": 6380, "db": 2}),
        ("redis://:pw@cache", {"host": "cache", "port": 6379, "db": 0, "password": "pw"}),
        ("redis://ann@cache", {"host": "cache", "port": 6379, "db": 0, "username": "ann"}),
        (
            "rediss://ann:p%40w@cache?ssl_ca_certs=/etc/ca.pem&ssl_check_hostname=no",
            {
                "host": "cache",
                "port": 6379,
                "db": 0,
                "username": "ann",
                "password": "p@w",
                "ssl_ca_certs": "/etc/ca.pem",
                "ssl_check_hostname": False,
            },
        ),
        ("valkeys://cache", {"host": "cache", "port": 6379, "db": 0}),
    ],
)
def test_the_driver_reads_what_was_meant(text: str, read: dict[str, object]) -> None:
    url = BackendUrl(text)
    options = parse_url(url.resolve("cache"))
    has_tls = options.pop("connection_class", None) is not None
    assert (options, has_tls) == (read, text.partition("://")[0].endswith("ss") or text.startswith("valkeys"))
    assert (url.scheme, url.path) == ("redis", None)
    assert BackendUrl(url.reveal()) == url == pickle.loads(pickle.dumps(url))  # noqa: S301 - our own bytes


@given(password=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
def test_percent_encoded_passwords_survive(password: str) -> None:
    assume(password != "***")  # noqa: S105 - what a masked copy holds
    encoded = "".join(f"%{byte:02X}" for byte in password.encode())
    url = BackendUrl(f"redis://ann:{encoded}@cache/1")
    assert parse_url(url.resolve())["password"] == password
    assert url.masked == "redis://ann:***@cache:6379/1"


def test_lesson_16_secrets_of_a_cache_are_masked() -> None:
    text = f"rediss://:{SECRET}@cache/1?ssl_password={SECRET}&ssl_keyfile=/k.pem"
    url = BackendUrl(text)
    assert SECRET not in f"{url} {url!r} {url.fingerprint_text} {StorageConfig(cache=text)!r}"
    assert url.masked == "rediss://:***@cache:6379/1?ssl_password=***&ssl_keyfile=/k.pem"
    assert url.has_plain_secret


def test_references_stand_in_place_of_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_PASSWORD", "p@w")
    url = BackendUrl("redis://:env:CACHE_PASSWORD@cache")
    assert not url.has_plain_secret
    assert stash_secret(url) is url
    assert url.resolve("cache") == "redis://:p%40w@cache:6379/0"
    assert BackendUrl("redis://:file:/run/secrets/pw@cache").reveal() == "redis://:file:/run/secrets/pw@cache:6379/0"


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (f"redis+cluster://:{SECRET}@a", "Clusters of Redis are not supported: name one server"),
        (f"rediss+cluster://:{SECRET}@a", "Clusters of Redis are not supported"),
        (f"redis+sentinel://:{SECRET}@a/0", "Sentinels are not supported"),
        (f"valkey+sentinel://:{SECRET}@a/0", "Sentinels are not supported"),
        (f"unix://:{SECRET}@/run/redis.sock", "UNIX socket"),
        (f"redis+socket:///run/{SECRET}", "UNIX socket"),
        (f"redis+hiredis://:{SECRET}@a", "write redis://"),
        (f"redis://:{SECRET}@a,b", "one server is named"),
        (f"redis://:{SECRET}@a/name", "number of a database"),
        (f"redis://:{SECRET}@a/0/1", "number of a database"),
        (f"redis://:{SECRET}@a:99999", "between 1 and 65535"),
        (f"redis://a?password={SECRET}", "did you mean ssl_password?"),
        (f"redis://:{SECRET}@a?db=1", "the number of the database after it"),
        (f"rediss://:{SECRET}@a?ssl_ca_cert=/x", "did you mean ssl_ca_certs"),
        (f"redis://:{SECRET}@a?ssl_ca_certs=/x", "write rediss://"),
        (f"rediss://:{SECRET}@a?ssl_cert_reqs=maybe", "required, optional, none"),
        (f"rediss://:{SECRET}@a?ssl_check_hostname=", "yes, no, true, false"),
        (f"redis://env:{SECRET}@a", "in place of the password only: redis://"),
        (f"redis://:p/w{SECRET}@a", "%2F"),
        ("redis://:***@a", "masked copy"),
        (f"redi://:{SECRET}@a", "did you mean redis://?"),
        (f"memory://{SECRET}", "memory://?max_bytes=268435456"),
        ("memory://?max_bytes=0", "in bytes"),
        ("memory://?max_bytes=1e9", "in bytes"),
        ("memory://?max_mb=1", "in bytes"),
    ],
)
def test_a_wrong_url_says_what_to_change(text: str, advice: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        BackendUrl(text)
    assert advice in str(caught.value)
    assert SECRET not in repr(caught.value)


def test_a_missing_driver_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match="pip install redis"):
        BackendUrl("rediss://cache")
    assert BackendUrl("memory://").scheme == "memory"


@pytest.mark.parametrize(
    "same",
    ["valkey://ann:other@CACHE", "rediss://ann@cache:6379/0?ssl_cert_reqs=none", "redis://%61nn:env:PW@cache/00"],
)
def test_one_cache_has_one_fingerprint(same: str) -> None:
    url = BackendUrl("redis://ann:pw@cache/0")
    assert url.fingerprint_text == "redis://ann@cache:6379/0"
    assert fingerprint(BackendUrl(same)) == fingerprint(url)


@pytest.mark.parametrize(
    "other", ["redis://bob@cache", "redis://cache", "redis://ann@cache2", "redis://ann@cache:1", "redis://ann@cache/1"]
)
def test_other_caches_have_other_fingerprints(other: str) -> None:
    assert fingerprint(BackendUrl(other)) != fingerprint(BackendUrl("redis://ann:pw@cache/0"))


def test_memory_may_state_its_size() -> None:
    url = BackendUrl("memory://?max_bytes=1000")
    assert (url.masked, url.scheme, url.path, url.has_plain_secret) == (
        "memory://?max_bytes=1000",
        "memory",
        None,
        False,
    )
    assert BackendUrl(url.reveal()) == url != BackendUrl("memory:///")
    # It is the same cache, larger or smaller.
    assert fingerprint(url) == fingerprint(BackendUrl("memory://"))


def test_the_cache_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert StorageConfig().cache_url == BackendUrl("memory://")
    assert not StorageConfig().is_cache_stated
    monkeypatch.setenv("MORPHML_CACHE_URL", "redis://cache")
    monkeypatch.setenv("MORPHML_CACHE_TIMEOUT_S", "2.5")
    config = StorageConfig()
    assert (config.cache_url, config.cache_timeout_s) == (BackendUrl("redis://cache"), 2.5)
    assert config.is_cache_stated
    assert config.model_fields_set == {"cache", "cache_timeout_s"}
    assert StorageConfig(cache="memory://").cache_url == BackendUrl("memory://")


@pytest.mark.parametrize("reference", ["env:CACHE", "file:/run/secrets/cache"])
def test_of_a_reference_the_kind_is_seen_later(reference: str) -> None:
    for name in ("cache", "database"):
        assert getattr(StorageConfig(**{name: reference}), name) == BackendUrl(reference)


@pytest.mark.parametrize(
    ("name", "text", "advice"),
    [
        ("database", f"redis://:{SECRET}@cache", "sqlite:///path/to/file.db, postgresql://"),
        ("database", "memory://", "sqlite:///path/to/file.db, postgresql://"),
        ("cache", f"postgresql://ann:{SECRET}@h/db", "rediss://user:password@host:6379/0, memory://"),
        ("cache", "sqlite:///x.db", "rediss://user:password@host:6379/0, memory://"),
    ],
)
def test_each_setting_takes_urls_of_its_kind_only(name: str, text: str, advice: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^argument {name}: .*{name}.*{advice}") as caught:
        StorageConfig(**{name: text})
    assert SECRET not in repr(caught.value)


def test_a_reference_to_another_kind_is_refused_when_it_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", f"redis://:{SECRET}@cache")
    assert BackendUrl("env:PLACE").resolve("cache") == BackendUrl("env:PLACE").resolve()
    with pytest.raises(ConfigurationError, match=r"content of env:PLACE: .*database") as caught:
        BackendUrl("env:PLACE").resolve("database")
    assert SECRET not in repr(caught.value)
