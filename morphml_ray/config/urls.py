"""The URL of a backend, as a value that does not show its secrets."""

import hashlib
from pathlib import Path
from typing import Any, NoReturn, final
from urllib.parse import quote

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from morphml_ray.config.references import Reference, parse_reference
from morphml_ray.config.schemes import SCHEMES, Kind, ParsedUrl, examples_of, parse_url
from morphml_ray.errors import ConfigurationError

MASK = "***"


@final
class BackendUrl:
    """Where a backend is, and how to log in to it.

    Accepted are ``sqlite:///path.db``, ``postgresql://user:password@host:port/database``,
    ``redis://user:password@host:port/number``, the same with TLS as ``rediss://``, ``memory://``,
    ``s3://bucket/prefix?endpoint_url=http://host:port``, ``file:///directory`` and references: ``env:NAME`` or
    ``file:/absolute/path`` in place of the whole URL or of its password. ``repr``, ``str``, logs, pydantic dumps and
    error messages show the masked form. Values are immutable, equal and hashable by their text, and pickle; a pickle
    holds the real text, so pass a value that has a plain secret through ``stash_secret`` before it goes into an
    argument of a Ray call.

    Args:
        text: the URL or the reference. Relative SQLite paths start from the current directory.

    Raises:
        ConfigurationError: the URL is wrong, ambiguous or unsupported, or its driver is not installed. The
            message says what to change and never shows the URL.
    """

    __slots__ = ("_fingerprint_text", "_has_plain_secret", "_masked", "_path", "_scheme", "_text")

    _text: str
    _scheme: str
    _masked: str
    _fingerprint_text: str
    _has_plain_secret: bool
    _path: Path | None

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise ConfigurationError(f"A URL must be text, not {type(text).__name__}")
        text = text.strip()
        reference = _parse_reference_to_url(text)
        if reference is not None:
            self._fill(reference.text, reference.kind, reference.text, reference.text)
            return
        url = parse_url(text, Path())
        self._fill(
            url.render(_write),
            url.scheme,
            url.render(_mask),
            url.identity,
            has_plain_secret=any(isinstance(secret, str) for secret in url.secrets),
            path=url.path,
        )

    def _fill(
        self,
        text: str,
        scheme: str,
        masked: str,
        fingerprint_text: str,
        *,
        has_plain_secret: bool = False,
        path: Path | None = None,
    ) -> None:
        values = (fingerprint_text, has_plain_secret, masked, path, scheme, text)
        for slot, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, slot, value)

    @property
    def scheme(self) -> str:
        """The technology: "sqlite", "postgresql", "redis" (with TLS too), "memory", "s3", "file".

        Of a reference to a whole URL it is "env" or "file" too.
        """
        return self._scheme

    @property
    def masked(self) -> str:
        """The text with ``***`` in place of each secret; a reference is shown as it is."""
        return self._masked

    @property
    def fingerprint_text(self) -> str:
        """What tells the data behind the URL from other data: scheme, user, host, port, database or path.

        Of a reference to a whole URL it is the reference's text.
        """
        return self._fingerprint_text

    @property
    def has_plain_secret(self) -> bool:
        """Whether the text itself holds a secret."""
        return self._has_plain_secret

    @property
    def is_stashed(self) -> bool:
        """Whether ``stored_at`` made it: a reference that is shown as the URL behind it."""
        return self._text.startswith("file:/") and self._text != self._masked

    @property
    def path(self) -> Path | None:
        """The file of a SQLite URL, the directory of a file URL; None otherwise."""
        return self._path

    def reveal(self) -> str:
        """Give the real text, secrets included and references not followed."""
        return self._text

    def resolve(self, kind: Kind | None = None) -> str:
        """Follow all references and give the text to connect with; to be called where the connection is made.

        Args:
            kind: what the backend is for; None accepts any.

        Raises:
            ConfigurationError: a variable or a file cannot be read on this host, or what it holds is no
                supported URL, or one of another kind. The message names the reference and the host, never the
                content.
        """
        reference = _parse_reference_to_url(self._text)
        url = parse_url(self._text, None) if reference is None else _parse_content(reference)
        _check_kind(url.scheme, kind, "" if reference is None else f"The content of {reference.text}: ")
        return url.render(_read)

    def check_kind(self, kind: Kind) -> None:
        """Check that the URL is one for backends of a kind; of a reference that is seen when it is resolved.

        Raises:
            ConfigurationError: it is of another kind.
        """
        # A reference file:/path has the scheme of a directory's URL file:///path.
        if self._scheme in SCHEMES and (self._scheme != "file" or "://" in self._text):
            _check_kind(self._scheme, kind, "")

    def stored_at(self, path: Path) -> "BackendUrl":
        """Give a reference to the file ``path`` that is shown, and fingerprinted, as this URL is."""
        url = object.__new__(BackendUrl)
        url._fill(Reference("file", str(path)).text, self._scheme, self._masked, self._fingerprint_text)
        return url

    def __repr__(self) -> str:
        """Show the masked text."""
        return f"BackendUrl({self._masked!r})"

    def __str__(self) -> str:
        """Give the masked text."""
        return self._masked

    def __format__(self, spec: str) -> str:
        """Format the masked text."""
        return format(self._masked, spec)

    def __eq__(self, other: object) -> bool:
        """Compare the real texts, and what they identify."""
        if not isinstance(other, BackendUrl):
            return NotImplemented
        return (self._text, self._fingerprint_text) == (other._text, other._fingerprint_text)

    def __hash__(self) -> int:
        """Hash what ``==`` compares."""
        return hash((self._text, self._fingerprint_text))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse."""
        raise AttributeError(f"a BackendUrl cannot be changed: {name}")

    def __delattr__(self, name: str) -> NoReturn:
        """Refuse."""
        raise AttributeError(f"a BackendUrl cannot be changed: {name}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the values as they are."""
        # Not by parsing again: a path must not be resolved, nor a driver looked for, where the value arrives.
        return _restore, tuple(getattr(self, slot) for slot in self.__slots__)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic read text as a URL; its JSON is the masked text."""
        return core_schema.no_info_plain_validator_function(
            _validate,
            json_schema_input_schema=core_schema.str_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(
                str, return_schema=core_schema.str_schema(), when_used="json"
            ),
        )


def fingerprint(url: BackendUrl) -> str:
    """Give 16 hex digits that tell the data behind ``url`` from other data, whatever its password."""
    return hashlib.sha256(url.fingerprint_text.encode()).hexdigest()[:16]


def _check_kind(scheme: str, kind: Kind | None, origin: str) -> None:
    if kind is not None and SCHEMES[scheme].kind != kind:
        raise ConfigurationError(
            f"{origin}A {scheme}:// URL is one for the {SCHEMES[scheme].kind}, not for the {kind}: write one of "
            f"{examples_of(kind)}"
        )


def _parse_reference_to_url(text: str) -> Reference | None:
    """Read ``text`` as a reference to a whole URL; None if it is a URL itself.

    Raises:
        ConfigurationError: it is neither.
    """
    return None if "://" in text else parse_reference(text)


def _parse_content(reference: Reference) -> ParsedUrl:
    content = reference.read().strip()
    problem = ""
    try:
        return parse_url(content, None)
    except ConfigurationError as error:
        problem = str(error)
    raise ConfigurationError(f"The content of {reference.text}: {problem}")


def _write(secret: str | Reference) -> str:
    return secret.text if isinstance(secret, Reference) else quote(secret, safe="!$'()*,")


def _mask(_: str | Reference) -> str:
    return MASK


def _read(secret: str | Reference) -> str:
    return _write(secret.read() if isinstance(secret, Reference) else secret)


def _restore(*values: Any) -> BackendUrl:
    url = object.__new__(BackendUrl)
    for slot, value in zip(BackendUrl.__slots__, values, strict=True):
        object.__setattr__(url, slot, value)
    return url


def _validate(value: Any) -> BackendUrl:
    if isinstance(value, BackendUrl):
        return value
    problem = ""
    try:
        return BackendUrl(value)
    except ConfigurationError as error:
        problem = str(error)
    # pydantic prints the input of a failed field, unless the error brings its own.
    raise ValidationError.from_exception_data(
        "BackendUrl",
        [{"type": PydanticCustomError("backend_url", "{problem}", {"problem": problem}), "input": MASK}],
    )
