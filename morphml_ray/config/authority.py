"""What the URLs of servers have in common: user, password, host, port, options."""

import ipaddress
import re
from collections.abc import Callable, Collection
from urllib.parse import unquote

from morphml_ray.config.references import Reference, is_plain_text, parse_reference
from morphml_ray.errors import ConfigurationError

Options = tuple[tuple[str, str | Reference], ...]

_FILE_PASSWORD = re.compile(r"(?P<userinfo>[^:@/?#]*:file:/[^@?#]*)@(?P<rest>.*)", re.DOTALL)
_HOST_AND_PORT = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<host>[\w.-]*))(?::(?P<port>[0-9]{0,5}))?")
_MAX_PORT = 65535


def split_url(rest: str) -> tuple[str | None, str, str]:
    """Cut what follows ``://`` into user information, host with port, and the tail that begins with / or ?.

    Raises:
        ConfigurationError: it can be cut in several ways.
    """
    by_file = _FILE_PASSWORD.fullmatch(rest)
    authority = re.match(r"[^/?#]*", by_file["rest"] if by_file else rest)
    assert authority is not None  # noqa: S101 - the pattern also matches nothing
    tail = authority.string[authority.end() :]
    if "@" in tail or "#" in tail or (by_file and "@" in authority[0]):
        raise ConfigurationError(
            "The URL is ambiguous: an @ stands after a / or ?, or a # stands in it. Percent-encode these in the "
            "user name, the password and the options: @ as %40, / as %2F, # as %23, ? as %3F, : as %3A, % as %25"
        )
    if by_file:
        return by_file["userinfo"], authority[0], tail
    userinfo, at, hostport = authority[0].rpartition("@")
    return (userinfo if at else None), hostport, tail


def read_userinfo(userinfo: str | None, scheme: str) -> tuple[str | None, str | Reference | None]:
    """Read user and password; ``scheme`` is for the message.

    Raises:
        ConfigurationError: a reference stands in place of the user.
    """
    if userinfo is None:
        return None, None
    user, _, password = userinfo.partition(":")
    if user in ("env", "file") and password:
        raise ConfigurationError(
            f"A reference stands in place of the password only: {scheme}://user:env:NAME@host/database "
            f"or {scheme}://user:file:/path@host/database"
        )
    return decode(user) or None, read_secret(password) or None


def read_host(hostport: str, advice: str) -> tuple[str, str]:
    """Read host and port, "" for what is not stated.

    Args:
        hostport: what stands there.
        advice: what to do instead of things that a host cannot be here; ends the message.

    Raises:
        ConfigurationError: one of them is wrong.
    """
    match = _HOST_AND_PORT.fullmatch(hostport)
    port = (match["port"] or "") if match else ""
    if match is None or (match["ipv6"] is not None and not _is_ipv6(match["ipv6"])):
        raise ConfigurationError(
            f"The host or the port of the URL is wrong. An IPv6 address stands in brackets: {advice}; "
            "special characters in a password are percent-encoded"
        )
    if port and not 0 < int(port) <= _MAX_PORT:
        raise ConfigurationError(f"The port of the URL is not between 1 and {_MAX_PORT}")
    return match["ipv6"] or match["host"] or "", port


def read_options(
    query: str, public: Collection[str], secret: Collection[str], refuse: Callable[[str], ConfigurationError]
) -> Options:
    """Read what follows the question mark.

    Args:
        query: what stands there.
        public: the options whose values may be shown.
        secret: those whose values may not.
        refuse: makes the error for any other name, since its value could be a secret under a misspelt name.

    Raises:
        ConfigurationError: there is another option.
    """
    options = []
    for pair in filter(None, query.split("&")):
        key, _, value = pair.partition("=")
        name = decode(key)
        if name not in public and name not in secret:
            raise refuse(name)
        plain = value.replace("+", " ")  # as SQLAlchemy and redis-py read it
        options.append((name, read_secret(plain) if name in secret else decode(plain)))
    return tuple(options)


def read_secret(text: str) -> str | Reference:
    """Read a reference, or a percent-encoded secret."""
    return parse_reference(text) or decode(text)


def decode(text: str) -> str:
    """Decode what is percent-encoded.

    Raises:
        ConfigurationError: it is no printable text.
    """
    decoded = unquote(text, errors="surrogateescape")
    if not is_plain_text(decoded):
        raise ConfigurationError("The URL holds percent-encoded bytes that are not printable UTF-8 text")
    return decoded


def refuse_masked(secrets: Collection[str | Reference]) -> None:
    """Refuse the copy of a URL that was made for showing.

    Raises:
        ConfigurationError: a secret is ``***``.
    """
    if "***" in secrets:
        raise ConfigurationError("The URL's password is ***: this is a masked copy, state the password itself")


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
