"""Patterns of Redis; tests/contracts compares them with a server's."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from morphml_ray.cache.glob import Glob, escape


@given(text=st.binary(max_size=20), other=st.binary(max_size=20))
def test_an_escaped_text_matches_itself_only(text: bytes, other: bytes) -> None:
    assert Glob(escape(text)).matches(text)
    assert Glob(escape(text)).matches(other) == (text == other)
    assert Glob(escape(text) + b"*").matches(text + other)


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        (b"*", [b"", b"a", b"\n"], []),
        (b"a*a", [b"aa", b"aba"], [b"a", b"ab"]),
        (b"*ab*ab", [b"abab", b"xabxab"], [b"ab", b"aab", b"ababx"]),
        (b"a**?", [b"ab", b"abc"], [b"a"]),
        (b"[a-c]", [b"a", b"c"], [b"d", b"", b"ab"]),
        (b"[^a-c]", [b"d", b"\n", b"\xff"], [b"a", b""]),
        (b"[c-a]", [b"b"], [b"d"]),
        (b"[ab", [b"a", b"b"], [b"[ab"]),
        (b"[", [], [b"[", b""]),
        (b"[^]", [b"a"], [b""]),
        (b"[\\]]", [b"]"], [b"\\"]),
        (b"[a-]]x", [b"ax", b"]x", b"^x"], [b"-x", b"x"]),
        (b"[&|~[-]", [b"&", b"|", b"[", b"]", b"\\"], [b"a", b"-"]),
        (b"\\", [b"\\"], [b""]),
        (b"\\a", [b"a"], [b"\\a"]),
    ],
)
def test_patterns_of_redis(pattern: bytes, fits: list[bytes], fits_not: list[bytes]) -> None:
    assert [name for name in fits if not Glob(pattern).matches(name)] == []
    assert [name for name in fits_not if Glob(pattern).matches(name)] == []


def test_no_pattern_takes_for_ever() -> None:
    begun = time.monotonic()
    assert not Glob(b"*a" * 30 + b"b").matches(b"a" * 5000)
    assert time.monotonic() - begun < 5
