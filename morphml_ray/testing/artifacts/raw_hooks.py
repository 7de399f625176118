"""What a class below ``ArtifactContract`` gives to look past its backend, so that no write is checked by its own read.

They are called with keys of letters, digits, dots and slashes.
"""

from collections.abc import Callable

Stored = Callable[[str], bytes | None]
"""Gives the data of the object with this key; None where there is none."""

Plant = Callable[[str, bytes], None]
"""Stores an object under this key, as another program would; replaces one that is there."""

Damage = Callable[[str], None]
"""Changes one stored byte of the object with this key, and nothing of what is kept beside the data."""

Leftovers = Callable[[], list[str]]
"""Lists what stands on the disk or the server for writes that did not end."""
