"""Ids of writes: each tells its write from all others, and when it began."""

import re
import secrets
import time

_FORM = re.compile("([0-9a-f]{16})-[0-9a-f]{15}")


def new_write_id() -> str:
    """Make an id for one write; of two, the one whose write began later is greater, as far as clocks agree."""
    return f"{time.time_ns():016x}-{secrets.token_hex(8)[1:]}"


def began_ns(write_id: str | None) -> int | None:
    """Tell when a write began, nanoseconds since the epoch by its caller's clock; None where its id does not say."""
    found = _FORM.fullmatch(write_id or "")
    return None if found is None else int(found[1], 16)
