import importlib.util
import os
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import redis
from servers import family_of, survivors

from morphml_ray.devstack import DevStack, ValkeyServer
from morphml_ray.devstack.folder import ServerFolder
from morphml_ray.errors import BackendUnavailable, ConfigurationError, ConflictError


def connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, protocol=2)


def password_of(url: str) -> str:
    password = urlsplit(url).password
    assert password is not None
    assert len(password) >= 32
    return password


def test_the_stack_leads_to_it(devstack: DevStack) -> None:
    assert devstack.exports()["MORPHML_CACHE_URL"] == devstack.cache_url == devstack.valkey.url
    with connect(devstack.cache_url) as client:
        assert client.ping()


def test_it_listens_on_the_loopback_device_only_and_wants_the_password(valkey_server: ValkeyServer) -> None:
    url = valkey_server.url
    listening = [one for one in psutil.Process(valkey_server.pid).net_connections() if one.status == psutil.CONN_LISTEN]
    assert {(one.laddr.ip, one.laddr.port) for one in listening} == {("127.0.0.1", urlsplit(url).port)}
    with connect(url) as client:
        assert client.config_get("unixsocket") == {"unixsocket": ""}
    for wrong in (url.replace(password_of(url), "guess"), url.replace(f":{password_of(url)}@", "")):
        with connect(wrong) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


def test_it_keeps_nothing_on_the_disk_but_its_password(server_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    server = ValkeyServer(server_directory)
    server.start()
    with connect(server.url) as client:
        assert client.config_get("save", "appendonly") == {"save": "", "appendonly": "no"}
        client.set("a", "1")
    family = family_of(server)
    told = "".join(seen.told for seen in family)
    server.stop()
    assert not survivors(family)
    assert "very-secret" not in told
    assert password_of(server.url) not in told
    files = [path for path in server_directory.rglob("*") if path.is_file()]
    holders = [path for path in files if password_of(server.url).encode() in path.read_bytes()]
    assert holders == [server_directory / "valkey/password"]
    assert holders[0].stat().st_mode & 0o777 == 0o600
    assert list((server_directory / "valkey/home").iterdir()) == []


@pytest.mark.parametrize("outage", [ValkeyServer.kill, ValkeyServer.stop])
def test_after_an_outage_the_same_url_gives_an_empty_cache(devstack: DevStack, outage: object) -> None:
    url, server = devstack.cache_url, devstack.valkey
    with connect(url) as client:
        client.set("a", "1")
    family = family_of(server)
    assert callable(outage)
    outage(server)
    assert not survivors(family)
    outage(server)
    server.start()
    server.start()
    assert devstack.cache_url == url
    with connect(url) as client:
        assert client.dbsize() == 0


def test_a_directory_has_one_server(valkey_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morphml_ray.devstack.folder._LOCK_WAIT_S", 0.1)
    with pytest.raises(ConflictError, match="another process runs the server in"):
        ValkeyServer(valkey_server._directory).start()


def test_a_missing_wheel_is_named(server_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"Valkey .* pip install 'morphml-ray\[local\]'"):
        ValkeyServer(server_directory).start()


def test_a_server_that_does_not_come_up_shows_its_log(server_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morphml_ray.devstack.valkey._SETTINGS", "port {port}\nnonsense yes\n")
    with pytest.raises(BackendUnavailable, match=r"(?s)Valkey did not start; the end of its log:.*nonsense"):
        ValkeyServer(server_directory).start()
    assert not [seen for seen in family_of(os.getpid()) if str(server_directory) in seen.told]


def test_a_directory_of_any_name_will_do(server_directory: Path) -> None:
    server = ValkeyServer(server_directory / 'a "b" \\ %s é')
    server.start()
    with connect(server.url) as client:
        assert client.ping()
    server.stop()


def test_settings_that_a_killed_start_left_are_replaced(server_directory: Path) -> None:
    server = ValkeyServer(server_directory)
    left = ServerFolder(server_directory, "valkey").path / "home" / "valkey.conf"
    left.parent.mkdir()
    left.write_text("nonsense yes\n")
    server.start()
    server.stop()
    assert not left.exists()


def test_the_address_of_a_server_that_was_never_started_is_an_error(server_directory: Path) -> None:
    server = ValkeyServer(server_directory)
    for ask in (lambda: server.url, lambda: server.pid, server.fileno):
        with pytest.raises(BackendUnavailable, match="was not started"):
            ask()
    server.stop()
    server.kill()
