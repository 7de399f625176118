"""Waiting for a condition, with a limit, instead of sleeping."""

import asyncio
import time
from collections.abc import Awaitable, Callable


def wait_until(condition: Callable[[], object], timeout_s: float, every_s: float = 0.02) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, f"not within {timeout_s} s: {condition}"
        time.sleep(every_s)


async def wait_until_true(condition: Callable[[], Awaitable[object]], timeout_s: float, every_s: float = 0.02) -> None:
    """Do the same where the condition, and what it waits for, run in this event loop."""
    give_up_at = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < give_up_at, f"not within {timeout_s} s: {condition}"
        await asyncio.sleep(every_s)
