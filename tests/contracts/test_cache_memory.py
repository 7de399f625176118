"""The cache in memory keeps the contract, its bound, and the order of what goes first."""

import math
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from morphml_ray.cache.actor import create_cache
from morphml_ray.cache.memory import ENTRY_OVERHEAD_BYTES, MemoryCache, _Entry
from morphml_ray.config import BackendUrl
from morphml_ray.errors import NotFoundError, ValidationError
from morphml_ray.testing import CacheContract
from morphml_ray.testing.cache import LONG_S, increment

MAX_BYTES = 5 * ENTRY_OVERHEAD_BYTES


class Clock:
    """A time that only the test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class TestMemory(CacheContract):
    @pytest.fixture
    def opened(self) -> Iterator[dict[str, MemoryCache]]:
        """The caches by prefix: each has a memory of its own."""
        caches: dict[str, MemoryCache] = {}
        yield caches
        for cache in caches.values():
            cache.close()

    @pytest.fixture
    def open_cache(self, opened: dict[str, MemoryCache]) -> Callable[[str], MemoryCache]:
        def open_one(prefix: str) -> MemoryCache:
            opened[prefix] = MemoryCache()
            opened[prefix].open()
            return opened[prefix]

        return open_one

    @pytest.fixture
    def stored(self, opened: dict[str, MemoryCache]) -> Callable[[str, str], bytes | None]:
        def look(prefix: str, key: str) -> bytes | None:
            entry = opened[prefix]._entries.get(key)
            return entry.value if entry else None

        return look

    @pytest.fixture
    def plant(self, opened: dict[str, MemoryCache]) -> Callable[[str, str, bytes], None]:
        def put(prefix: str, key: str, value: bytes) -> None:
            size_bytes = len(key.encode("utf-8", "surrogatepass")) + len(value) + ENTRY_OVERHEAD_BYTES
            opened[prefix]._entries[key] = _Entry(value, math.inf, size_bytes)

        return put


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def small(clock: Clock) -> MemoryCache:
    """Room for four entries."""
    cache = MemoryCache(max_bytes=MAX_BYTES, clock=clock)
    cache.open()
    return cache


def test_the_url_says_how_much_it_holds() -> None:
    for text, max_bytes in (("memory://?max_bytes=12345", 12345), ("memory://", 256 * 1024 * 1024)):
        cache = create_cache(BackendUrl(text), "morphml")
        cache.open()
        assert cache.statistics()["max_bytes"] == max_bytes


def test_what_was_not_used_for_longest_goes_first(small: MemoryCache) -> None:
    small.set([(key, b"1") for key in "abcd"], None)
    small.get(["a"])
    small.exists(["b"])
    increment(small, "c", 1)
    small.set([("e", b"1"), ("f", b"1")], None)
    assert small.exists(list("abcdef")) == [True, False, True, False, True, True]
    told = small.statistics()
    assert (told["evictions"], told["num_keys"], told["size_bytes"]) == (2, 4, 8)


def test_what_ran_out_goes_before_what_did_not(small: MemoryCache, clock: Clock) -> None:
    small.set([("old", b"1")], None)
    small.set([("short", b"1"), ("renewed", b"1")], 10)
    small.set([("renewed", b"1")], 100)
    clock.now_s += 10
    small.set([("a", b"1"), ("b", b"1")], None)
    assert small.exists(["old", "short", "renewed", "a", "b"]) == [True, False, True, True, True]
    assert small.statistics()["evictions"] == 0


def test_a_value_that_does_not_fit_is_dropped_with_the_one_it_replaces(small: MemoryCache) -> None:
    small.set([("a", b"old"), ("b", b"1")], None)
    assert small.set([("a", b"x" * MAX_BYTES), ("c", b"1")], None) == 1
    assert small.get(["a", "b", "c"]) == [None, b"1", b"1"]
    told = small.statistics()
    assert (told["dropped_writes"], told["errors"], told["evictions"]) == (1, 1, 0)
    assert "does not fit" in (told["last_error"] or "")


def test_a_counter_that_grows_out_of_the_room_is_dropped() -> None:
    tiny = MemoryCache(max_bytes=ENTRY_OVERHEAD_BYTES + 2)
    tiny.open()
    assert increment(tiny, "n", 9) == 9
    assert increment(tiny, "n", 1) is None
    assert tiny.get(["n"]) == [None]
    assert tiny.statistics()["dropped_writes"] == 1


def test_increments_are_remembered_for_thousands_of_calls_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morphml_ray.cache.memory._REMEMBERED_OPERATIONS", 2)
    cache = MemoryCache()
    cache.open()
    assert [cache.increment("n", 1, operation_id) for operation_id in "abcba"] == [1, 2, 3, 2, 4]
    cache.close()
    cache.open()
    assert cache.increment("n", 1, "a") == 1


@pytest.fixture
def taken_bytes() -> Iterator[Callable[[], int]]:
    """A function that gives how much memory was taken since the beginning of the test."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


def test_writing_the_same_keys_for_ever_takes_no_memory(small: MemoryCache, taken_bytes: Callable[[], int]) -> None:
    for _ in range(5000):
        small.set([("a", b"1"), ("b", b"2")], 10)
    assert taken_bytes() < 100_000
    assert small.statistics()["size_bytes"] == 4


@pytest.mark.parametrize("ttl_s", [None, LONG_S])
def test_it_takes_the_memory_that_it_may_take(taken_bytes: Callable[[], int], ttl_s: float | None) -> None:
    # Dictionaries of this many entries have just grown, and half of their slots are empty.
    max_bytes = 1400 * (ENTRY_OVERHEAD_BYTES + len("key 0000") + len(b"value"))
    cache = MemoryCache(max_bytes=max_bytes)
    cache.open()
    begun = taken_bytes()
    most = 0
    for start in range(0, 6000, 100):
        cache.set([(f"key {number:04}", b"value") for number in range(start, start + 100)], ttl_s)
        most = max(most, taken_bytes() - begun)
    assert cache.statistics()["num_keys"] == 1400
    assert most < 1.25 * max_bytes


KEYS = st.sampled_from(["a", "ab", "b", "a*", "é"])
VALUES = st.sampled_from([b"", b"5", b"-3", b"text", b"x" * ENTRY_OVERHEAD_BYTES, b"y" * MAX_BYTES])
TIMES = st.sampled_from([None, 1.0, 2.5, 100.0])


class Model(RuleBasedStateMachine):
    """A cache of few entries beside a plain list of what it should hold, the least used first."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.cache = MemoryCache(max_bytes=MAX_BYTES, clock=self.clock)
        self.cache.open()
        self.held: dict[str, tuple[bytes, float]] = {}
        self.hits = self.misses = self.dropped = 0

    def expire(self) -> None:
        self.held = {key: entry for key, entry in self.held.items() if entry[1] > self.clock.now_s}

    def used_bytes(self) -> int:
        return sum(len(key.encode()) + len(value) + ENTRY_OVERHEAD_BYTES for key, (value, _) in self.held.items())

    def put(self, key: str, value: bytes, ends_at: float) -> bool:
        self.held.pop(key, None)
        if len(key.encode()) + len(value) + ENTRY_OVERHEAD_BYTES > MAX_BYTES:
            self.dropped += 1
            return False
        self.held[key] = (value, ends_at)
        while self.used_bytes() > MAX_BYTES:
            del self.held[next(iter(self.held))]
        return True

    @rule(keys=st.lists(KEYS, max_size=3))
    def get(self, keys: list[str]) -> None:
        self.expire()
        expected = [self.held[key][0] if key in self.held else None for key in keys]
        for key in keys:
            if key in self.held:
                self.held[key] = self.held.pop(key)
        self.hits += sum(value is not None for value in expected)
        self.misses += sum(value is None for value in expected)
        assert self.cache.get(keys) == expected

    @rule(items=st.lists(st.tuples(KEYS, VALUES), max_size=3), ttl_s=TIMES)
    def set(self, items: list[tuple[str, bytes]], ttl_s: float | None) -> None:
        self.expire()
        ends_at = math.inf if ttl_s is None else self.clock.now_s + ttl_s
        expected = sum([self.put(key, value, ends_at) for key, value in items])
        assert self.cache.set(items, ttl_s) == expected

    @rule(keys=st.lists(KEYS, max_size=3))
    def delete(self, keys: list[str]) -> None:
        self.expire()
        expected = sum([self.held.pop(key, None) is not None for key in keys])
        assert self.cache.delete(keys) == expected

    @rule(key=KEYS, amount=st.integers(-3, 3))
    def increment(self, key: str, amount: int) -> None:
        self.expire()
        value, ends_at = self.held.get(key, (b"0", math.inf))
        if value not in (b"", b"text") and value[:1] not in b"xy":
            total = int(value) + amount
            is_taken = self.put(key, str(total).encode(), ends_at)
            assert increment(self.cache, key, amount) == (total if is_taken else None)
        else:
            with pytest.raises(ValidationError):
                increment(self.cache, key, amount)

    @rule(key=KEYS)
    def ttl_s(self, key: str) -> None:
        self.expire()
        if key not in self.held:
            with pytest.raises(NotFoundError):
                self.cache.ttl_s(key)
        else:
            left_s = self.held[key][1] - self.clock.now_s
            assert self.cache.ttl_s(key) == (None if left_s == math.inf else left_s)

    @rule(text=st.sampled_from(["", "a", "a*", "é", "none"]), as_pattern=st.booleans())
    def delete_many(self, text: str, as_pattern: bool) -> None:
        self.expire()
        begun = {key for key in self.held if key.startswith(text)}
        if as_pattern:
            matched = {key for key in self.held if key.startswith("a")} if text == "a*" else begun & {text}
            assert self.cache.delete_matching(text) == len(matched)
        else:
            matched = begun
            assert self.cache.delete_prefix(text) == len(matched)
        for key in matched:
            del self.held[key]

    @rule()
    def clear(self) -> None:
        self.expire()
        assert self.cache.clear() == len(self.held)
        self.held.clear()

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 50.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now_s += seconds
        assert self.cache.exists(["nobody"]) == [False]

    @invariant()
    def it_tells_what_it_holds(self) -> None:
        self.expire()
        told = self.cache.statistics()
        assert (told["hits"], told["misses"], told["dropped_writes"]) == (self.hits, self.misses, self.dropped)
        assert told["num_keys"] == len(self.held)
        assert told["size_bytes"] == self.used_bytes() - len(self.held) * ENTRY_OVERHEAD_BYTES
        assert self.used_bytes() <= MAX_BYTES


Model.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestModel = Model.TestCase
