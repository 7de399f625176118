"""Checks of the directories that embedded backends write to."""

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import psutil

from morphml_ray.errors import ConfigurationError

# SQLite needs working file locks and shared memory; over these they are absent or unreliable
# (https://www.sqlite.org/howtocorrupt.html, section 2). FUSE file systems stand without their "fuse." prefix.
NETWORK_FILESYSTEMS = frozenset(
    """
    9p acfs afpfs afs auristorfs beegfs ceph ceph-fuse cifs curlftpfs davfs davfs2 gcsfuse gfarm2fs
    glusterfs goofys gpfs juicefs kafs lizardfs lustre mfs mmfs moosefs mountpoint-s3 ncp ncpfs nfs nfs3 nfs4
    obsfs ocfs2 orangefs panfs pvfs2 quobyte rclone s3fs s3ql smb smb2 smb3 smbfs smbnetfs sshfs webdav weka
    wekafs
    """.split()  # noqa: SIM905 - words read better than 40 quoted lines
)


class Partition(Protocol):
    """One line of the mount table, as psutil gives it."""

    @property
    def mountpoint(self) -> str:
        """The directory it is mounted on."""

    @property
    def fstype(self) -> str:
        """The kind of file system."""


def check_directory(path: Path | str, *, setting: str = "root= or MORPHML_ROOT") -> Path:
    """Make sure that files can be written in ``path``, creating it if need be.

    Args:
        path: the directory.
        setting: what the user sets to choose another one; the message names it.

    Returns:
        The directory's absolute path.

    Raises:
        ConfigurationError: it cannot be created or written.
    """
    directory = Path(path).absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"morphml_ray")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(
            f"The directory {directory} cannot be written: {reason}{_obstacle(directory)}. "
            f"Set {setting} to a directory that this user may write to."
        ) from error
    return directory


def _obstacle(directory: Path) -> str:
    """Name the file that stands where a directory should be."""
    for path in (directory, *directory.parents):
        if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where a directory cannot be entered
            return f" ({path} is a file)"
    return ""


def _all_partitions() -> Iterable[Partition]:
    partitions: Iterable[Partition] = psutil.disk_partitions(all=True)
    return partitions


def check_local_filesystem(
    path: Path | str, *, partitions: Callable[[], Iterable[Partition]] = _all_partitions
) -> None:
    """Make sure that ``path`` is not on a network file system, where SQLite databases are damaged.

    Args:
        path: a file or directory; it need not exist yet.
        partitions: gives the mount table, later mounts after earlier ones.

    Raises:
        ConfigurationError: it is on one; the message names the mount.
    """
    real = Path(os.path.realpath(path))
    covering = [mount for mount in partitions() if real.is_relative_to(mount.mountpoint)]
    # Of two mounts on one place the later one hides the earlier: max() keeps the first of equals.
    mount = max(reversed(covering), key=lambda found: len(Path(found.mountpoint).parts), default=None)
    if mount is not None and mount.fstype.lower().removeprefix("fuse.") in NETWORK_FILESYSTEMS:
        raise ConfigurationError(
            f"{path} is on a network file system ({mount.fstype}, mounted on {mount.mountpoint}), where SQLite "
            f"loses data. Set root= or MORPHML_ROOT to a local directory, or database= to a PostgreSQL URL."
        )
