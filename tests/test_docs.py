"""What README and docs say, tried out: code blocks run, links lead somewhere, commands exist."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import ray
from ray.util import list_named_actors

from morphml_ray.cli import main
from morphml_ray.config import DEFAULT_NAMESPACE

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]

FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>[^<>]*?)\s*-->\n+\Z")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
COMMAND = re.compile(r"(?:^|`|\s)(?P<program>morphml-ray|make|python -m)(?P<words>(?: [\w.-]+)+)", re.MULTILINE)

pytestmark = pytest.mark.parametrize("page", PAGES, ids=IDS)


class Block(NamedTuple):
    """A fenced block of a page.

    Attributes:
        language: the word behind the fence.
        line: the number of its first line of code.
        code: what is in it.
        reason: why it is not run; None where it is.
    """

    language: str
    line: int
    code: str
    reason: str | None


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        mark = NOT_RUN.search(text, 0, match.start())
        line = text.count("\n", 0, match.start("code")) + 1
        found.append(Block(match["language"], line, match["code"], mark["reason"] if mark else None))
    return found


def program_of(page: Path) -> str:
    """All code of a page that runs, each block on the lines that it has there: tracebacks then name the page's."""
    lines: list[str] = []
    for block in blocks_of(page):
        if block.language == "python" and block.reason is None:
            lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    return "\n".join(lines)


@pytest.fixture
def address(request: pytest.FixtureRequest, page: Path) -> Iterator[str]:
    """Where a page finds Ray: the README starts its own, as its reader does; the others meet that of the session."""
    if page.name == "README.md":
        yield "local"
        return
    request.getfixturevalue("cluster")
    yield ray.get_runtime_context().gcs_address
    for actor in list_named_actors(all_namespaces=True):
        if actor["namespace"] == DEFAULT_NAMESPACE:
            ray.kill(ray.get_actor(actor["name"], namespace=DEFAULT_NAMESPACE))


def test_python_blocks_run(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    program = program_of(page)
    if not program:
        assert all(block.language != "python" or block.reason for block in blocks_of(page))
        return
    address = request.getfixturevalue("address")
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("MORPHML_", "AWS_"))}
    run = f"exec(compile({program!r}, {str(page)!r}, 'exec'), {{'__name__': '__main__'}})"
    answer = subprocess.run(
        [sys.executable, "-c", run],
        cwd=tmp_path,
        env={**settings, "RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled", "HOME": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert answer.returncode == 0, answer.stderr


def test_blocks_that_are_not_run_say_why(page: Path) -> None:
    assert [block.line for block in blocks_of(page) if block.reason == ""] == []
    marks = page.read_text(encoding="utf-8").count("<!-- not run")
    assert sum(block.reason is not None for block in blocks_of(page)) == marks


def test_links_lead_to_files(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [match["target"].partition("#")[0] for match in LINK.finditer(text)]
    relative = [target for target in targets if target and "://" not in target]
    assert [target for target in relative if not (page.parent / target).exists()] == []


def test_commands_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = page.read_text(encoding="utf-8")
    shown = "\n".join([*re.findall(r"`([^`\n]+)`", text), *(b.code for b in blocks_of(page) if b.language == "bash")])
    missing = [match[0].strip() for match in COMMAND.finditer(shown) if not exists(match["program"], match["words"])]
    assert missing == []
    assert capsys.readouterr().err == ""


def exists(program: str, words: str) -> bool:
    """Tell whether a command is there: a target, a module that runs, a subcommand of ours."""
    first = words.split(maxsplit=1)[0]
    if program == "make":
        return bool(re.search(rf"^{re.escape(first)}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    if program == "morphml-ray":
        return has_subcommand(first)
    path = ROOT / first.replace(".", "/")
    return first in ("pip", "build", "venv") or (path / "__main__.py").exists() or path.with_suffix(".py").exists()


def has_subcommand(name: str) -> bool:
    if name.startswith("-"):
        return name in ("--help", "--version")
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    return stop.value.code == 0
