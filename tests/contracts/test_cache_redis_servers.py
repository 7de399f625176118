"""What a Redis URL may lead to: other servers, TLS, names and files that are not there, references."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from morphml_ray.cache.actor import create_cache
from morphml_ray.cache.redis import RedisCache
from morphml_ray.cache.redis.pool import RedisPool
from morphml_ray.config import BackendUrl
from morphml_ray.errors import BackendUnavailable, ConfigurationError


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that speaks another protocol."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        yield server


def serve(listener: socket.socket, answer: bytes) -> Callable[[], bytes]:
    """Answer one client; the function gives what the client said."""
    heard: list[bytes] = []

    def work() -> None:
        connection, _ = listener.accept()
        with closing(connection):
            heard.append(connection.recv(1000))
            connection.sendall(answer)

    thread = threading.Thread(target=work)
    thread.start()

    def join() -> bytes:
        thread.join()
        return heard[0]

    return join


def test_a_server_that_is_none_of_redis_is_a_mistake(listener: socket.socket) -> None:
    heard = serve(listener, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ConfigurationError, match="does not speak the protocol"):
        RedisCache(BackendUrl(f"redis://127.0.0.1:{listener.getsockname()[1]}"), "morphml", timeout_s=20).open()
    assert heard().startswith(b"*2\r\n$4\r\nINFO\r\n")


# What a server says that knows nothing newer than TLS 1.0.
OLD_TLS = b"\x16\x03\x01\x00\x2a\x02\x00\x00\x26\x03\x01" + bytes(32) + b"\x00\x00\x2f\x00"


@pytest.mark.parametrize("answer", [b"-ERR what do you mean\r\n", OLD_TLS], ids=["none", "old"])
def test_rediss_speaks_tls(listener: socket.socket, answer: bytes) -> None:
    url = BackendUrl(f"rediss://:S3NTINEL@127.0.0.1:{listener.getsockname()[1]}/0")
    heard = serve(listener, answer)
    with pytest.raises(ConfigurationError, match="has no TLS"):
        RedisCache(url, "morphml", timeout_s=20).open()
    said = heard()
    assert said[:2] == b"\x16\x03"
    assert b"S3NTINEL" not in said


def test_a_name_that_no_host_can_have_is_a_mistake() -> None:
    with pytest.raises(ConfigurationError, match="host that cannot be one"):
        RedisCache(BackendUrl(f"redis://{'a' * 64}.example"), "morphml").open()


def test_a_connection_in_use_is_closed_after_its_use(listener: socket.socket) -> None:
    pool = RedisPool(f"redis://127.0.0.1:{listener.getsockname()[1]}", "redis://slow", pool_size=1, timeout_s=20)
    with ThreadPoolExecutor(1) as threads:
        replies = threads.submit(pool.exchange, [("PING",)])
        connection, _ = listener.accept()
        with closing(connection):
            assert connection.recv(1000) == b"*1\r\n$4\r\nPING\r\n"
            pool.close()
            connection.sendall(b"+PONG\r\n")
            assert replies.result() == [b"PONG"]
            assert connection.recv(1000) == b""
    with pytest.raises(BackendUnavailable, match="is closed"):
        pool.exchange([("PING",)])


def test_a_file_that_is_not_here_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ssl_ca_certs is not on this host"):
        RedisCache(BackendUrl(f"rediss://localhost?ssl_ca_certs={tmp_path}/ca.pem"), "morphml").open()


def test_a_reference_is_followed_when_it_opens(cache_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE", cache_url)
    cache = create_cache(BackendUrl("env:CACHE"), "morphml", timeout_s=20)
    cache.open()
    assert cache.statistics()["backend"] == "redis"
    cache.close()
    monkeypatch.setenv("CACHE", "sqlite:////x.db")
    with pytest.raises(ConfigurationError, match=r"content of env:CACHE: .*cache"):
        create_cache(BackendUrl("env:CACHE"), "morphml")
