"""Finding and deleting keys by a pattern, a page at a time."""

from collections.abc import Callable, Iterator, Sequence

from morphml_ray.cache.redis.pool import Command, Refusal, Reply

# A server works on one command at a time: one with more keys would make others wait.
KEYS_AT_ONCE = 1000

Ask = Callable[[Sequence[Command]], list[Reply]]


def scan(ask: Ask, pattern: bytes) -> Iterator[list[bytes] | Refusal]:
    """Give the names that match in pages; a name may come twice, and a refusal is the last."""
    cursor = b"0"
    while True:
        [reply] = ask([("SCAN", cursor, "MATCH", pattern, "COUNT", KEYS_AT_ONCE)])
        if isinstance(reply, Refusal):
            yield reply
            return
        cursor, names = reply
        yield names
        if cursor == b"0":
            return


def unlink_matching(ask: Ask, pattern: bytes) -> tuple[int, Refusal | None]:
    """Delete the keys that match; gives how many there were, and why it did not come to the end."""
    number = 0
    for names in scan(ask, pattern):
        if isinstance(names, Refusal):
            return number, names
        if names:
            [deleted] = ask([("UNLINK", *names)])
            if isinstance(deleted, Refusal):
                return number, deleted
            number += deleted
    return number, None
