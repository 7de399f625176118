"""Whom the servers run as: PostgreSQL refuses to run as root."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from morphml_ray.config.private_files import Owner
from morphml_ray.errors import ConfigurationError

_UNPRIVILEGED = "nobody"
_CAN_USE = 'for path; do test -r "$path" && test -x "$path" || exit 1; done'


class RunOptions(TypedDict, total=False):
    """What ``subprocess`` takes to run something as somebody else."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """A user of this machine.

    Attributes:
        uid: its number.
        gid: the number of its main group.
    """

    uid: int
    gid: int

    @property
    def is_self(self) -> bool:
        """Whether this process runs as this user."""
        return self.uid == os.geteuid()

    @property
    def name(self) -> str:
        """The name of the user, or its number when it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    @property
    def owner(self) -> Owner | None:
        """Whose its files have to be made; None when those of this process are."""
        return None if self.is_self else (self.uid, self.gid)

    @property
    def run_options(self) -> RunOptions:
        """Arguments for ``subprocess.run`` that run a command as this user."""
        return {} if self.is_self else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_use(self, *paths: Path) -> bool:
        """Tell whether this user can read and traverse, or execute, all ``paths``."""
        if self.is_self:
            return True
        # The kernel decides, as that user: mode bits would miss parents, access lists and mount options.
        command = ["/bin/sh", "-c", _CAN_USE, "sh", *map(str, paths)]
        try:
            return subprocess.run(command, check=False, cwd="/", **self.run_options).returncode == 0  # noqa: S603 - our own script
        except OSError as error:
            raise ConfigurationError(
                f"nothing runs as user {self.name!r} here ({error}): start the devstack as an ordinary user"
            ) from error

    def own(self, path: Path) -> None:
        """Make this user the owner of ``path`` and of all below it."""
        if self.is_self:
            return
        for below in (path, *path.rglob("*")):
            os.chown(below, self.uid, self.gid, follow_symlinks=False)


def choose_account(data: Path) -> Account:
    """Choose whom a server runs as: this user; as root the owner of ``data``, or nobody when that is new.

    Raises:
        ConfigurationError: the data belong to somebody else, or there is no user "nobody".
    """
    uid = os.geteuid()
    owner = data.stat().st_uid if data.exists() else None
    if uid:
        if owner not in (None, uid):
            raise ConfigurationError(
                f"{data} belongs to another user (uid {owner}): start the devstack as root or as that user, "
                "or choose another --directory"
            )
        return Account(uid, os.getegid())
    try:
        entry = pwd.getpwuid(owner) if owner else pwd.getpwnam(_UNPRIVILEGED)
    except KeyError as error:
        raise ConfigurationError(
            f"as root the servers run as user {owner or _UNPRIVILEGED!r}, whom this machine does not know: "
            "create that user, or start the devstack as an ordinary user"
        ) from error
    return Account(entry.pw_uid, entry.pw_gid)
