"""The key that pickles are signed with: from the environment, or a private file made on first use."""

import contextlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn, final

from blake3 import blake3

from morphml_ray.config.private_files import create_private_file
from morphml_ray.config.references import parse_reference
from morphml_ray.errors import ConfigurationError

SIGNATURE_BYTES = 32
ENVIRONMENT_VARIABLE = "MORPHML_SIGNING_KEY"
_DEFAULT = Path("~/.morphml_ray/signing.key")
_MIN_CHARACTERS = 32
_MAX_FILE_BYTES = 4096
_KEY_CONTEXT = "morphml_ray 2026-01 signing key"
_ID_CONTEXT = "morphml_ray 2026-01 signing key id"


@final
class SigningKey:
    """Signs pickles and checks signatures; never shown, and never sent to another process.

    Each process loads its own with ``load_signing_key``.

    Attributes:
        id: 4 bytes that tell keys apart and reveal nothing of them.
    """

    __slots__ = ("_secret", "id")

    def __init__(self, text: str) -> None:
        """Derive a key.

        Args:
            text: at least 32 characters that nobody can guess; the same text gives the same key.

        Raises:
            ConfigurationError: ``text`` is too short.
        """
        if len(text) < _MIN_CHARACTERS:
            raise ConfigurationError(
                f"A signing key needs at least {_MIN_CHARACTERS} characters, this one has {len(text)}: make one with "
                "python -c 'import secrets; print(secrets.token_hex(32))'"
            )
        self._secret = blake3(text.encode("utf-8", "surrogatepass"), derive_key_context=_KEY_CONTEXT).digest()
        self.id = blake3(self._secret, derive_key_context=_ID_CONTEXT).digest(4)

    def sign(self, parts: Iterable[bytes | memoryview], bound_to: str = "") -> bytes:
        """Give the signature of ``parts``, read one after the other, which is good at the place ``bound_to`` only."""
        hasher = blake3(key=self._secret_for(bound_to))
        for part in parts:
            hasher.update(part)
        return hasher.digest(SIGNATURE_BYTES)

    def verifies(self, data: bytes | memoryview, signature: bytes | memoryview, bound_to: str = "") -> bool:
        """Whether ``signature`` is that of ``data`` at this place; takes the same time wherever they differ."""
        return hmac.compare_digest(self.sign([data], bound_to), bytes(signature))

    def _secret_for(self, bound_to: str) -> bytes:
        """Derive a key for each place; no text is the beginning of an envelope, so none is signed by mistake."""
        return (
            blake3(bound_to.encode("utf-8", "surrogatepass"), key=self._secret).digest() if bound_to else self._secret
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SigningKey) and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"SigningKey(<hidden>, id={self.id.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key is not sent to other processes: each loads its own with load_signing_key()")


def load_signing_key(path: Path | None = None) -> SigningKey:
    """Give this process's signing key.

    It is the text of the environment variable ``MORPHML_SIGNING_KEY``, which may also be a reference (``env:NAME``,
    ``file:/absolute/path``); an empty one counts as unset. Without it, it is the text of a file, made with a random
    key on first use: processes that start together get the same one. Nodes that do not share the file make different
    keys and refuse each other's pickles; set the variable there.

    Args:
        path: the file; default ``~/.morphml_ray/signing.key``.

    Returns:
        The key.

    Raises:
        ConfigurationError: the key is too short, or its file cannot be read or made, belongs to another user or can
            be read by others.
    """
    text = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    if text:
        return _key_of_variable(text)
    file = _DEFAULT if path is None else path
    try:
        file = file.expanduser().absolute()
        with contextlib.suppress(FileNotFoundError):
            return _key_of_file(file)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Of several processes at once the first wins. It lasts: without it, what was signed could never be read again.
        create_private_file(file, f"{secrets.token_hex(32)}\n")
        return _key_of_file(file)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"The signing key {file} cannot be read or made: {reason}. Set {ENVIRONMENT_VARIABLE} instead"
        ) from error


def _key_of_variable(text: str) -> SigningKey:
    try:
        reference = parse_reference(text)
        return SigningKey(text if reference is None else reference.read().strip())
    except ConfigurationError as error:
        raise ConfigurationError(f"{ENVIRONMENT_VARIABLE}: {error}") from error


def _key_of_file(file: Path) -> SigningKey:
    """Read a key through one descriptor, so that what was checked is what is read."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_private(file, os.fstat(descriptor))
        content = os.read(descriptor, _MAX_FILE_BYTES)
    finally:
        os.close(descriptor)
    try:
        return SigningKey(content.decode("utf-8", "surrogateescape").strip())
    except ConfigurationError as error:
        raise ConfigurationError(f"The signing key {file} cannot be used: {error}") from error


def _check_private(file: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"The signing key {file} is no regular file")
    if status.st_uid != os.geteuid():
        raise ConfigurationError(f"The signing key {file} belongs to another user, who could have chosen it")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigurationError(
            f"The signing key {file} is open to other users: make a new one (delete it) if they may have read "
            f"it, or close it with chmod 600 {file}"
        )
