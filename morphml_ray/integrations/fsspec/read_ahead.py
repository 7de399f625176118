"""Reading ahead of whoever reads a file from one end to the other."""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from fsspec.caching import BaseCache, register_cache  # type: ignore[import-untyped]  # fsspec carries no type information

FIRST_BYTES = 1024 * 1024
"""What is read at a place that was jumped to: a footer or a header needs little."""
WHOLE_BYTES = 4 * 1024 * 1024
"""Files up to here are read in whole, so that their checksums are compared."""
GROWTH = 4


class Ahead(Protocol):
    """Reads ranges while others are being used."""

    def begin(self, start: int, end: int) -> Any:
        """Ask for a range, and give something to wait for it by."""

    def finish(self, asked: Any, start: int, end: int) -> bytes:
        """Wait for a range that was asked for."""


class ReadAhead(BaseCache):  # type: ignore[misc]  # the same
    """Keeps one range of a file, and where reading goes on from it has the next one on its way.

    Ranges grow up to ``blocksize`` as long as reading goes on where it ended; a jump begins small again, and asks for
    nothing ahead.

    Args:
        blocksize: the longest range, bytes.
        fetcher: reads a range, and waits for it.
        size: of the file, bytes.
    """

    name: ClassVar[str] = "morphml"

    def __init__(self, blocksize: int, fetcher: Callable[[int, int], bytes], size: int) -> None:
        super().__init__(blocksize, fetcher, size)
        self.ahead: Ahead | None = None
        self._start = 0
        self._data = b""
        self._first_bytes = self._length = min(size if size <= WHOLE_BYTES else FIRST_BYTES, blocksize)
        self._end_of_last = 0
        self._asked: tuple[int, int, Any] | None = None

    def _fetch(self, start: int | None, stop: int | None) -> bytes:
        position = start or 0
        stop = self.size if stop is None else min(stop, self.size)
        parts: list[bytes] = []
        while position < stop:
            if not self._start <= position < self._start + len(self._data):
                self._turn_to(position, stop)
            part = self._data[position - self._start : stop - self._start]
            if not part:
                break
            parts.append(part)
            position += len(part)
        self._end_of_last = position
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _turn_to(self, position: int, stop: int) -> None:
        """Take the range that begins here, and ask for the next one where reading goes on."""
        asked, self._asked = self._asked, None
        goes_on = position == self._end_of_last or position == self._start + len(self._data)
        self._length = min(self._length * GROWTH, self.blocksize) if goes_on else self._first_bytes
        self._data = b""  # before the next one is there: one of them is enough
        if self.ahead is not None and asked is not None and asked[0] == position:
            self._data = self.ahead.finish(asked[2], *asked[:2])
        else:
            self._data = self.fetcher(position, min(self.size, max(stop, position + self._length)))
        self._start = position
        following = position + len(self._data)
        if self.ahead is not None and goes_on and 0 < following < self.size:
            end = min(self.size, following + self._length)
            self._asked = following, end, self.ahead.begin(following, end)


register_cache(ReadAhead)
