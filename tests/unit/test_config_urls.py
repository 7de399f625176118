import copy
import dataclasses
import io
import json
import logging
import pickle
import sys
import traceback
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter
from pydantic import ValidationError as PydanticError
from sqlalchemy import make_url

from morphml_ray.config import BackendUrl, StorageConfig, fingerprint
from morphml_ray.errors import ConfigurationError

SECRET = "S3NTINEL-word"  # noqa: S105 - the word that nothing may show
PLAIN = f"postgresql://ann:{SECRET}@db.example:5433/nas"


class Holder(BaseModel):
    url: BackendUrl
    count: int = 0


@dataclasses.dataclass
class Box:
    url: BackendUrl


def everything_shown_by(url: BackendUrl) -> str:
    log = io.StringIO()
    logger = logging.getLogger("morphml_ray.shown")
    logger.addHandler(handler := logging.StreamHandler(log))
    logger.error("%s %r %s", url, url, {"url": url})
    logger.removeHandler(handler)
    holder = Holder(url=url)
    return "\n".join(
        [
            repr(url),
            str(url),
            f"{url} {url!r} {url!s} {url:>80}",
            log.getvalue(),
            repr(Box(url)),
            str(dataclasses.asdict(Box(url))),
            repr(holder),
            str(holder.model_dump()),
            str(holder.model_dump(mode="json")),
            holder.model_dump_json(),
            url.masked,
            url.fingerprint_text,
            str(url.path),
        ]
    )


def everything_told_by(error: BaseException) -> str:
    told = traceback.format_exception(error)
    seen: BaseException | None = error
    while seen is not None:
        told += [repr(seen), str(seen), str(vars(seen))]
        seen = seen.__cause__ or seen.__context__
    return "\n".join(told)


def refusal_of(text: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        BackendUrl(text)  # type: ignore[arg-type]  # wrong types are tried as well
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2", "PostgreSQL"])
def test_postgresql_is_spelt_with_its_driver(scheme: str) -> None:
    url = BackendUrl(f"{scheme}://ann:pw@host/db")
    assert url.reveal() == url.resolve() == "postgresql+psycopg2://ann:pw@host/db"
    assert url.masked == "postgresql+psycopg2://ann:***@host/db"
    assert url.scheme == "postgresql"
    assert url.path is None


@pytest.mark.parametrize(
    ("text", "host", "port", "query"),
    [
        ("postgresql://ann@[::1]:5433/db", "::1", 5433, {}),
        ("postgresql://ann@[fe80::1]/db", "fe80::1", None, {}),
        (
            "postgresql://ann@h/db?sslmode=require&connect_timeout=3",
            "h",
            None,
            {"sslmode": "require", "connect_timeout": "3"},
        ),
        ("postgresql://ann@/db?host=/var/run/postgresql", None, None, {"host": "/var/run/postgresql"}),
        ("postgresql://ann@/db?host=a:5432&host=b:5433", None, None, {"host": ("a:5432", "b:5433")}),
        ("postgresql://ann@h/db?options=-c%20search_path%3Dnas", "h", None, {"options": "-c search_path=nas"}),
        ("postgresql://ann@h/db?options=-c+search_path=nas", "h", None, {"options": "-c search_path=nas"}),
    ],
)
def test_sqlalchemy_reads_what_was_meant(
    text: str, host: str | None, port: int | None, query: dict[str, object]
) -> None:
    read = make_url(BackendUrl(text).resolve())
    assert (read.drivername, read.username, read.password) == ("postgresql+psycopg2", "ann", None)
    assert (read.host, read.port, read.database, dict(read.query)) == (host, port, "db", query)


@given(user=st.text(min_size=1), password=st.text(min_size=1))
@example(user="file", password="pw")
@example(user="env", password="pw")
def test_percent_encoded_names_survive(user: str, password: str) -> None:
    def encode(text: str) -> str:
        return "".join(f"%{byte:02X}" for byte in text.encode())

    try:
        url = BackendUrl(f"postgresql://{encode(user)}:{encode(password)}@host/db")
    except ConfigurationError as error:
        assert "UTF-8" in str(error)  # noqa: PT017 - only control characters may be refused
        assert any(char < " " or char == "\x7f" for char in user + password)
    else:
        read = make_url(url.resolve())
        assert (read.username, read.password, read.host) == (user, password, "host")


SPECIAL = st.text(alphabet="@/#:?&=+% ;[]\\'\"{}$~é-._|*xyz0", max_size=6)


@given(before=SPECIAL, after=SPECIAL)
def test_a_raw_password_is_read_or_refused_but_never_shown(before: str, after: str) -> None:
    password = f"{before}{SECRET}{after}"
    try:
        url = BackendUrl(f"postgresql://ann:{password}@host/db")
    except ConfigurationError as error:
        shown = everything_told_by(error)
    else:
        shown = everything_shown_by(url)
        assert make_url(url.resolve()).host == "host"
        assert url.has_plain_secret
    assert SECRET not in shown


@given(password=st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"]), min_size=12, max_size=40))
def test_no_password_is_ever_shown(password: str) -> None:
    quiet = "postgresql+psycopg2://ann@host/db S3NTINEL ConfigurationError BackendUrl masked fingerprint"
    for text in (f"postgresql://ann:{password}@host/db", f"postgresql://ann@host/db?password={password}"):
        try:
            shown = everything_shown_by(BackendUrl(text))
        except ConfigurationError as error:
            shown = everything_told_by(error)
        assert password not in shown or password in quiet


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        f"postgresql://ann@h/db?password={SECRET}",
        f"postgresql://ann@h/db?sslmode=require&PASSWORD={SECRET}",
        f"postgresql://ann@h/db?sslmode=require&p%61ssword={SECRET}",
        f"postgresql://ann@h/db?sslpassword={SECRET}&connect_timeout=3",
        f"postgresql://ann@h/db?pasword={SECRET}",
        f"postgresql://ann@h/db&password={SECRET}",
        f"postgresql://ann@h/db;password={SECRET}",
        f"postgresql://ann@h/?dbname=db&password={SECRET}",
        f"postgres://ann:pw@h/db?oauth_client_secret={SECRET}",
    ],
)
def test_lesson_16_a_password_in_any_place_is_masked(text: str) -> None:
    try:
        url = BackendUrl(text)
    except ConfigurationError as error:
        assert SECRET not in everything_told_by(error)  # noqa: PT017 - refused or masked, both hide it
    else:
        assert SECRET not in everything_shown_by(url)
        assert SECRET in url.reveal()
        assert "***" in url.masked
        assert url.has_plain_secret


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (SECRET, "sqlite:///path/to/file.db, postgresql://"),
        (f"ann:{SECRET}@host/db", "This is not a URL"),
        (f"postgresql:/ann:{SECRET}@host/db", "This is not a URL"),
        (f"mysql://ann:{SECRET}@host/db", "Supported are sqlite"),
        (f"postgre://ann:{SECRET}@host/db", "did you mean postgres://?"),
        (f"sqllite:///{SECRET}", "did you mean sqlite://?"),
        (f"postgresql+asyncpg://ann:{SECRET}@host/db", "write postgresql://"),
        (f"sqlite+aiosqlite:///{SECRET}", "write sqlite://"),
        (f"postgresql://ann:{SECRET}@host", "names no database"),
        (f"postgresql://ann:{SECRET}@host/", "names no database"),
        (f"postgresql://ann:{SECRET}", "port"),
        (f"postgresql://ann:{SECRET}@host:99999/db", "between 1 and 65535"),
        (f"postgresql://ann:{SECRET}@::1/db", "brackets"),
        (f"postgresql://ann:{SECRET}@[nonsense]/db", "brackets"),
        (f"postgresql://ann:{SECRET}@a:1,b:2/db", "?host=a:5432&host=b:5432"),
        (f"postgresql://ann:{SECRET}@%2Fvar%2Frun/db", "?host=/var/run/postgresql"),
        (f"postgresql://ann:{SECRET}/x@host/db", "%2F"),
        (f"postgresql://ann:x#{SECRET}@host/db", "%23"),
        (f"postgresql://ann:x?{SECRET}@host/db", "%3F"),
        (f"postgresql://ann:{SECRET}%ff@host/db", "UTF-8"),
        (f"postgresql://ann:{SECRET}@host/db?sslmod=require", "did you mean sslmode"),
        (f"postgresql://ann:{SECRET}@host/db?{SECRET}=1", "LIBPQ-PARAMKEYWORDS"),
        (f"postgresql://ann:{SECRET}@host/a/b", "percent-encode"),
        (f"postgresql://ann:{SECRET}\n@host/db", "This is not a URL"),
        ("postgresql://ann:***@host/db", "masked copy"),
        ("sqlite://", "in memory"),
        ("sqlite:///", "in memory"),
        ("sqlite:///:memory:", "after a restart"),
        ("sqlite:///file:x?mode=memory", "in memory"),
        (":memory:", "after a restart"),
        ("sqlite:///dir/", "name of a file"),
        ("sqlite://dir/x.db", "three slashes"),
        (f"sqlite:///x.db?key={SECRET}", "takes no options"),
        ("sqlite:////data/what%3F.db", "choose another"),
        ("sqlite:////data/a%2541.db", "choose another"),
        ("", "This is not a URL"),
        (b"sqlite:///x.db", "must be text, not bytes"),
        (None, "must be text, not NoneType"),
    ],
)
def test_a_wrong_url_says_what_to_change(text: object, advice: str) -> None:
    with pytest.raises(ConfigurationError, match=r".") as caught:
        BackendUrl(text)  # type: ignore[arg-type]  # wrong types are tried as well
    assert advice in str(caught.value)
    assert SECRET not in everything_told_by(caught.value)


def test_a_missing_driver_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    assert "pip install psycopg2-binary" in refusal_of(PLAIN)
    assert BackendUrl("sqlite:///x.db").scheme == "sqlite"


def test_the_driver_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "psycopg2", raising=False)
    assert BackendUrl(PLAIN).scheme == "postgresql"
    assert "psycopg2" not in sys.modules


def test_relative_sqlite_paths_start_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    url = BackendUrl("sqlite:///data/x.db")
    assert url.path == tmp_path / "data" / "x.db"
    monkeypatch.chdir("/")
    assert url == BackendUrl(f"sqlite:///{tmp_path}/data/x.db") == copy.copy(url)
    assert url.resolve() == url.masked == f"sqlite:///{tmp_path}/data/x.db"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("a b.db", "a b.db"), ("a%20b.db", "a b.db"), ("100%25.db", "100%.db"), ("100%.db", "100%.db"), ("é#@:&.db",) * 2],
)
def test_sqlite_paths_mean_the_same_to_sqlalchemy(name: str, meant: str) -> None:
    url = BackendUrl(f"sqlite:////data/{name}")
    assert make_url(url.resolve()).database == str(url.path) == f"/data/{meant}"
    assert BackendUrl(url.reveal()) == url


@pytest.mark.parametrize("name", ["my%20db", "a%2Fb", "b%C3%A9", "x%3D1"])
def test_odd_database_names_become_an_option(name: str) -> None:
    url = BackendUrl(f"postgresql://ann:pw@h/{name}?sslmode=require")
    read = make_url(url.resolve())
    assert not read.database
    assert dict(read.query) == {"dbname": unquote(name), "sslmode": "require"}
    assert url.fingerprint_text.endswith(f"@h:5432/{name}")
    assert BackendUrl(url.reveal()) == url


def test_home_is_expanded_in_sqlite_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert BackendUrl("sqlite:///~/x.db").path == Path("/home/ann/x.db")


def test_links_to_one_file_have_one_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    one, two = (BackendUrl(f"sqlite:///{tmp_path}/{name}/x.db") for name in ("real", "link"))
    assert fingerprint(one) == fingerprint(two)
    assert one != two


@pytest.mark.parametrize(
    "same",
    [
        "postgres://ann:other@db.example/nas",
        "postgresql://ann@DB.example:5432/nas?connect_timeout=3&sslmode=require",
        "postgresql://ann:env:PG@db.example/nas",
        "postgresql://%61nn@db.example/nas",
        "postgresql:///nas?host=db.example&user=ann",
    ],
)
def test_one_database_has_one_fingerprint(same: str) -> None:
    url = BackendUrl("postgresql://ann:pw@db.example/nas")
    assert url.fingerprint_text == "postgresql://ann@db.example:5432/nas"
    assert BackendUrl(same).fingerprint_text == url.fingerprint_text
    assert fingerprint(BackendUrl(same)) == fingerprint(url)
    assert len(bytes.fromhex(fingerprint(url))) == 8


@pytest.mark.parametrize(
    "other",
    [
        "postgresql://bob@db.example/nas",
        "postgresql://ann@db2.example/nas",
        "postgresql://ann@db.example:5433/nas",
        "postgresql://ann@db.example/other",
        "postgresql://ann@db.example/nas?options=-csearch_path%3Dteam",
        "postgresql://ann@/nas?host=/var/run/postgresql",
        "postgresql:///nas?service=team",
        "sqlite:///nas",
        "env:NAS",
    ],
)
def test_other_databases_have_other_fingerprints(other: str) -> None:
    assert fingerprint(BackendUrl(other)) != fingerprint(BackendUrl("postgresql://ann@db.example/nas"))


def test_a_url_is_an_immutable_value() -> None:
    url, same, other = BackendUrl(PLAIN), BackendUrl(PLAIN), BackendUrl(PLAIN.replace(SECRET, "x"))
    assert url == same == copy.deepcopy(url) == copy.copy(url)
    assert pickle.loads(pickle.dumps(url)) == url  # noqa: S301 - our own bytes
    assert {url, same, other} == {url, other}
    assert url != other
    assert url != PLAIN
    with pytest.raises(AttributeError, match="cannot be changed"):
        url._text = "x"
    with pytest.raises(AttributeError, match="cannot be changed"):
        del url._text


def test_pydantic_reads_and_masks_urls() -> None:
    holder = Holder.model_validate_json(json.dumps({"url": PLAIN}))
    assert holder.url == BackendUrl(PLAIN)
    assert Holder(url=holder.url) == holder == Holder(**holder.model_dump())
    assert json.loads(holder.model_dump_json())["url"] == "postgresql+psycopg2://ann:***@db.example:5433/nas"
    assert TypeAdapter(BackendUrl).json_schema() == {"type": "string"}
    assert Holder.model_json_schema(mode="serialization")["properties"]["url"]["type"] == "string"


def test_a_pydantic_error_does_not_show_the_url() -> None:
    with pytest.raises(PydanticError) as caught:
        Holder(url=f"postgresql://ann:{SECRET}@host")
    told = everything_told_by(caught.value) + str(caught.value.errors()) + caught.value.json()
    assert "names no database" in told
    assert SECRET not in told


def test_lesson_16_settings_show_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = StorageConfig(database=f"postgresql://ann@h/db?password={SECRET}")
    shown = [repr(config), str(config), str(config.model_dump()), config.model_dump_json(), f"{config.database_url}"]
    assert SECRET not in "".join(shown)
    assert SECRET in config.database_url.reveal()
