"""The rules that a reader relies on: what is public, what is small, and who may import what."""

import ast
import inspect
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from ray import cloudpickle

import morphml_ray
from morphml_ray import errors

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "morphml_ray"

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "misc"}

PUBLIC_NAMES = {
    "__version__",
    "ArchitectureRecord",
    "ArtifactStore",
    "DatabaseManager",
    "DistributedCache",
    "Experiment",
    "ExperimentRecord",
    "Recorder",
    "Storage",
    "StorageConfig",
    "connect",
    "register_codec",
    # every error
    "AlreadyExistsError",
    "BackendUnavailable",
    "ConfigurationError",
    "ConflictError",
    "CorruptDataError",
    "DeadlineExceeded",
    "LeaseLostError",
    "MorphMLRayError",
    "NotFoundError",
    "OutcomeUnknownError",
    "Overloaded",
    "StaleEpochError",
    "UntrustedDataError",
    "ValidationError",
}

# Where below morphml_ray/ a third-party package may be imported; a folder ends with a slash.
SQL = ("database/sql/",)
NEAR_RAY = (
    *("rpc/", "database/manager.py", "database/parts.py", "cache/manager.py", "experiments/", "storage.py"),
    *(
        f"artifacts/{name}.py"
        for name in ("store", "node_actors", "node_channel", "file_transfers", "file_chunks", "batch_download")
    ),
    *("artifacts/progress.py", "cli/", "devstack/", "integrations/", "testing/"),
)
MAY_IMPORT = {
    "sqlalchemy": SQL,
    "alembic": SQL,
    "psycopg2": (*SQL, "devstack/"),
    "redis": ("cache/redis/",),
    "boto3": ("artifacts/s3/",),
    "botocore": ("artifacts/s3/",),
    "obstore": ("artifacts/s3/",),
    "ray": NEAR_RAY,
    "zstandard": ("checkpoints/compression.py",),
}

# What runs code that is in data.
UNPICKLER = re.compile(
    r"(^|\.)(_?pickle|cloudpickle|dill|marshal|shelve|joblib|torch)\.(loads?|open|Unpickler)$|\.read_pickle$"
)

# Files that say what is installed, and pip's words for an index beside addresses of one.
INSTALL_FILES = ("constraints.txt", "pyproject.toml", "Makefile", ".pre-commit-config.yaml", ".ci", ".github")
INDEX_ADDRESS = re.compile(
    r"--(extra-)?index-url|--find-links|--trusted-host|(PIP|UV)_\w*(INDEX|LINKS)|\w+://\S*(pypi|/simple\b)",
    re.IGNORECASE,
)

ERROR_CLASSES = [
    cls
    for cls in vars(errors).values()
    if inspect.isclass(cls) and issubclass(cls, errors.MorphMLRayError) and cls.__module__ == errors.__name__
]

Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions_of(source: str) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def lines_of_code(function: Function, source: str) -> int:
    """Lines of a function without its docstring, blank lines and comments."""
    numbers = set(range(function.lineno, (function.end_lineno or 0) + 1))
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        numbers -= set(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    lines = source.splitlines()
    return sum(1 for number in numbers if (text := lines[number - 1].strip()) and not text.startswith("#"))


def imported_packages(source: str) -> set[str]:
    """Top-level packages that a file imports, inside functions and for type checking too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found


def unpickling(source: str) -> set[str]:
    """What a file uses, or imports, that unpickles; a second name for a module of that kind would hide it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            origin = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names = [f"{origin}{alias.name}" + (".load" if alias.asname else "") for alias in node.names]
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            found.add(ast.unparse(node))
        found |= {name for name in names if UNPICKLER.search(name)}
    return found


def can_fail(test: Function) -> bool:
    """Whether a test holds something that can fail by what the test sees."""
    return any(isinstance(node, ast.Assert) or is_checking_call(node) for node in ast.walk(test))


def is_checking_call(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    name = getattr(called, "attr", getattr(called, "id", ""))
    return name in {"raises", "warns"} or name.lstrip("_").startswith(("assert", "check", "wait"))


def error_tree(cls: type[Exception] = errors.MorphMLRayError, depth: int = 0) -> list[str]:
    """The error classes in the order of their definition, indented by depth."""
    builtin = [base.__name__ for base in cls.__bases__ if base.__module__ == "builtins"] if depth else []
    lines = ["  " * depth + cls.__name__ + (f"({', '.join(builtin)})" if builtin else "")]
    for child in ERROR_CLASSES:
        if cls in child.__bases__:
            lines += error_tree(child, depth + 1)
    return lines


def test_public_names_are_exactly_these() -> None:
    assert sorted(morphml_ray.__all__) == sorted(PUBLIC_NAMES)
    assert {cls.__name__ for cls in ERROR_CLASSES} <= PUBLIC_NAMES


@pytest.mark.parametrize("name", sorted(PUBLIC_NAMES - {"__version__"}))
def test_every_public_name_says_what_it_is(name: str) -> None:
    assert inspect.getdoc(getattr(morphml_ray, name))


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
@pytest.mark.parametrize("cls", ERROR_CLASSES)
def test_lesson_50_every_error_survives_pickling(cls: type[Exception], pickler: ModuleType) -> None:
    error = cls("sqlite: save_architecture g1:00: the disk is full")
    copy = pickler.loads(pickler.dumps(error))
    assert type(copy) is cls
    assert (copy.args, str(copy)) == (error.args, str(error))


def test_error_tree_is_the_text_at_the_top() -> None:
    text = inspect.cleandoc(errors.__doc__ or "").partition("::\n\n")[2].partition("\n\n")[0]
    documented = re.findall(r"^ {4}( *\w+(?:\(\w+\))?)", text, re.MULTILINE)
    assert documented == error_tree()


def test_files_are_short() -> None:
    files = python_files("morphml_ray", "tests", "examples", "benchmarks", ".ci")
    lengths = {shown(file): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_functions_are_short() -> None:
    lengths: dict[str, int] = {}
    for file in python_files("morphml_ray"):
        source = file.read_text(encoding="utf-8")
        for function in functions_of(source):
            lengths[f"{shown(file)}:{function.lineno} {function.name}"] = lines_of_code(function, source)
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


def test_modules_have_names_that_say_something() -> None:
    vague = [shown(file) for file in python_files("morphml_ray") if VAGUE_NAMES & {file.stem, file.parent.name}]
    assert vague == []


@pytest.mark.parametrize(("package", "places"), MAY_IMPORT.items(), ids=MAY_IMPORT)
def test_third_party_packages_stay_in_their_place(package: str, places: tuple[str, ...]) -> None:
    importers = {
        file.relative_to(PACKAGE).as_posix()
        for file in python_files("morphml_ray")
        if package in imported_packages(file.read_text(encoding="utf-8"))
    }
    assert {name for name in importers if not name.startswith(places)} == set()


def test_ray_remote_stands_in_one_file() -> None:
    users = {
        shown(file)
        for file in python_files("morphml_ray")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "ray.remote"
    }
    assert users == {"morphml_ray/rpc/deploy.py"}


def test_lesson_17_unpickling_stands_in_one_file() -> None:
    # The contract suites are tests themselves: they unpickle what they have just pickled.
    files = [file for file in python_files("morphml_ray") if "testing" not in file.parts]
    found = {shown(file): unpickling(file.read_text(encoding="utf-8")) for file in files}
    assert {name: used for name, used in found.items() if used} == {"morphml_ray/serde/pickled.py": {"pickle.loads"}}


def test_every_test_can_fail() -> None:
    idle = [
        f"{shown(file)}:{function.name}"
        for file in python_files("tests", "morphml_ray/testing")
        for function in functions_of(file.read_text(encoding="utf-8"))
        if function.name.startswith("test_") and not can_fail(function)
    ]
    assert idle == []


def test_no_file_names_a_package_index() -> None:
    paths = [ROOT / name for name in INSTALL_FILES]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    named = {shown(file): INDEX_ADDRESS.findall(file.read_text(encoding="utf-8")) for file in files}
    assert {name for name, found in named.items() if found} == set()
    assert len(named) >= len(INSTALL_FILES)


def test_license_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert " ".join(text.split("\n\n")[0].split()[:6]) == "Apache License Version 2.0, January 2004"
    for part in ("3. Grant of Patent License.", "END OF TERMS AND CONDITIONS", "APPENDIX: How to apply"):
        assert part in text


def test_these_rules_can_be_broken() -> None:
    idle, busy = functions_of("def test_a():\n    run()\n\ndef test_b():\n    with raises(E):\n        run()\n")
    assert (can_fail(idle), can_fail(busy)) == (False, True)
    source = 'def f():\n    """Text."""\n\n    # why\n    return (\n        1\n    )\n'
    assert [lines_of_code(function, source) for function in functions_of(source)] == [4]
    assert imported_packages("def f():\n    import ray.tune\nfrom sqlalchemy.orm import x\nfrom . import y") == {
        "ray",
        "sqlalchemy",
    }
    hidden = "from pickle import Unpickler, dumps\nimport cloudpickle as c\nray.cloudpickle.load(f)\npd.read_pickle(f)"
    assert unpickling(f"{hidden}\nnp.load(f, allow_pickle=True)") == {
        "pickle.Unpickler",
        "cloudpickle.load",
        "ray.cloudpickle.load",
        "pd.read_pickle",
        "allow_pickle=True",
    }
    assert unpickling("import pickle\njson.loads(b)\npickle.dumps(v)\nnp.load(f, allow_pickle=False)") == set()
    assert INDEX_ADDRESS.search("--extra-index-url x")
    assert INDEX_ADDRESS.search("https://files.example/simple/")
    assert not INDEX_ADDRESS.search("https://keepachangelog.com/en/1.1.0/")
