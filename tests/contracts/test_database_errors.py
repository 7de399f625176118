"""What a database says is known by its code, not by its words: this server speaks French."""

import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from servers import ask

from morphml_ray.config import BackendUrl
from morphml_ray.database.sql import SqlDatabase
from morphml_ray.database.sql.dialects import PostgresDialect
from morphml_ray.database.sql.driver_errors import translated
from morphml_ray.errors import BackendUnavailable, ConfigurationError, MorphMLRayError, ValidationError

DENIED = "authentification par mot de passe échouée"  # codespell:ignore
SSL_REQUEST = (80877103).to_bytes(4, "big")


class FrenchServer(socketserver.TCPServer):
    """Speaks as much of PostgreSQL's protocol as it takes to refuse a connection."""

    def __init__(self, code: str | None, words: str, *, ssl_answer: bytes, encoding: str) -> None:
        super().__init__(("127.0.0.1", 0), Refusal)
        fields = {"S": "FATAL", "V": "FATAL", "C": code, "M": words}
        told = b"".join(f"{field}{text}\0".encode(encoding) for field, text in fields.items()) + b"\0"
        self.refusal = b"E" + (len(told) + 4).to_bytes(4, "big") + told if code else b""
        self.ssl_answer = ssl_answer
        self.visits = 0


class Refusal(socketserver.StreamRequestHandler):
    server: FrenchServer

    def handle(self) -> None:
        self.server.visits += 1
        request = self.read()
        if request.startswith(SSL_REQUEST):
            self.wfile.write(self.server.ssl_answer)
            request = self.read()
        if request:
            self.wfile.write(self.server.refusal)

    def read(self) -> bytes:
        size = int.from_bytes(self.rfile.read(4), "big")
        return self.rfile.read(size - 4) if size else b""


@contextmanager
def french_server(
    code: str | None, words: str = "", *, ssl_answer: bytes = b"N", encoding: str = "utf-8"
) -> Iterator[tuple[FrenchServer, str]]:
    """Run a server; gives it and its URL."""
    with FrenchServer(code, words, ssl_answer=ssl_answer, encoding=encoding) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server, f"postgresql://ann:secret@127.0.0.1:{server.server_address[1]}/nas"
        finally:
            server.shutdown()
            thread.join()


def refusal_of(url: str) -> MorphMLRayError:
    database = SqlDatabase(BackendUrl(url))
    with closing(database), pytest.raises(MorphMLRayError) as caught:
        database.open()
    assert "secret" not in str(caught.value)
    return caught.value


CONNECTING = [
    ("28P01", DENIED, ConfigurationError, "URL"),
    ("28000", "aucune entrée dans pg_hba.conf", ConfigurationError, "URL"),
    ("3D000", "la base de données « nas » n'existe pas", ConfigurationError, "URL"),
    ("42501", "droit refusé pour la base de données", ConfigurationError, "URL"),
    ("0A000", "protocole frontal non supporté", ConfigurationError, "URL"),
    ("22023", "zone de temps non reconnue", ConfigurationError, "URL"),
    ("53300", "désolé, trop de clients sont déjà connectés", BackendUnavailable, "did not answer"),
    ("53100", "le disque est plein", BackendUnavailable, "no room"),
    ("57P03", "le système de bases de données se lance", BackendUnavailable, "did not answer"),
]


@pytest.mark.parametrize("options", ["", "?sslmode=disable"])
@pytest.mark.parametrize(("code", "words", "expected", "advice"), CONNECTING, ids=[code for code, *_ in CONNECTING])
def test_a_refused_connection(code: str, words: str, expected: type[Exception], advice: str, options: str) -> None:
    with french_server(code, words) as (_, url):
        refused = refusal_of(url + options)
    assert type(refused) is expected
    assert words in str(refused)
    assert advice in str(refused)


def test_a_refusal_in_another_encoding_than_the_driver_reads() -> None:
    with french_server("28P01", DENIED, encoding="latin-1") as (_, url):
        refused = refusal_of(url)
    assert type(refused) is ConfigurationError
    assert "FATAL" in str(refused)


def test_who_does_not_answer_is_asked_once() -> None:
    with french_server(None) as (server, url):
        assert type(refusal_of(url + "?sslmode=disable")) is BackendUnavailable
        assert server.visits == 1


def test_a_server_cannot_be_verified_without_a_certificate(tmp_path: Path) -> None:
    with french_server("28P01", ssl_answer=b"S") as (_, url):
        refused = refusal_of(f"{url}?sslmode=verify-full&sslrootcert={tmp_path}/none.crt")
    assert type(refused) is ConfigurationError


@pytest.fixture(scope="module")
def engine(migrated_postgres_url: str) -> Iterator[sa.Engine]:
    url = BackendUrl(migrated_postgres_url).resolve("database")
    engine = PostgresDialect().create_engine(url, pool_size=1, echo=False, timeout_s=10)
    yield engine
    engine.dispose()


STATEMENTS = [
    ("22003", "« 1e999 » est en dehors des limites du type double precision", ValidationError, "refused a value"),
    ("23514", "viole la contrainte de vérification", ValidationError, "refused a value"),
    ("54000", "la taille de la ligne index dépasse le maximum", ValidationError, "refused a value"),
    ("26000", "l'instruction préparée « a » n'existe pas", ConfigurationError, "URL"),
    ("3F000", "aucun schéma n'a été sélectionné pour cette création", ConfigurationError, "rights"),
    ("42501", "droit refusé pour le schéma public", ConfigurationError, "rights"),
    ("42710", "l'objet « a » existe déjà", ConfigurationError, "URL"),
    ("42P01", "la relation « events » n'existe pas", ConfigurationError, "URL"),
    ("42P07", "la relation « events » existe déjà", ConfigurationError, "URL"),
    ("53100", "n'a pas pu étendre le fichier", BackendUnavailable, "no room"),
    ("25006", "ne peut pas exécuter INSERT dans une transaction en lecture seule", BackendUnavailable, "primary"),
    ("0A000", "le plan en cache ne doit pas modifier le type en résultat", BackendUnavailable, "did not answer"),
    ("40P01", "interblocage détecté", BackendUnavailable, "did not answer"),
    ("57P01", "arrêt des connexions suite à la demande de l'administrateur", BackendUnavailable, "did not answer"),
    ("58030", "n'a pas pu lire le fichier", BackendUnavailable, "did not answer"),
]


@pytest.mark.parametrize(("code", "words", "expected", "advice"), STATEMENTS, ids=[code for code, *_ in STATEMENTS])
def test_a_refused_statement(engine: sa.Engine, code: str, words: str, expected: type[Exception], advice: str) -> None:
    fail = f"DO $do$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = $words${words}$words$; END $do$"
    with pytest.raises(expected) as caught, translated("place", "save"), engine.begin() as connection:
        connection.exec_driver_sql(fail)
    assert type(caught.value) is expected
    assert words in str(caught.value)
    assert advice in str(caught.value)


@pytest.mark.parametrize("right", ["LOGIN", "NOLOGIN"])
def test_a_role_without_rights(postgres_url: str, right: str) -> None:
    ask(postgres_url, f"CREATE ROLE guest {right} PASSWORD 'secret'")
    try:
        refused = refusal_of(f"postgresql://guest:secret@{postgres_url.partition('@')[2]}")
    finally:
        ask(postgres_url, "DROP ROLE guest")
    assert type(refused) is ConfigurationError


def test_a_password_that_is_missing(postgres_url: str) -> None:
    assert type(refusal_of(re.sub(":[^:]*@", "@", postgres_url))) is ConfigurationError
