"""What a cache does when its name leads to another server, and when what it leads to is as good as none."""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import redis
from waiting import wait_until

from morphml_ray.cache.redis import RedisCache
from morphml_ray.cache.redis.circuit import Circuit
from morphml_ray.config import BackendUrl
from morphml_ray.devstack import ValkeyServer
from morphml_ray.testing.cache import increment

TIMEOUT_S = 1.0
BACK_S = 30.0
TRICKLE_BYTES_PER_S = 20


class Name:
    """A host name that can be made to lead elsewhere: connections that are open stay where they are.

    Attributes:
        port: what new connections lead to.
        trickles: answers come a byte at a time.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.trickles = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._listen)]
        self._threads[0].start()

    def url(self, server: ValkeyServer) -> BackendUrl:
        return BackendUrl(f"redis://:{server._password}@127.0.0.1:{self._listener.getsockname()[1]}/0")

    def close(self) -> None:
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self.port))
                self._sockets += [near, far]
                for source, target, is_answer in ((near, far, False), (far, near, True)):
                    thread = threading.Thread(target=self._pass_on, args=(source, target, is_answer))
                    self._threads.append(thread)
                    thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                step = 1 if is_answer and self.trickles else len(data)
                for start in range(0, len(data), step):
                    target.sendall(data[start : start + step])
                    if step < len(data):
                        time.sleep(1 / TRICKLE_BYTES_PER_S)
            target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def name(valkey: ValkeyServer) -> Iterator[Name]:
    with contextlib.closing(Name(urlsplit(valkey.url).port or 0)) as made:
        yield made


@pytest.fixture
def cache(name: Name, valkey: ValkeyServer) -> Iterator[RedisCache]:
    url = name.url(valkey)
    made = RedisCache(url, "morphml", timeout_s=TIMEOUT_S, circuit=Circuit(url.masked, pause_s=0.2, max_pause_s=0.4))
    with contextlib.closing(made):
        made.open()
        yield made


@pytest.fixture
def old(valkey: ValkeyServer) -> Iterator[redis.Redis]:
    """The server that the name leads to at first."""
    with redis.Redis.from_url(valkey.url, protocol=2) as client:
        yield client


@pytest.fixture
def successor(valkey: ValkeyServer) -> Iterator[redis.Redis]:
    """A replica of it, with the same password."""
    folder = valkey._directory / "successor"
    folder.mkdir(mode=0o755)
    server = ValkeyServer(folder)
    server.start()
    with redis.Redis.from_url(server.url, protocol=2) as client:
        client.config_set("masterauth", valkey._password)
        client.config_set("requirepass", valkey._password)
    url = server.url.replace(server._password, valkey._password)
    with redis.Redis.from_url(url, protocol=2) as client:
        client.replicaof(*place_of(valkey.url))
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", BACK_S)
        yield client
    server.kill()


def place_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), parts.port or 0


def fail_over(old: redis.Redis, new: redis.Redis, valkey: ValkeyServer) -> int:
    """Make the replica the primary, and the primary its replica; gives the port of the new one."""
    port = int(new.connection_pool.connection_kwargs["port"])
    wait_until(lambda: new.get("morphml:a") == old.get("morphml:a"), BACK_S)
    new.replicaof("NO", "ONE")
    old.config_set("masterauth", valkey._password)
    old.replicaof("127.0.0.1", port)
    return port


def test_case_17_a_fail_over_is_an_outage_and_the_name_is_looked_up_anew(
    name: Name,
    cache: RedisCache,
    old: redis.Redis,
    successor: redis.Redis,
    valkey: ValkeyServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    assert cache.set([("a", b"old"), ("b", b"kept")], None) == 2
    port = fail_over(old, successor, valkey)
    # The connections that are open lead to the old primary, which takes no writes.
    assert cache.set([("a", b"new")], None) == 0
    told = cache.statistics()
    assert (told["is_available"], told["outages"], told["dropped_writes"]) == (False, 1, 1)
    assert "READONLY" in (told["last_error"] or "")
    # So does the name, for a while; nothing that is only read makes it look as if the server were back.
    for _ in range(5):
        time.sleep(0.2)
        assert (cache.get(["b"]), increment(cache, "n", 1)) == ([None], None)
        assert not cache.statistics()["is_available"]
    name.port = port
    wait_until(lambda: cache.set([("c", b"1")], None) == 1, BACK_S)
    assert successor.get("morphml:c") == b"1"
    assert cache.get(["a", "b"]) == [None, b"kept"]
    assert increment(cache, "n", 1) == 1
    assert (cache.statistics()["is_available"], cache.statistics()["outages"]) == (True, 1)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_case_17_an_increment_alone_notices_a_fail_over_once(
    name: Name, cache: RedisCache, old: redis.Redis, successor: redis.Redis, valkey: ValkeyServer
) -> None:
    assert increment(cache, "a", 5) == 5
    port = fail_over(old, successor, valkey)
    assert increment(cache, "a", 1) is None
    for _ in range(5):
        time.sleep(0.2)
        assert cache.get(["a"]) == [None]
    assert cache.statistics()["outages"] == 1
    name.port = port
    wait_until(lambda: increment(cache, "a", 1) is not None, BACK_S)
    assert cache.get(["a"]) == [b"6"]


def test_case_17_connections_in_use_and_idle_ones_all_lead_to_the_new_server(
    name: Name, cache: RedisCache, old: redis.Redis, successor: redis.Redis, valkey: ValkeyServer
) -> None:
    cache.set([("a", b"1")], None)
    threads = [threading.Thread(target=cache.get, args=(["a"] * 1000,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    name.port = fail_over(old, successor, valkey)
    assert cache.set([("b", b"1")], None) == 0
    wait_until(lambda: cache.set([("b", b"1")], None) == 1, BACK_S)
    before = old.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]
    for _ in range(20):
        assert cache.get(["b"]) == [b"1"]
    assert old.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"] == before
    assert cache.statistics()["outages"] == 1


def test_case_17_a_replica_that_lost_its_primary_is_an_outage(
    cache: RedisCache, old: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    cache.set([("a", b"1")], None)
    old.config_set("replica-serve-stale-data", "no")
    old.replicaof("127.0.0.1", 1)
    assert cache.get(["a"]) == [None]
    told = cache.statistics()
    assert (told["is_available"], told["outages"]) == (False, 1)
    assert "MASTERDOWN" in (told["last_error"] or "")
    old.replicaof("NO", "ONE")
    wait_until(lambda: cache.get(["a"]) == [b"1"], BACK_S)
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["WARNING"]


def test_case_17_one_that_is_a_lost_replica_at_the_beginning_is_no_mistake(
    name: Name, old: redis.Redis, valkey: ValkeyServer
) -> None:
    old.config_set("replica-serve-stale-data", "no")
    old.replicaof("127.0.0.1", 1)
    with contextlib.closing(RedisCache(name.url(valkey), "morphml", timeout_s=TIMEOUT_S)) as cache:
        cache.open()
        assert not cache.statistics()["is_available"]
        old.replicaof("NO", "ONE")
        wait_until(lambda: cache.set([("a", b"1")], None) == 1, BACK_S)


def test_case_60_a_server_that_gives_a_byte_now_and_then_is_as_good_as_silent(name: Name, cache: RedisCache) -> None:
    cache.set([("a", bytes(2000))], None)
    name.trickles = True
    # Each of them would take 100 s.
    assert [cache.get(["a"]) for _ in range(3)] == [[None]] * 3
    told = cache.statistics()
    assert (told["is_available"], told["outages"]) == (False, 1)
    name.trickles = False
    wait_until(lambda: cache.get(["a"]) == [bytes(2000)], BACK_S)
