import importlib.metadata
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import psutil
import pytest
from servers import family_of, opened_store, seaweed_sockets, survivors
from waiting import wait_until

from morphml_ray.devstack import DevStack, SeaweedServer, seaweedfs
from morphml_ray.devstack.folder import LOOPBACK, ServerFolder
from morphml_ray.errors import BackendUnavailable, ConfigurationError, ConflictError


def secret_of(server: SeaweedServer) -> str:
    secret = server.exports()["AWS_SECRET_ACCESS_KEY"]
    assert len(secret) >= 32
    return secret


def test_the_stack_leads_to_it_in_time(server_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started_at = time.monotonic()
    with DevStack(server_directory) as stack:
        assert time.monotonic() - started_at < 15  # 5 s on a machine that does nothing else
        exports = stack.exports()
        assert exports["MORPHML_ARTIFACTS_URL"] == stack.artifacts_url == stack.seaweed.url
        assert secret_of(stack.seaweed) not in stack.artifacts_url
        for name, value in exports.items():
            monkeypatch.setenv(name, value)
        with opened_store("env:MORPHML_ARTIFACTS_URL") as store:
            store.put("key", b"1")
        # Any client of AWS finds it too.
        client = boto3.client("s3", region_name="us-east-1")
        assert client.get_object(Bucket="morphml", Key="key")["Body"].read() == b"1"
        client.close()


def test_it_listens_on_the_loopback_device_only_and_reports_to_nobody(s3_server: SeaweedServer) -> None:
    process = psutil.Process(s3_server.pid)
    listening = [one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert {one.laddr.ip for one in listening} == {"127.0.0.1"}
    assert {one.laddr.port for one in listening} <= set(s3_server._ports)
    assert len(set(s3_server._ports)) == 10
    assert "-master.telemetry=false" in process.cmdline()


def test_its_secret_is_in_two_private_files_only(server_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    server = SeaweedServer(server_directory)
    server.start()
    with opened_store(server.bucket_url("morphml", with_credentials=True)) as store:
        store.put("key", b"1")
    family = family_of(server)
    told = "".join(seen.told for seen in family)
    server.stop()
    assert not survivors(family)
    assert "very-secret" not in told
    assert secret_of(server) not in told
    files = [path for path in server_directory.rglob("*") if path.is_file()]
    holders = [path for path in files if secret_of(server).encode() in path.read_bytes()]
    assert sorted(path.name for path in holders) == ["credentials.json", "password"]
    assert {path.stat().st_mode & 0o777 for path in holders} == {0o600}
    assert seaweed_sockets(server._ports) == []


@pytest.mark.parametrize("outage", [SeaweedServer.kill, SeaweedServer.stop])
def test_after_an_outage_the_same_url_gives_the_same_objects(
    server_directory: Path, outage: Callable[[SeaweedServer], None]
) -> None:
    server = SeaweedServer(server_directory)
    server.start()
    url = server.bucket_url("morphml", with_credentials=True)
    data = os.urandom(300_000)
    try:
        with opened_store(url) as store:
            store.put("small", b"1")
            store.put("large", data)
            family = family_of(server)
            outage(server)
            assert not survivors(family)
            assert seaweed_sockets(server._ports) == []
            outage(server)
            with pytest.raises(BackendUnavailable):
                store.get("small")
            address = (LOOPBACK, urlsplit(server.endpoint_url).port)
            with (
                socket.create_server(address),
                pytest.raises(ConflictError, match=f"taken port {address[1]}, which the URL of SeaweedFS names"),
            ):
                server.start()
            server.start()
            server.start()
            assert server.bucket_url("morphml", with_credentials=True) == url
            assert (store.get("small"), store.get("large")) == (b"1", data)
    finally:
        server.stop()


def test_killed_by_somebody_else_it_leaves_no_socket(server_directory: Path) -> None:
    server = SeaweedServer(server_directory)
    server.start()
    url = server.url
    try:
        assert seaweed_sockets(server._ports)
        psutil.Process(server.pid).kill()
        process = server._process
        assert process is not None
        wait_until(lambda: not process.is_running(), 20)
        assert seaweed_sockets(server._ports) == []
        server.start()
        assert server.url == url
    finally:
        server.kill()


def test_a_taken_port_is_replaced_and_the_others_stay(server_directory: Path) -> None:
    folder = ServerFolder(server_directory, "any")
    ports = folder.ports(3)
    assert len(set(ports)) == 3
    assert folder.ports(3) == ports
    (folder.path / "port").write_text(f"{ports[0]} 1 {ports[2]}\n")
    if os.geteuid():
        again = folder.ports(3)
        assert (again[0], again[2]) == (ports[0], ports[2])
        assert again[1] > 1024
    assert folder.ports(1) == ports[:1]
    assert folder.port() == ports[0]


def test_a_directory_has_one_server(s3_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morphml_ray.devstack.folder._LOCK_WAIT_S", 0.1)
    with pytest.raises(ConflictError, match="another process runs the server in"):
        SeaweedServer(s3_server._directory).start()


def test_what_goes_wrong_is_said(server_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = SeaweedServer(server_directory)
    for call in (lambda: server.url, lambda: server.pid, server.fileno):
        with pytest.raises(BackendUnavailable, match="was not started"):
            call()
    server.stop()
    monkeypatch.setitem(seaweedfs._OFF, "nonsense", "1")
    with pytest.raises(BackendUnavailable, match=r"(?s)did not start; the end of its log:.*weed mini"):
        server.start()
    monkeypatch.undo()

    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(ConfigurationError, match=r"pip install 'morphml-ray\[local\]'"):
        server.start()
