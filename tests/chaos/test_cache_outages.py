"""What a cache does while its server is killed, stopped or hung, and afterwards."""

import logging
import socket
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from waiting import wait_until

from morphml_ray.cache.redis import RedisCache
from morphml_ray.cache.redis.circuit import Circuit
from morphml_ray.cache.redis.pool import RedisPool
from morphml_ray.config import BackendUrl
from morphml_ray.devstack import ValkeyServer
from morphml_ray.errors import NotFoundError
from morphml_ray.testing.cache import increment

TIMEOUT_S = 0.5
PAUSE_S = 0.2
# What a busy machine may add to a time-out.
SLACK_S = 3.0
BACK_S = 20.0


def make_cache(valkey: ValkeyServer) -> RedisCache:
    url = BackendUrl(valkey.url)
    circuit = Circuit(url.masked, pause_s=PAUSE_S, max_pause_s=2 * PAUSE_S)
    return RedisCache(url, "morphml", timeout_s=TIMEOUT_S, circuit=circuit)


@pytest.fixture
def cache(valkey: ValkeyServer) -> Iterator[RedisCache]:
    made = make_cache(valkey)
    made.open()
    yield made
    made.close()


def check_it_is_away(cache: RedisCache) -> None:
    """Every method answers as an empty cache does."""
    dropped = cache.statistics()["dropped_writes"]
    assert cache.get(["a", "b"]) == [None, None]
    assert cache.exists(["a"]) == [False]
    with pytest.raises(NotFoundError, match="unavailable"):
        cache.ttl_s("a")
    assert cache.set([("a", b"new"), ("c", b"new")], 60) == 0
    assert (cache.delete(["b"]), increment(cache, "n", 1)) == (0, None)
    assert (cache.delete_prefix("x"), cache.delete_matching("y*")) == (0, 0)
    told = cache.statistics()
    assert told["dropped_writes"] == dropped + 6
    assert (told["num_keys"], told["size_bytes"]) == (None, None)


def wait_for_it(cache: RedisCache) -> None:
    """Use the cache until it is back, as workers would; nothing else brings it back."""
    wait_until(lambda: cache.set([("back", b"1")], None) == 1, BACK_S)


def test_lesson_22_a_killed_server_is_a_cache_without_hits_until_it_is_back(
    valkey: ValkeyServer, cache: RedisCache, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cache.set([("a", b"1")], None)
    assert cache.get(["a"]) == [b"1"]
    valkey.kill()
    for _ in range(3):
        check_it_is_away(cache)
    told = cache.statistics()
    assert (told["is_available"], told["outages"]) == (False, 1)
    assert 3 <= told["errors"] < 20
    assert "does not answer" in (told["last_error"] or "")
    valkey.start()
    wait_for_it(cache)
    assert cache.get(["back", "a"]) == [b"1", None]
    assert (cache.statistics()["is_available"], cache.statistics()["outages"]) == (True, 1)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert valkey._password not in caplog.text


def test_lesson_22_a_hung_server_hangs_nobody(valkey: ValkeyServer, cache: RedisCache) -> None:
    cache.set([("a", b"old"), ("b", b"old"), ("x1", b"old"), ("z", b"kept")], None)
    process = psutil.Process(valkey.pid)
    process.suspend()
    try:
        begun = time.monotonic()
        assert cache.get(["a"]) == [None]
        assert time.monotonic() - begun < TIMEOUT_S + SLACK_S
        while cache.statistics()["is_available"]:
            cache.get(["a"])
        assert time.monotonic() - begun < 3 * TIMEOUT_S + SLACK_S
        begun = time.monotonic()
        for _ in range(10_000):
            assert cache.get(["a"]) == [None]
        # One or two of them were probes, which wait.
        assert time.monotonic() - begun < 2 * TIMEOUT_S + SLACK_S
        check_it_is_away(cache)
    finally:
        process.resume()
    wait_for_it(cache)
    # What was to be replaced or deleted in the meantime does not come back; the rest does.
    assert cache.get(["a", "b", "c", "x1", "z"]) == [None, None, None, None, b"kept"]


def test_a_server_that_is_away_at_the_beginning_comes_later(valkey: ValkeyServer) -> None:
    valkey.stop()
    cache = make_cache(valkey)
    cache.open()
    assert not cache.statistics()["is_available"]
    check_it_is_away(cache)
    valkey.start()
    wait_for_it(cache)
    assert cache.statistics()["outages"] == 1
    cache.close()


def test_what_was_dropped_is_remembered_through_failures(valkey: ValkeyServer, cache: RedisCache) -> None:
    cache.set([("a", b"old"), ("b", b"old"), ("c", b"kept")], None)
    process = psutil.Process(valkey.pid)
    process.suspend()
    try:
        assert cache.set([("a", b"new")], None) == 0
        assert cache.delete_prefix("b") == 0
        assert cache.get(["c"]) == [None]
        assert not cache.statistics()["is_available"]
        time.sleep(PAUSE_S)
        assert cache.get(["c"]) == [None]
    finally:
        process.resume()
    wait_for_it(cache)
    assert cache.get(["a", "b", "c"]) == [None, None, b"kept"]


def test_a_call_that_is_interrupted_leaves_no_probe_behind(
    valkey: ValkeyServer, cache: RedisCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    valkey.kill()
    while cache.statistics()["is_available"]:
        cache.get(["a"])
    valkey.start()
    time.sleep(PAUSE_S)
    with monkeypatch.context() as patched:
        patched.setattr(RedisPool, "exchange", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cache.get(["a"])
    wait_for_it(cache)
    assert cache.statistics()["is_available"]


def test_an_idle_cache_notices_no_restart(valkey: ValkeyServer, cache: RedisCache) -> None:
    cache.set([("a", b"1")], None)
    valkey.stop()
    valkey.start()
    assert cache.set([("a", b"2")], None) == 1
    assert cache.get(["a"]) == [b"2"]
    assert cache.statistics()["errors"] == 0


def test_the_time_out_is_one_of_silence() -> None:
    value = bytes(20_000_000)

    def read_slowly() -> None:
        connection, _ = listener.accept()
        with connection:
            left = len(value)
            while left > 0:
                left -= len(connection.recv(1_000_000, socket.MSG_WAITALL))
                time.sleep(0.05)
            connection.sendall(b"+OK\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        pool = RedisPool(url, "redis://slow", pool_size=1, timeout_s=TIMEOUT_S)
        server = threading.Thread(target=read_slowly)
        server.start()
        begun = time.monotonic()
        assert pool.exchange([("SET", "large", value)]) == [b"OK"]
        assert time.monotonic() - begun > 1.5 * TIMEOUT_S
        server.join()
        pool.close()
