"""The settings of a storage: arguments, environment, ``morphml.toml``, defaults."""

import difflib
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, cast, get_args

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from morphml_ray.config.local import local_text
from morphml_ray.config.schemes import Kind
from morphml_ray.config.sqlite import sqlite_text
from morphml_ray.config.urls import BackendUrl
from morphml_ray.errors import ConfigurationError

CONFIG_FILE = "morphml.toml"
_MIB = 1024 * 1024


def _read_directory(value: Any) -> Any:
    if isinstance(value, str) and "://" in value:
        # Not shown: it is probably a database URL in the wrong place.
        raise ValueError("it must be a directory, not a URL; a database URL belongs to database")
    if not isinstance(value, (str, Path)):
        return value
    plain = str.__str__(value) if isinstance(value, str) else value  # of an Enum of texts, too
    return Path(os.path.expanduser(plain)).absolute()  # noqa: PTH111 - Path.expanduser raises for an unknown user


Directory = Annotated[Path, BeforeValidator(_read_directory)]


class StorageConfig(BaseSettings):
    """The settings of a storage.

    Each is taken from the first of these that states it: an argument (None states nothing), an environment
    variable, ``morphml.toml`` in the current directory, the default. ``root`` as an argument states all three places:
    URLs of variables and of the file do not count beside it. Variables are ``MORPHML_`` and the name
    in capitals (an empty one states nothing); URLs end in ``_URL``: ``MORPHML_DATABASE_URL``. Keys of the file
    are the names of the arguments.

    The object may hold a secret in plain text, and so does its pickle: it stays in the driver and is never an
    argument of a Ray call. Send ``stash_secret(config.database_url)`` instead.

    Attributes:
        database: where results go; None means the SQLite file ``<root>/morphml.db``.
        cache: where what can be computed again is kept for a while; None means the memory of its actor.
        artifacts: where large objects go; None means the directory ``<root>/artifacts``.
        root: the directory of the embedded backends; relative ones start from the current directory.
        deadline_s: how long an outage is waited out, in seconds.
        pool_size: the most connections that the database actor opens.
        echo: whether SQL statements are logged.
        queue_max_rows: how many rows may wait in the database actor before it answers "overloaded".
        queue_max_bytes: how many bytes may wait there.
        cache_timeout_s: how long a cache may leave one read or write of the network unanswered, in seconds.

    Raises:
        ConfigurationError: an unknown or wrong setting; the message names where it was stated and shows no
            value.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)

    database: BackendUrl | None = None
    cache: BackendUrl | None = None
    artifacts: BackendUrl | None = None
    root: Directory = Field(default_factory=lambda: Path("morphml_storage"))
    deadline_s: float = Field(default=30.0, gt=0, le=86_400, allow_inf_nan=False)
    pool_size: int = Field(default=5, ge=1, le=100)
    echo: bool = False
    queue_max_rows: int = Field(default=50_000, ge=1, le=10_000_000)
    queue_max_bytes: int = Field(default=256 * _MIB, ge=_MIB)
    cache_timeout_s: float = Field(default=1.0, gt=0, le=60, allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        stated = {name: value for name, value in values.items() if value is not None}
        _refuse_unknown(values, type(self).model_fields, "argument")
        problem = ""
        try:
            super().__init__(**stated)
        except ValidationError as error:
            problem = _explain(error, stated)
        if problem:  # raised here, because an error's context would carry what pydantic was given
            raise ConfigurationError(problem)

    @field_validator(*get_args(Kind))
    @classmethod
    def _check_kind(cls, url: BackendUrl | None, info: ValidationInfo) -> BackendUrl | None:
        try:
            if url is not None:
                url.check_kind(cast("Kind", info.field_name))  # each URL is named after its kind
        except ConfigurationError as error:
            raise PydanticCustomError("backend_url", "{problem}", {"problem": str(error)}) from None
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - it cannot add _URL to some names
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no .env files
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - references do this
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Give the sources, the strongest first."""
        hidden: tuple[str, ...] = get_args(Kind) if "root" in init_settings() else ()
        return init_settings, EnvironmentSource(settings_cls, hidden), FileSource(settings_cls, hidden)

    @property
    def database_url(self) -> BackendUrl:
        """The database's URL: the one stated, or the embedded default."""
        return self.database or BackendUrl(sqlite_text(self.root / "morphml.db"))

    @property
    def cache_url(self) -> BackendUrl:
        """The cache's URL: the one stated, or the embedded default."""
        return self.cache or BackendUrl("memory://")

    @property
    def artifacts_url(self) -> BackendUrl:
        """The URL of the artifacts: the one stated, or the embedded default."""
        return self.artifacts or BackendUrl(local_text(self.root / "artifacts"))

    @property
    def is_root_stated(self) -> bool:
        """Whether an argument, the environment or the file names the root, and so all three places."""
        return "root" in self.model_fields_set

    @property
    def is_database_stated(self) -> bool:
        """Whether an argument, the environment or the file names the database."""
        return "database" in self.model_fields_set

    @property
    def is_cache_stated(self) -> bool:
        """Whether an argument, the environment or the file names the cache."""
        return "cache" in self.model_fields_set

    @property
    def are_artifacts_stated(self) -> bool:
        """Whether an argument, the environment or the file names the place of the artifacts."""
        return "artifacts" in self.model_fields_set


class EnvironmentSource(PydanticBaseSettingsSource):
    """Settings from environment variables.

    Args:
        settings_cls: the class of the settings.
        hidden: settings that are not taken from here.
    """

    def __init__(self, settings_cls: type[BaseSettings], hidden: Collection[str] = ()) -> None:
        super().__init__(settings_cls)
        self._hidden = hidden

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Give one variable's value, or None."""
        return os.environ.get(variable_of(field_name, field)) or None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Give the values of all variables that are set."""
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None and name not in self._hidden}


class FileSource(TomlConfigSettingsSource):
    """Settings from ``morphml.toml`` in the current directory; without that file there are none.

    Args:
        settings_cls: the class of the settings.
        hidden: settings that are not taken from here.

    Raises:
        ConfigurationError: the file cannot be read or holds an unknown key.
    """

    def __init__(self, settings_cls: type[BaseSettings], hidden: Collection[str] = ()) -> None:
        self._hidden = hidden
        path = Path(CONFIG_FILE).absolute()
        problem = ""
        try:
            super().__init__(settings_cls, path)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            problem = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        if problem:  # raised here, because such an error carries the file's text
            raise ConfigurationError(f"{path} is not valid TOML: {problem}")
        _refuse_unknown(self.toml_data, settings_cls.model_fields, f"key in {CONFIG_FILE}")

    def __call__(self) -> dict[str, Any]:
        """Give the values that the file states."""
        return {name: value for name, value in super().__call__().items() if name not in self._hidden}


def variable_of(name: str, field: FieldInfo) -> str:
    """Give the environment variable of a setting."""
    is_url = BackendUrl in (field.annotation, *get_args(field.annotation))
    return f"MORPHML_{name.upper()}{'_URL' if is_url else ''}"


def _refuse_unknown(stated: Iterable[str], known: Iterable[str], noun: str) -> None:
    names = sorted(known)
    for name in stated:
        if name not in names:
            near = difflib.get_close_matches(name, names)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(names)}"
            raise ConfigurationError(f"Unknown {noun}: {name}; {hint}")


def _explain(error: ValidationError, arguments: Mapping[str, Any]) -> str:
    """Say which settings are wrong and where they were stated, without a value."""
    lines = []
    for problem in error.errors(include_input=False, include_context=False, include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        field = StorageConfig.model_fields.get(name)
        variable = variable_of(name, field) if field else ""
        if name in arguments:
            origin = f"argument {name}"
        elif os.environ.get(variable):
            origin = f"environment variable {variable}"
        else:
            origin = f"{name} in {CONFIG_FILE}"
        lines.append(f"{origin}: {problem['msg']}")
    return "; ".join(lines)
