"""The contract of a cache, as tests."""

import math
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from morphml_ray.cache.contract import Cache
from morphml_ray.errors import BackendUnavailable, NotFoundError, ValidationError

OpenCache = Callable[[str], Cache]
ReadPast = Callable[[str, str], bytes | None]
WritePast = Callable[[str, str, bytes], None]

PREFIX = "morphml"

ODD_KEYS = [
    "",
    " ",
    "*",
    "?",
    "[a]",
    "[^a]",
    "[",
    "]",
    "\\",
    "a\\",
    "a*",
    "a:b",
    ":",
    "%3A",
    "{a}",
    "a\nb",
    "a\0b",
    "ключ",
    "🔑",
    "\ud800",
    "x" * 10_000,
]
ODD_VALUES = [b"", b"\0", b"\r\n", b"$-1\r\n", b"-OOM\r\n", bytes(range(256)), b"x" * 3_000_000]
SHORT_S = 0.05
LONG_S = 600.0
WAIT_S = 10.0


def increment(cache: Cache, key: str, amount: int) -> int | None:
    """Add to a counter, in a call that is none of before."""
    return cache.increment(key, amount, uuid.uuid4().hex)


class CacheContract:
    """What every ``morphml_ray.cache.contract.Cache`` does.

    A class below it has three fixtures, of which two look past the backend, so that a write is never checked by the
    backend's own read alone:

    - ``open_cache``: a function that gives an opened cache for a prefix, over one place that is empty when the
      test begins. The fixture closes what it gave.
    - ``stored``: a function that gives what the place holds for a prefix and a key, or None.
    - ``plant``: a function that puts a value there, for a prefix, a key and the value's bytes, without a limit of
      time. The cache of that prefix is open.
    """

    @pytest.fixture
    def cache(self, open_cache: OpenCache) -> Cache:
        """A cache for one test."""
        return open_cache(PREFIX)

    # Values

    def test_what_is_set_is_read_in_the_order_of_the_question(self, cache: Cache, stored: ReadPast) -> None:
        assert cache.set([("a", b"1"), ("b", b"2"), ("a", b"3")], None) == 3
        assert [stored(PREFIX, key) for key in ("a", "b", "missing")] == [b"3", b"2", None]
        assert cache.get(["b", "missing", "a", "b"]) == [b"2", None, b"3", b"2"]
        assert cache.exists(["missing", "a", "a"]) == [False, True, True]

    def test_what_others_put_there_is_a_value_like_any(self, cache: Cache, plant: WritePast, stored: ReadPast) -> None:
        values: dict[str, bytes | None] = {key: f"{number}".encode() for number, key in enumerate(ODD_KEYS)}
        for number, key in enumerate(ODD_KEYS):
            plant(PREFIX, key, f"{number}".encode())
        assert cache.get(ODD_KEYS) == list(values.values())
        assert cache.exists(["", "missing"]) == [True, False]
        assert (cache.ttl_s("a*"), cache.statistics()["num_keys"]) == (None, len(ODD_KEYS))
        assert cache.set([("a*", b"ours")], None) == 1
        assert cache.delete(["", "?", "missing"]) == 2
        values |= {"a*": b"ours", "": None, "?": None}
        assert {key: stored(PREFIX, key) for key in ODD_KEYS} == values

    def test_nothing_is_asked_for_nothing(self, cache: Cache) -> None:
        assert (cache.get([]), cache.set([], None), cache.delete([]), cache.exists([])) == ([], 0, 0, [])

    def test_lesson_19_an_empty_value_is_no_miss(self, cache: Cache) -> None:
        cache.set([("empty", b"")], None)
        assert cache.get(["empty", "missing"]) == [b"", None]

    def test_any_bytes_survive_under_any_name(self, cache: Cache, stored: ReadPast) -> None:
        values = {key: f"{number}".encode() for number, key in enumerate(ODD_KEYS)}
        cache.set(list(values.items()), LONG_S)
        assert cache.get(ODD_KEYS) == list(values.values())
        assert {key: stored(PREFIX, key) for key in ODD_KEYS} == values
        cache.set([(f"value {number}", value) for number, value in enumerate(ODD_VALUES)], None)
        assert cache.get([f"value {number}" for number in range(len(ODD_VALUES))]) == ODD_VALUES
        assert [stored(PREFIX, f"value {number}") for number in range(len(ODD_VALUES))] == ODD_VALUES

    def test_thousands_of_keys_are_one_call(self, cache: Cache) -> None:
        keys = [f"key {number}" for number in range(2500)]
        assert cache.set([(key, key.encode()) for key in keys], LONG_S) == 2500
        assert cache.get(keys) == [key.encode() for key in keys]
        assert cache.exists(keys) == [True] * 2500
        assert cache.delete(keys[:2400]) == 2400
        assert cache.delete_matching("key 2*") == 100

    def test_delete_counts_what_was_there(self, cache: Cache, stored: ReadPast) -> None:
        cache.set([("a", b"1"), ("b", b"2")], None)
        assert cache.delete(["a", "a", "missing"]) == 1
        assert cache.delete(["a"]) == 0
        assert cache.get(["a", "b"]) == [None, b"2"]
        assert [stored(PREFIX, key) for key in "ab"] == [None, b"2"]

    # Time

    @pytest.mark.parametrize("ttl_s", [0, -1, math.nan, math.inf, 1e300])
    def test_lesson_18_a_time_to_live_that_is_none_is_refused(
        self, cache: Cache, stored: ReadPast, ttl_s: float
    ) -> None:
        cache.set([("kept", b"before")], None)
        with pytest.raises(ValidationError, match="time to live"):
            cache.set([("kept", b"after")], ttl_s)
        assert cache.get(["kept"]) == [b"before"]
        assert stored(PREFIX, "kept") == b"before"

    def test_time_runs_out(self, cache: Cache) -> None:
        cache.set([("short", b"1"), ("shorter", b"2")], SHORT_S)
        cache.set([("least", b"3")], 1e-9)
        cache.set([("long", b"4")], LONG_S)
        give_up_at = time.monotonic() + WAIT_S
        while any(cache.exists(["short", "shorter", "least"])):
            assert time.monotonic() < give_up_at
            time.sleep(SHORT_S)
        assert cache.get(["short", "shorter", "least", "long"]) == [None, None, None, b"4"]
        assert cache.delete(["short"]) == 0
        with pytest.raises(NotFoundError):
            cache.ttl_s("short")

    def test_the_time_left_is_told(self, cache: Cache) -> None:
        cache.set([("short", b"1"), ("renewed", b"1")], LONG_S)
        cache.set([("endless", b"1"), ("renewed", b"2")], None)
        left_s = cache.ttl_s("short")
        assert left_s is not None
        assert LONG_S - WAIT_S < left_s <= LONG_S
        assert (cache.ttl_s("endless"), cache.ttl_s("renewed")) == (None, None)
        with pytest.raises(NotFoundError, match="'missing'"):
            cache.ttl_s("missing")

    # Counters

    def test_lesson_18_counters_and_values_are_one(self, cache: Cache, plant: WritePast, stored: ReadPast) -> None:
        assert increment(cache, "new", 5) == 5
        assert increment(cache, "new", -7) == -2
        assert cache.get(["new"]) == [b"-2"]
        cache.set([("written", b"41")], LONG_S)
        assert increment(cache, "written", 1) == 42
        assert increment(cache, "written", 0) == 42
        assert cache.get(["written"]) == [b"42"]
        assert cache.ttl_s("written") is not None
        assert cache.ttl_s("new") is None
        plant(PREFIX, "planted", b"-1")
        assert increment(cache, "planted", 101) == 100
        assert [stored(PREFIX, key) for key in ("new", "written", "planted")] == [b"-2", b"42", b"100"]

    @pytest.mark.parametrize("value", [b"", b"one", b"1.0", b" 1", b"+1", b"01", b"-0", b"1\n", b"9223372036854775808"])
    def test_what_is_no_integer_is_not_incremented(self, cache: Cache, stored: ReadPast, value: bytes) -> None:
        cache.set([("text", value)], None)
        with pytest.raises(ValidationError, match="'text'"):
            increment(cache, "text", 1)
        assert cache.get(["text"]) == [value]
        assert stored(PREFIX, "text") == value

    def test_a_counter_has_64_bits(self, cache: Cache) -> None:
        assert increment(cache, "high", 2**63 - 1) == 2**63 - 1
        assert increment(cache, "low", -(2**63)) == -(2**63)
        for key, amount in (("high", 1), ("low", -1), ("high", 2**63), ("low", -(2**63) - 1)):
            with pytest.raises(ValidationError, match=f"'{key}'"):
                increment(cache, key, amount)
        assert cache.get(["high", "low"]) == [b"9223372036854775807", b"-9223372036854775808"]

    def test_an_increment_that_is_repeated_counts_once(self, cache: Cache, stored: ReadPast) -> None:
        cache.set([("n", b"9007199254740992"), ("text", b"one")], LONG_S)
        assert [cache.increment("n", 1, "first") for _ in range(2)] == [2**53 + 1] * 2
        assert cache.increment("n", -3, "second") == 2**53 - 2
        assert cache.increment("n", 1, "first") == 2**53 + 1
        with pytest.raises(ValidationError, match="'text'"):
            cache.increment("text", 1, "third")
        cache.set([("text", b"1")], None)
        assert cache.increment("text", 1, "third") == 2
        assert cache.get(["n", "text"]) == [b"9007199254740990", b"2"]
        assert [stored(PREFIX, key) for key in ("n", "text")] == [b"9007199254740990", b"2"]
        assert (cache.statistics()["num_keys"], cache.delete_matching("*op*"), cache.clear()) == (2, 0, 2)
        assert cache.increment("n", 1, "first") == 2**53 + 1

    def test_no_increment_of_many_threads_is_lost(self, cache: Cache) -> None:
        def work(thread: int) -> list[int | None]:
            cache.set([(f"own {thread}", b"0")], None)
            return [increment(cache, "shared", 1) for _ in range(50)]

        with ThreadPoolExecutor(8) as threads:
            totals = [total for part in threads.map(work, range(8)) for total in part]
        assert sorted(total or 0 for total in totals) == list(range(1, 401))
        assert cache.get(["shared"]) == [b"400"]

    # Many keys at once

    @pytest.mark.parametrize("key", ODD_KEYS)
    def test_lesson_21_a_name_is_no_pattern(self, cache: Cache, key: str) -> None:
        others = ["a", "b", "[b]", "plain", "xx", "y"]
        cache.set([(name, b"1") for name in (*others, key)], None)
        assert cache.delete([key]) == 1
        assert cache.exists(others) == [True] * len(others)
        cache.set([(f"{key}/1", b"1"), (f"{key}/2", b"1")], None)
        assert cache.delete_prefix(f"{key}/") == 2
        assert cache.exists(others) == [True] * len(others)

    @pytest.mark.parametrize(
        ("pattern", "matched"),
        [
            ("exp:1:*", {"exp:1:a", "exp:1:b"}),
            ("exp:1*", {"exp:1:a", "exp:1:b", "exp:10:a"}),
            ("*:a", {"exp:1:a", "exp:10:a"}),
            ("exp:?:?", {"exp:1:a", "exp:1:b"}),
            ("exp:1:[ab]", {"exp:1:a", "exp:1:b"}),
            ("exp:1:[^a]", {"exp:1:b"}),
            ("exp:1:[c-b]", {"exp:1:b"}),
            (r"\*", {"*"}),
            ("[*]", {"*"}),
            ("*", {"exp:1:a", "exp:1:b", "exp:10:a", "*", "é"}),
            ("??", {"é"}),
            ("", set()),
            ("exp:1:", set()),
            ("[]", set()),
        ],
    )
    def test_a_pattern_is_that_of_redis(self, cache: Cache, stored: ReadPast, pattern: str, matched: set[str]) -> None:
        keys = ["exp:1:a", "exp:1:b", "exp:10:a", "*", "é"]
        cache.set([(key, b"1") for key in keys], None)
        assert cache.delete_matching(pattern) == len(matched)
        assert {key for key, is_there in zip(keys, cache.exists(keys), strict=True) if not is_there} == matched
        assert {key for key in keys if stored(PREFIX, key) is None} == matched

    def test_lesson_21_a_prefix_clears_its_own_keys_only(
        self, open_cache: OpenCache, plant: WritePast, stored: ReadPast
    ) -> None:
        prefixes = ["morphml", "morphml:staging", "morphml:", "morphml%3Astaging", "morphml*", "morph", "morphm?"]
        caches = {prefix: open_cache(prefix) for prefix in prefixes}
        for prefix, cache in caches.items():
            cache.set([("key", prefix.encode())], None)
            plant(prefix, "staging:key", prefix.encode())
        while caches:
            for prefix, cache in caches.items():
                assert cache.get(["key", "staging:key"]) == [prefix.encode()] * 2
                assert [stored(prefix, key) for key in ("key", "staging:key")] == [prefix.encode()] * 2
                assert cache.statistics()["num_keys"] == 2
            prefix, cache = caches.popitem()
            assert cache.clear() == 2
            assert cache.exists(["key", "staging:key"]) == [False, False]
            assert [stored(prefix, key) for key in ("key", "staging:key")] == [None, None]

    # What it tells

    def test_lesson_23_hits_and_misses_are_those_of_this_cache(self, open_cache: OpenCache) -> None:
        cache, other = open_cache("morphml"), open_cache("morphml:other")
        assert cache.statistics()["hit_rate"] == 0.0
        cache.set([("a", b"12345")], None)
        cache.get(["a", "a", "a", "missing"])
        cache.exists(["missing"])
        other.get(["missing"])
        told = cache.statistics()
        assert (told["hits"], told["misses"], told["hit_rate"]) == (3, 1, 75.0)
        assert (told["num_keys"], told["size_bytes"]) == (1, 6)
        assert (told["is_available"], told["dropped_writes"], told["errors"], told["outages"]) == (True, 0, 0, 0)
        assert other.statistics()["hit_rate"] == 0.0

    def test_it_opens_again(self, cache: Cache) -> None:
        cache.open()
        cache.close()
        cache.close()
        for ask in (lambda: cache.get(["a"]), lambda: cache.set([("a", b"1")], None), cache.clear):
            with pytest.raises(BackendUnavailable, match="is not open"):
                ask()
        cache.open()
        assert cache.set([("a", b"1")], None) == 1
        assert cache.get(["a"]) == [b"1"]
