"""From the operating system's errors to ours, in one place."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from morphml_ray.errors import BackendUnavailable, ConfigurationError, MorphMLRayError

# What no waiting mends. ELOOP and ENOTDIR: something that is no directory stands in the way, a symbolic link maybe.
_REFUSALS = {
    errno.EACCES: "this user may not use it",
    errno.EPERM: "the file system does not allow it; it may know no hard links",
    errno.EROFS: "it is read-only",
    errno.ELOOP: "a symbolic link stands in it; remove it",
    errno.ENOTDIR: "a file or a symbolic link stands where a directory must be; remove it",
    errno.EISDIR: "a directory stands where an object must be; remove it",
    errno.ENAMETOOLONG: "its file system takes short names only",
}
_SHORTAGES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "this user's share of the disk is full",
    errno.EMFILE: "this process has too many open files",
}


@contextmanager
def translated(place: str, operation: str) -> Iterator[None]:
    """Let errors of the operating system out as errors of ours.

    Args:
        place: the directory.
        operation: what was tried, with its key.

    Raises:
        ConfigurationError: no waiting helps: no permission, a symbolic link in the way.
        BackendUnavailable: anything else, a full disk for one: it may work later.
    """
    try:
        yield
    except MorphMLRayError:  # some are ConnectionErrors, which are OSErrors
        raise
    except OSError as error:
        raise _translate(place, operation, error) from error


def _translate(place: str, operation: str, error: OSError) -> MorphMLRayError:
    if error.errno in _REFUSALS:
        return ConfigurationError(f"{place} refuses {operation}: {_REFUSALS[error.errno]}")
    reason = _SHORTAGES.get(error.errno or 0, error.strerror or type(error).__name__)
    return BackendUnavailable(f"{place} failed {operation}: {reason}")
