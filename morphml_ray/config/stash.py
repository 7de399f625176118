"""Private files for secrets that were stated in plain text."""

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from morphml_ray.config.private_files import put_private_file
from morphml_ray.config.urls import BackendUrl
from morphml_ray.errors import ConfigurationError

_DEFAULT = Path("~/.morphml_ray/secrets")
_KEPT = 0o400


def stash_secret(url: BackendUrl, directory: Path | None = None) -> BackendUrl:
    """Replace a URL that holds a secret by a reference to a private file that holds the URL.

    Arguments of Ray calls lie in Ray's control store in plain text; a reference may lie there. Each secret has a
    file of its own: whoever states another one, or mistypes it, does not change what a running actor reads when it
    restarts. It stands on this machine: an actor on another node reads it only if the directory is shared; otherwise,
    and for a secret that is renewed while actors run, state ``env:`` or ``file:`` references.

    Args:
        url: any URL.
        directory: where the file goes; default ``~/.morphml_ray/secrets``. It is created with mode 0700.

    Returns:
        ``url`` itself if it holds no secret, else a reference that is shown and fingerprinted as ``url`` is.

    Raises:
        ConfigurationError: the file cannot be written, or the directory is not this user's alone.
    """
    if not url.has_plain_secret:
        return url
    identity = hashlib.sha256(url.fingerprint_text.encode()).hexdigest()[:32]
    folder = _DEFAULT if directory is None else directory
    try:
        folder = folder.expanduser().absolute()
        _make_private(folder)
        with _open_private(folder) as folder_fd:
            name = _find(folder_fd, identity, url.reveal()) or _create(folder_fd, identity, url.reveal())
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
        raise ConfigurationError(
            f"The secret of {url.masked} cannot be kept in {folder}: {error}. "
            "State the password as env:NAME or file:/absolute/path instead."
        ) from error
    return url.stored_at(folder / name)


class HeldSecret:
    """A stashed secret while somebody connects with it: what nobody has connected with is removed again.

    Whoever connects holds a lock on the file that others may share. Who succeeds marks it as kept, by its mode; who
    fails removes it, unless it is kept or somebody else holds it.

    Args:
        url: any URL.

    Raises:
        FileNotFoundError: it was removed just now: stash it again.
    """

    def __init__(self, url: BackendUrl) -> None:
        self._path = Path(url.reveal().removeprefix("file:"))
        self._fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW) if url.is_stashed else None
        if self._fd is not None:
            with contextlib.suppress(OSError):  # a file system without locks: then nothing is removed either
                fcntl.flock(self._fd, fcntl.LOCK_SH)
            if os.fstat(self._fd).st_nlink == 0:
                os.close(self._fd)
                raise FileNotFoundError(self._path)

    def release(self, *, keep: bool) -> None:
        """Let go; without ``keep`` the file is removed, where nobody else needs it."""
        if self._fd is None:
            return
        with contextlib.suppress(OSError):  # removed by hand, or others hold it
            if keep:
                os.fchmod(self._fd, _KEPT)
            else:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stat.S_IMODE(os.fstat(self._fd).st_mode) != _KEPT:
                    self._path.unlink()
        os.close(self._fd)
        self._fd = None


def _make_private(folder: Path) -> None:
    """Create a directory, and those above it, closed to others whatever the umask."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)


@contextlib.contextmanager
def _open_private(folder: Path) -> Iterator[int]:
    """Open a directory that nobody else can enter; all further work goes through its descriptor."""
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        status = os.fstat(folder_fd)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise ConfigurationError(
                f"Secrets cannot be kept in {folder}: the directory must belong to this user and be closed to "
                f"others (chmod 700 {folder})"
            )
        yield folder_fd
    finally:
        os.close(folder_fd)


def _find(folder_fd: int, identity: str, text: str) -> str | None:
    """Find the file that holds this text already."""
    for name in os.listdir(folder_fd):
        if not name.startswith(f"{identity}."):
            continue
        with contextlib.suppress(OSError), os.fdopen(_open(folder_fd, name), "rb") as file:
            if file.read() == text.encode():
                return name
    return None


def _create(folder_fd: int, identity: str, text: str) -> str:
    name = f"{identity}.{secrets.token_hex(8)}"
    put_private_file(Path(name), text, dir_fd=folder_fd)
    return name


def _open(folder_fd: int, name: str) -> int:
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder_fd)
