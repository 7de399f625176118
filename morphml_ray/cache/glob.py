r"""Patterns as Redis reads them: ``*``, ``?``, ``[a-c]``, ``[^a-c]`` and the backslash, over bytes."""

import re

_SPECIAL = re.compile(rb"([*?\[\]\\])")


def escape(text: bytes) -> bytes:
    """Write a text as a pattern that matches nothing else."""
    return _SPECIAL.sub(rb"\\\1", text)


class Glob:
    """A pattern that takes a time proportional to the name's length times its own, whatever it holds.

    Between two stars every pattern has a fixed width, so that the first place where it fits is as good as any:
    nothing is ever tried twice, as it would be in one regular expression for the whole.

    Args:
        pattern: as the command SCAN of Redis takes it.
    """

    def __init__(self, pattern: bytes) -> None:
        parts = _parse(pattern)
        self._parts = [re.compile(b"".join(part), re.DOTALL) for part in parts]
        self._last_width = len(parts[-1])

    def matches(self, name: bytes) -> bool:
        """Tell whether the whole name fits."""
        first, *others = self._parts
        if not others:
            return first.fullmatch(name) is not None
        found = first.match(name)
        for part in others[:-1]:
            found = found and part.search(name, found.end())
        last_start = len(name) - self._last_width
        return found is not None and last_start >= found.end() and others[-1].match(name, last_start) is not None


def _parse(pattern: bytes) -> list[list[bytes]]:
    """Cut at the stars; each item of a part is a regular expression of one byte."""
    parts: list[list[bytes]] = [[]]
    place = 0
    while place < len(pattern):
        char = pattern[place : place + 1]
        if char == b"*":
            parts.append([])
        elif char == b"?":
            parts[-1].append(b".")
        elif char == b"[":
            one, place = _parse_class(pattern, place + 1)
            parts[-1].append(one)
        else:
            if char == b"\\" and place + 1 < len(pattern):
                place += 1
            parts[-1].append(re.escape(pattern[place : place + 1]))
        place += 1
    # Stars side by side are one.
    return [parts[0], *(part for part in parts[1:-1] if part), *parts[1:][-1:]]


def _parse_class(pattern: bytes, place: int) -> tuple[bytes, int]:
    """Read what stands in brackets; gives the regular expression, and where the closing bracket is.

    As in Redis, the end of the pattern closes it too.
    """
    is_negated = pattern[place : place + 1] == b"^"
    place += is_negated
    accepted: set[int] = set()
    while place < len(pattern) and pattern[place : place + 1] != b"]":
        if pattern[place : place + 1] == b"\\" and place + 1 < len(pattern):
            place += 1
            accepted.add(pattern[place])
        elif pattern[place + 1 : place + 2] == b"-" and place + 2 < len(pattern):
            low, high = sorted((pattern[place], pattern[place + 2]))
            accepted.update(range(low, high + 1))
            place += 2
        else:
            accepted.add(pattern[place])
        place += 1
    if is_negated:
        accepted = set(range(256)) - accepted
    return _one_of(accepted), place


def _one_of(accepted: set[int]) -> bytes:
    """Write an expression for one of these bytes; it has a width of one also where there are none."""
    if not accepted:
        return rb"(?!)."
    return b"[" + b"".join(re.escape(bytes([byte])) for byte in sorted(accepted)) + b"]"
