"""Showing how far the transfer of a file is."""

import importlib.util
from collections.abc import Callable
from functools import cache

from ray.experimental import tqdm_ray

Progress = Callable[[int], None]
"""Is told how many bytes have passed so far."""

BAR_BYTES = 64 * 1024 * 1024
"""Larger files get a progress bar."""


@cache
def _has_tqdm() -> bool:
    """Tell whether a bar can be shown; without tqdm, Ray prints that it is missing instead."""
    return importlib.util.find_spec("tqdm") is not None


class Meter:
    """Tells a callback how far a transfer is; without one, a large file gets a progress bar.

    Args:
        progress: the callback, or None.
        title: of the bar.
        total_bytes: of the file; None where it is not known yet.
    """

    def __init__(self, progress: Progress | None, title: str, total_bytes: int | None) -> None:
        self._progress = progress
        self._title = title
        self._bar: tqdm_ray.tqdm | None = None
        self._moved_bytes = 0
        self.total_bytes = total_bytes

    @property
    def needs_total(self) -> bool:
        """Whether it depends on the size whether there is a bar."""
        return self._progress is None and self.total_bytes is None

    @property
    def is_idle(self) -> bool:
        """Whether nobody is to be told, as far as is known."""
        shows_bar = _has_tqdm() and self.total_bytes is not None and self.total_bytes > BAR_BYTES
        return self._progress is None and not shows_bar

    def move_to(self, moved_bytes: int) -> None:
        """Show how many bytes have passed; a transfer that begins again is shown when it gets further."""
        if self.is_idle or moved_bytes <= self._moved_bytes:
            return
        step, self._moved_bytes = moved_bytes - self._moved_bytes, moved_bytes
        if self._progress is not None:
            self._progress(moved_bytes)
            return
        if self._bar is None:
            self._bar = tqdm_ray.tqdm(desc=self._title, total=self.total_bytes, unit="B")
        self._bar.update(step)  # type: ignore[no-untyped-call]  # Ray's

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()  # type: ignore[no-untyped-call]  # Ray's
