import copy
import enum
import os
import pickle
import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError as PydanticError

from morphml_ray.config import BackendUrl, StorageConfig
from morphml_ray.errors import ConfigurationError

NOBODY = 65534
SECRET = "S3NTINEL-word"  # noqa: S105 - the word that nothing may show


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "ROOT", "DEADLINE_S", "POOL_SIZE", "ECHO", "QUEUE_MAX_ROWS", "QUEUE_MAX_BYTES"):
        monkeypatch.delenv(f"MORPHML_{name}", raising=False)


def told_by(error: BaseException) -> str:
    context = error.__cause__ or error.__context__
    return "".join(traceback.format_exception(error)) + repr(vars(error)) + (told_by(context) if context else "")


def test_the_embedded_default(tmp_path: Path) -> None:
    config = StorageConfig()
    assert config.root == tmp_path / "morphml_storage"
    assert config.database is None
    assert config.database_url.path == tmp_path / "morphml_storage" / "morphml.db"
    assert (config.deadline_s, config.pool_size, config.echo) == (30.0, 5, False)
    assert (config.queue_max_rows, config.queue_max_bytes) == (50_000, 256 * 1024 * 1024)
    assert not config.is_database_stated
    assert config.model_fields_set == set()


def test_arguments_win_over_environment_over_file_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("morphml.toml").write_text('database = "sqlite:///file.db"\npool_size = 2\ndeadline_s = 2\necho = true\n')
    monkeypatch.setenv("MORPHML_DATABASE_URL", "sqlite:///env.db")
    monkeypatch.setenv("MORPHML_POOL_SIZE", "3")
    monkeypatch.setenv("MORPHML_QUEUE_MAX_ROWS", "")
    config = StorageConfig(database="sqlite:///argument.db")
    assert config.database_url.path == Path.cwd() / "argument.db"
    assert StorageConfig().database_url.path == Path.cwd() / "env.db"
    assert (config.pool_size, config.deadline_s, config.echo, config.queue_max_rows) == (3, 2.0, True, 50_000)
    assert config.model_fields_set == {"database", "pool_size", "deadline_s", "echo"}
    monkeypatch.delenv("MORPHML_DATABASE_URL")
    assert StorageConfig().database_url.path == Path.cwd() / "file.db"
    assert StorageConfig().is_database_stated


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("MORPHML_ROOT", "data", "root", Path("data")),
        ("MORPHML_DEADLINE_S", "1.5", "deadline_s", 1.5),
        ("MORPHML_POOL_SIZE", "7", "pool_size", 7),
        ("MORPHML_ECHO", "true", "echo", True),
        ("MORPHML_QUEUE_MAX_ROWS", "10", "queue_max_rows", 10),
        ("MORPHML_QUEUE_MAX_BYTES", "2000000", "queue_max_bytes", 2_000_000),
        ("MORPHML_DATABASE_URL", "env:NAS", "database", BackendUrl("env:NAS")),
    ],
)
def test_each_setting_has_a_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, field: str, value: object
) -> None:
    monkeypatch.setenv(variable, text)
    expected = Path.cwd() / value if isinstance(value, Path) else value
    assert getattr(StorageConfig(), field) == expected
    assert StorageConfig().model_fields_set == {field}


def test_a_bare_database_variable_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE", "DATABASE_URL", "MORPHML_DATABASE", "ROOT"):
        monkeypatch.setenv(name, "sqlite:///wrong.db")
    assert StorageConfig().model_fields_set == set()


def test_none_states_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORPHML_DATABASE_URL", "sqlite:///env.db")
    config = StorageConfig(database=None, root=None, pool_size=None)
    assert config.database_url.path == Path.cwd() / "env.db"
    assert config.model_fields_set == {"database"}


def test_root_is_absolute_and_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert StorageConfig(root="~/nas").root == Path("/home/ann/nas")
    assert StorageConfig(root=Path("nas")).root == Path.cwd() / "nas"


def test_a_root_with_odd_characters_gives_a_database(tmp_path: Path) -> None:
    root = tmp_path / "100% #1 é"
    assert StorageConfig(root=root).database_url.path == root / "morphml.db"
    with pytest.raises(ConfigurationError, match="choose another"):
        _ = StorageConfig(root=tmp_path / "what?").database_url


@pytest.mark.parametrize(
    ("name", "near"),
    [("databse", "database"), ("database_url", "database"), ("pool", "pool_size"), ("_env_file", "known are")],
)
def test_an_unknown_name_is_refused_with_its_neighbours(name: str, near: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Unknown argument: {name}; .*{near}"):
        StorageConfig(**{name: SECRET})
    Path("morphml.toml").write_text(f'{name} = "{SECRET}"\n')
    with pytest.raises(ConfigurationError, match=rf"Unknown key in morphml.toml: {name}; .*{near}") as caught:
        StorageConfig()
    assert SECRET not in told_by(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deadline_s", 0),
        ("deadline_s", float("nan")),
        ("deadline_s", float("inf")),
        ("deadline_s", SECRET),
        ("pool_size", 0),
        ("pool_size", 1000),
        ("pool_size", 2.5),
        ("echo", SECRET),
        ("queue_max_rows", 0),
        ("queue_max_bytes", 10),
        ("root", f"postgresql://ann:{SECRET}@h/db"),
        ("root", 5),
        ("database", 5),
        ("database", f"postgresql://ann:{SECRET}@h"),
    ],
)
def test_a_wrong_value_names_the_argument_and_not_the_value(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"^argument {name}: ") as caught:
        StorageConfig(**{name: value})
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert SECRET not in told_by(caught.value)


def test_a_wrong_value_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORPHML_DATABASE_URL", f"postgres://ann:{SECRET}@h")
    monkeypatch.setenv("MORPHML_POOL_SIZE", SECRET)
    with pytest.raises(ConfigurationError) as caught:
        StorageConfig(echo="true")
    assert "environment variable MORPHML_DATABASE_URL: The URL names no database" in str(caught.value)
    assert "; environment variable MORPHML_POOL_SIZE: " in str(caught.value)
    assert SECRET not in told_by(caught.value)


def test_a_wrong_value_names_the_file() -> None:
    Path("morphml.toml").write_text(f'database = "mysql://ann:{SECRET}@h/db"\n')
    with pytest.raises(ConfigurationError, match=r"^database in morphml.toml: The URL scheme mysql://") as caught:
        StorageConfig()
    assert SECRET not in told_by(caught.value)


@pytest.mark.parametrize("content", [f'database = "{SECRET}'.encode(), f"x = {SECRET}".encode(), b'x = "\xff"'])
def test_a_file_that_is_no_toml_is_refused_without_its_text(content: bytes) -> None:
    Path("morphml.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"morphml.toml is not valid TOML") as caught:
        StorageConfig()
    assert SECRET not in told_by(caught.value)


def test_a_file_that_cannot_be_read_is_an_error() -> None:
    Path("morphml.toml").write_text("pool_size = 2\n")
    assert StorageConfig().pool_size == 2
    Path("morphml.toml").chmod(0)
    uid = os.geteuid()
    os.seteuid(NOBODY if uid == 0 else uid)  # permission bits do not apply to root
    try:
        with pytest.raises(ConfigurationError, match=r"morphml.toml cannot be read: Permission denied"):
            StorageConfig()
    finally:
        os.seteuid(uid)


def test_the_settings_cannot_be_changed() -> None:
    config = StorageConfig()
    with pytest.raises(PydanticError, match="frozen"):
        config.pool_size = 3  # type: ignore[misc]  # that it is read-only is the point
    assert config == copy.deepcopy(config) == StorageConfig()
    assert hash(config) == hash(StorageConfig())


def test_validating_a_mapping_hides_it_too() -> None:
    with pytest.raises(ValueError, match="names no database") as caught:
        StorageConfig.model_validate({"database": f"postgresql://ann:{SECRET}@h"})
    assert SECRET not in str(caught.value)


def test_case_36_root_as_an_argument_beats_the_urls_of_variables_and_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MORPHML_DATABASE_URL", "postgresql://user@host/database")
    monkeypatch.setenv("MORPHML_CACHE_URL", "redis://host:6379/0")
    (tmp_path / "morphml.toml").write_text('artifacts = "s3://bucket"\npool_size = 3\n')
    monkeypatch.chdir(tmp_path)
    config = StorageConfig(root="/data/old")
    urls = [config.database_url, config.cache_url, config.artifacts_url]
    assert [url.masked for url in urls] == ["sqlite:////data/old/morphml.db", "memory://", "file:///data/old/artifacts"]
    assert config.model_fields_set == {"root", "pool_size"}
    assert config.pool_size == 3
    assert StorageConfig(root="/data/old", cache="redis://other").cache_url.masked == "redis://other:6379/0"
    monkeypatch.setenv("MORPHML_ROOT", "/data/of/the/environment")
    from_variables = StorageConfig()
    assert [from_variables.database_url.scheme, from_variables.artifacts_url.scheme] == ["postgresql", "s3"]


class Place(str, enum.Enum):
    DATABASE = "sqlite:////data/morphml.db"
    ROOT = "/data/root"


def test_case_61_enums_of_texts_become_plain_texts() -> None:
    config = StorageConfig(database=Place.DATABASE, root=Place.ROOT)
    assert type(config.database_url.reveal()) is str
    assert str(config.root) == "/data/root"
    assert "Place" not in repr(pickle.dumps(config.database_url))
