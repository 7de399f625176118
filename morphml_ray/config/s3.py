"""S3 URLs: ``s3://bucket/prefix?endpoint_url=http://host:port&region=name``."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, urlsplit

from morphml_ray.config.authority import Options, decode, read_secret, refuse_masked
from morphml_ray.config.references import Reference
from morphml_ray.errors import ConfigurationError

# What the options may be; None takes any text.
_CHOICES: dict[str, tuple[str, ...] | None] = {
    "endpoint_url": None,
    "region": None,
    "sse": ("AES256", "aws:kms", "aws:kms:dsse"),
    "sse_kms_key_id": None,
    "create_bucket": ("0", "1"),
    "addressing_style": ("auto", "path", "virtual"),
}
# A key id is no secret, but it may stand as a reference, and a mistyped one may be the secret.
SECRET_OPTIONS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
# What is stored, and where, depends on these.
_IDENTIFYING = ("endpoint_url", "sse", "sse_kms_key_id")
_WORDS = {"true": "1", "yes": "1", "false": "0", "no": "0"}

# Stricter than old buckets of us-east-1 and just what other servers take.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, repr=False)
class S3Url:
    """The parts of an S3 URL, percent-decoded; its repr shows none of them.

    Attributes:
        bucket: its name.
        prefix: what all keys below the URL begin with, without slashes at its ends; "" for the whole bucket.
        options: what follows the question mark, sorted by name.
    """

    bucket: str
    prefix: str
    options: Options
    scheme: ClassVar[str] = "s3"
    path: ClassVar[Path | None] = None

    @property
    def secrets(self) -> tuple[str | Reference, ...]:
        """The parts of the credentials that the URL states."""
        return tuple(value for name, value in self.options if name in SECRET_OPTIONS)

    def option(self, name: str) -> str | None:
        """Give an option's text; None where the URL does not state it."""
        value = dict(self.options).get(name)
        return value.text if isinstance(value, Reference) else value

    @property
    def is_bucket_created(self) -> bool:
        """Whether a missing bucket is made."""
        return self.option("create_bucket") != "0"

    def render(self, show: Callable[[str | Reference], str]) -> str:
        """Give the URL's text, in which ``show`` writes each secret."""
        return self._text(self.options, show)

    @property
    def identity(self) -> str:
        """What tells this place from others: endpoint, bucket, prefix, and how objects are encrypted."""
        return self._text(tuple(pair for pair in self.options if pair[0] in _IDENTIFYING), str)

    def _text(self, options: Options, show: Callable[[str | Reference], str]) -> str:
        written = "&".join(
            f"{name}={show(value) if name in SECRET_OPTIONS else quote(str(value), safe=':/')}"
            for name, value in options
        )
        prefix = f"/{quote(self.prefix, safe='/!$()*,:=@~')}" if self.prefix else ""
        return f"s3://{self.bucket}{prefix}{'?' if written else ''}{written}"


def parse_s3(rest: str, relative_to: Path | None) -> S3Url:  # noqa: ARG001 - one signature a scheme
    """Read what follows ``s3://``.

    Raises:
        ConfigurationError: a part that is wrong or unknown. The message shows no part of the URL, since any part
            may turn out to be a piece of a secret.
    """
    place, _, query = rest.partition("?")
    bucket, _, prefix = place.partition("/")
    if "@" in bucket or ":" in bucket:
        raise ConfigurationError(
            "An S3 URL holds neither credentials nor a host before the bucket's name: s3://bucket/prefix"
            "?endpoint_url=http://host:port&aws_access_key_id=env:NAME&aws_secret_access_key=env:NAME, "
            "or leave the credentials to boto3's own chain"
        )
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise ConfigurationError(
            "An S3 URL begins with the name of a bucket (3 to 63 of a-z, 0-9, - and .): s3://bucket/prefix"
        )
    if "#" in rest:
        raise ConfigurationError("An S3 URL holds a #: write %23 if it belongs to the prefix or to a value")
    return S3Url(bucket, _read_prefix(prefix), _read_options(query))


def _read_prefix(text: str) -> str:
    prefix = decode(text).strip("/")
    if any(segment in ("", ".", "..") for segment in prefix.split("/")) and prefix:
        raise ConfigurationError("The prefix of an S3 URL has no empty segment and none that is . or ..")
    return prefix


def _read_options(query: str) -> Options:
    options: dict[str, str | Reference] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        if name in options:
            raise ConfigurationError(f"The URL states {name} twice")
        if name in SECRET_OPTIONS:
            options[name] = read_secret(value)  # a + stays: secret keys hold it
        else:
            options[name] = _read_public(name, decode(value))
        if options[name] == "":
            raise ConfigurationError(f"The URL states no value for {name}")
    refuse_masked([options[name] for name in SECRET_OPTIONS if name in options])
    _check_together(options)
    return tuple(sorted(options.items(), key=lambda pair: pair[0]))


def _read_public(name: str, value: str) -> str:
    if name not in _CHOICES:
        near = difflib.get_close_matches(name, [*_CHOICES, *SECRET_OPTIONS], n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join([*_CHOICES, *SECRET_OPTIONS])}"
        raise ConfigurationError(f"The URL holds an option that S3 URLs do not have; {hint}")
    choices = _CHOICES[name]
    if name == "create_bucket":
        value = _WORDS.get(value.lower(), value)
    if choices is not None and value not in choices:
        raise ConfigurationError(f"The option {name} of an S3 URL is one of {', '.join(choices)}")
    return _read_endpoint(value) if name == "endpoint_url" else value


def _read_endpoint(value: str) -> str:
    try:
        parts = urlsplit(value)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        has_host = False
    if not has_host or parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigurationError(
            "endpoint_url is the address of the S3 server and nothing else: http://host:port or https://host"
        )
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _check_together(options: dict[str, str | Reference]) -> None:
    stated = [name for name in SECRET_OPTIONS if name in options]
    if stated and not {"aws_access_key_id", "aws_secret_access_key"} <= set(stated):
        raise ConfigurationError("The URL states aws_access_key_id and aws_secret_access_key together, or neither")
    if "sse_kms_key_id" in options and not str(options.get("sse", "")).startswith("aws:kms"):
        raise ConfigurationError("sse_kms_key_id needs sse=aws:kms or sse=aws:kms:dsse beside it")
