"""What a user gets from pip: the wheel is complete, and the pinned set covers what the package asks for."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("demo", "local", "test", "bench")
CONSTRAINTS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this folder as it is, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


def closure(name: str, extras: tuple[str, ...]) -> Iterator[str]:
    """Names of all installed packages that a package with these extras asks for, on this Python."""
    waiting, seen = [(name, extra) for extra in ("", *extras)], set()
    while waiting:
        package, extra = item = waiting.pop()
        if item in seen:
            continue
        seen.add(item)
        try:
            requirements = [Requirement(text) for text in requires(package) or ()]
        except PackageNotFoundError:
            continue
        yield package
        for requirement in requirements:
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(requirement.name)
                waiting += [(needed, wanted) for wanted in ("", *requirement.extras)]


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    files = (ROOT / "morphml_ray").rglob("*")
    written = {f.relative_to(ROOT).as_posix() for f in files if f.is_file() and "__pycache__" not in f.parts}
    assert {name for name in packed if ".dist-info/" not in name} == written
    assert "morphml_ray/py.typed" in packed
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in packed)


def test_wheel_works_without_the_source_tree(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    look = "import morphml_ray as m; print(m.__file__); print(m.__version__)"
    answer = subprocess.run(
        [sys.executable, "-c", look], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120
    )
    file, version = answer.stdout.split()
    assert Path(file).is_relative_to(tmp_path)
    assert version == metadata("morphml-ray")["Version"]


def test_metadata_is_what_was_promised() -> None:
    facts = metadata("morphml-ray")
    assert facts["Requires-Python"] == ">=3.10"
    assert facts["License-Expression"] == "Apache-2.0"
    assert {"local", "test", "demo", "bench"} <= set(facts.get_all("Provides-Extra") or ())


def test_every_pin_is_exact() -> None:
    assert [str(pin) for pin in CONSTRAINTS if not re.fullmatch(r"==[\w.]+", str(pin.specifier))] == []


def test_every_package_in_use_is_pinned_once() -> None:
    applying = [canonicalize_name(pin.name) for pin in CONSTRAINTS if not pin.marker or pin.marker.evaluate()]
    assert len(applying) == len(set(applying)), "two pins of one package apply to this Python"
    needed = set(closure("morphml-ray", EXTRAS)) - {"morphml-ray"}
    assert needed - set(applying) == set()


def test_pins_keep_to_the_ranges_of_the_package() -> None:
    pins = {canonicalize_name(p.name): p for p in CONSTRAINTS if not p.marker or p.marker.evaluate()}
    for requirement in map(Requirement, requires("morphml-ray") or ()):
        pin = pins.get(canonicalize_name(requirement.name))
        if pin is not None:
            (version,) = pin.specifier
            assert requirement.specifier.contains(version.version), f"{pin} is outside {requirement}"
