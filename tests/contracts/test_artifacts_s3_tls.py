"""TLS between a store and its server: what trust and what a broken stream come to."""

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from s3_doubles import Answer, Asked, FakeS3

from morphml_ray.artifacts.s3 import S3ArtifactBackend
from morphml_ray.config import BackendUrl
from morphml_ray.errors import BackendUnavailable, ConfigurationError

# Of nobody: for 127.0.0.1, until 2120.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBgzCCASmgAwIBAgIBATAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDAR0ZXN0MCAX
DTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAPMQ0wCwYDVQQDDAR0ZXN0
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEWlnzLrwuxx2K9LCmuDG/A4CrVTBT
JIpHNjwlge+Zuqh4NWN6p0bd9vgTL4JBWs9I2vRysUFSGT0UYjnhAlglK6N0MHIw
DwYDVR0RBAgwBocEfwAAATAPBgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBRAmdVy
Whmq2m8Bjw47pOIvmyAx2zAfBgNVHSMEGDAWgBRAmdVyWhmq2m8Bjw47pOIvmyAx
2zAOBgNVHQ8BAf8EBAMCAoQwCgYIKoZIzj0EAwIDSAAwRQIhAN25n5lTJ1oegMT3
kkU/AsUg9zontQ3xMmVMnflGyyxCAiBAuUzgQYVWWkTzXJDIAUD7PToihQ9yIFFc
HXHzvHJmNA==
-----END CERTIFICATE-----
"""
CERTIFICATE_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3hj4CmAIPS2opfgu
irQn10n73A5wUqhDQvlQ28jDCxyhRANCAARaWfMuvC7HHYr0sKa4Mb8DgKtVMFMk
ikc2PCWB75m6qHg1Y3qnRt32+BMvgkFaz0ja9HKxQVIZPRRiOeECWCUr
-----END PRIVATE KEY-----
"""


class TlsS3(FakeS3):
    """A server that can speak TLS, and break it.

    Attributes:
        breaks: how many answers about the key are to break in the middle.
    """

    breaks = 0

    def speak_tls(self, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def answer(self, handler: BaseHTTPRequestHandler, asked: Asked) -> None:
        if not self.breaks or "/prefix/key" not in asked.path:
            super().answer(handler, asked)
            return
        self.breaks -= 1
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nETag: 1\r\nContent-Length: 100000\r\n\r\nsome")
        os.write(handler.connection.fileno(), b"no record of TLS" * 100)


@pytest.fixture
def fake() -> Iterator[TlsS3]:
    server = TlsS3()
    yield server
    server.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "server.pem"
    path.write_text(CERTIFICATE + CERTIFICATE_KEY)
    return path


def opened(url: str, attempts: int = 1) -> closing[S3ArtifactBackend]:
    store = S3ArtifactBackend(BackendUrl(url), attempts=attempts)
    store.open()
    return closing(store)


def test_a_server_that_ends_in_the_middle_of_a_handshake_is_unavailable() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"s3://bucket?endpoint_url=https://127.0.0.1:{listener.getsockname()[1]}"
        store = S3ArtifactBackend(BackendUrl(f"{url}&aws_access_key_id=k&aws_secret_access_key=s"), attempts=1)
        with pytest.raises(BackendUnavailable, match="SSL"):
            store.open()
        thread.join()


@pytest.mark.parametrize(
    ("has_tls", "is_trusted", "host"),
    [(False, False, "127.0.0.1"), (True, False, "127.0.0.1"), (True, True, "localhost")],
)
def test_a_server_without_tls_or_trust_is_a_configuration_error(
    fake: TlsS3, certificate: Path, monkeypatch: pytest.MonkeyPatch, *, has_tls: bool, is_trusted: bool, host: str
) -> None:
    if has_tls:
        fake.speak_tls(certificate)
    if is_trusted:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    with pytest.raises(ConfigurationError, match="AWS_CA_BUNDLE"):
        opened(fake.url().replace("http://127.0.0.1", f"https://{host}"))


def test_lesson_26_a_damaged_tls_stream_is_read_again(
    fake: TlsS3, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.speak_tls(certificate)
    whole = Answer(200, b"all of it", {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"})
    fake.say = lambda asked: whole if "/prefix/key" in asked.path else None
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    with opened(fake.url().replace("http://", "https://"), attempts=2) as store:
        fake.breaks = 1
        assert store.get("key") == b"all of it"
        assert fake.breaks == 0
        fake.breaks = 2
        with pytest.raises(BackendUnavailable, match="broke off"):
            store.get("key")
