"""From the errors of boto3 and of obstore to ours, in one place."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore import exceptions as exc
from obstore.exceptions import BaseError

from morphml_ray.artifacts.credentials import missing_credentials
from morphml_ray.config.tls import is_tls_refusal
from morphml_ray.errors import (
    BackendUnavailable,
    ConfigurationError,
    ConflictError,
    CorruptDataError,
    MorphMLRayError,
    NotFoundError,
    ValidationError,
)

if TYPE_CHECKING:
    from botocore.credentials import Credentials

# What the server says, by its code (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html); HEAD has
# no body, there the code is the status.
_CONFIGURATION = {
    "NoSuchBucket": "create the bucket, or correct its name",
    "ExpiredToken": "renew the session token",
    "InvalidToken": "renew the session token",
    "TokenRefreshRequired": "renew the session token",
    "RequestTimeTooSkewed": "set this machine's clock",
    "AuthorizationHeaderMalformed": "state the bucket's region, ?region=",
    "PermanentRedirect": "state the bucket's region, ?region=",
    "IllegalLocationConstraintException": "state the bucket's region, ?region=",
    "InvalidLocationConstraint": "state a region that the server has, ?region=",
    "InvalidBucketName": "correct the bucket's name",
    "TooManyBuckets": "delete a bucket, or use one that is there",
    "BucketAlreadyExists": "choose another bucket: this one is somebody else's",
    "InvalidEncryptionAlgorithmError": "correct ?sse=",
    "NotImplemented": "the server cannot do this",
}
_RIGHTS = (
    "check the credentials and what they may do (s3:ListBucket, s3:ListBucketMultipartUploads; s3:CreateBucket where "
    "the bucket is missing; s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload)"
)
# The answer to HEAD has no body: an expired token, or another region, looks so.
_UNEXPLAINED = "the server gives no reason; renew the session token, or state the bucket's region, ?region="
_UNAVAILABLE = frozenset(
    (
        "307",
        "TemporaryRedirect",  # of a bucket that is new
        "408",
        "RequestTimeout",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "OperationAborted",
        "ConditionalRequestConflict",
        # Of a write: what it met is gone again.
        "PreconditionFailed",
    )
)
_DAMAGED = frozenset({"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "IncompleteBody"})
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_MANY, _INTERNAL = 401, 403, 404, 429, 500

# What the driver says by itself; the first that fits counts.
_DRIVER_CONFIGURATION = (
    exc.PartialCredentialsError,
    exc.ProfileNotFound,
    exc.ConfigNotFound,
    exc.ConfigParseError,
    exc.InvalidRegionError,
    exc.NoRegionError,
    exc.InvalidEndpointConfigurationError,
    exc.UnsupportedS3ConfigurationError,
    exc.TokenRetrievalError,
    exc.UnauthorizedSSOTokenError,
    exc.UnknownServiceError,
)

# The text of an obstore error is all that it has: the server's answer in it, or what became of the connection.
_ANSWER = re.compile(r"non-2xx status code: (\d{3})[^:]*: (.*?)\s*(?:\n\nDebug source:|\Z)", re.DOTALL)
_CODE, _MESSAGE = re.compile("<Code>(.*?)</Code>"), re.compile("<Message>(.*?)</Message>", re.DOTALL)
_KIND = re.compile(r"kind: (\w+)")
# Without a body, an answer has a status only.
_CODES = {"301": "PermanentRedirect", "412": "PreconditionFailed", "416": "InvalidRange"}
_NO_LOCATION = "redirect without LOCATION"
_CREDENTIALS = "External AWS credential provider"
_TRANSIENT_STATUS = frozenset({429, 500, 502, 503, 504})
_TRANSIENT_CODES = frozenset({"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable"})


@contextmanager
def in_boto3s_words(operation: str, place: str, credentials: "Credentials | None" = None) -> Iterator[None]:
    """Let errors of obstore out as boto3 would raise them, so that all that follows knows one kind.

    Args:
        operation: boto3's name of it.
        place: the server's address.
        credentials: that were asked for it, which can tell why there are none.

    Raises:
        ClientError: what the server answered.
        BotoCoreError: what became of the connection, or of the credentials.
        HTTPClientError: the same.
    """
    try:
        yield
    except ValueError as error:  # of a key
        raise exc.ParamValidationError(report=str(error)) from error
    except (BaseError, FileNotFoundError) as error:
        if credentials is not None and _CREDENTIALS in str(error):
            credentials.get_frozen_credentials()  # raises what it raised in obstore, where only the text is left
        raise _as_of_boto3(operation, place, str(error)) from error


def _as_of_boto3(operation: str, place: str, text: str) -> Exception:
    answer = _ANSWER.search(text)
    if answer or _NO_LOCATION in text:
        status, body = answer.groups() if answer else ("301", "")
        code, message = _CODE.search(body), _MESSAGE.search(body)
        said = {"Code": code[1] if code else _CODES.get(status, status), "Message": message[1] if message else ""}
        return exc.ClientError({"Error": said, "ResponseMetadata": {"HTTPStatusCode": int(status)}}, operation)  # type: ignore[typeddict-item]  # what is read of it
    kind = _KIND.search(text)
    reason = f"{text.partition('Debug source:')[0].strip()} ({kind[1] if kind else 'no more is known'})"
    if kind and kind[1] == "Timeout":
        return exc.ReadTimeoutError(endpoint_url=place, error=reason)
    if "certificate" in text.lower():
        return exc.SSLError(endpoint_url=place, error=ValueError(f"CERTIFICATE_VERIFY_FAILED: {reason}"))
    return exc.ConnectionClosedError(endpoint_url=place, error=reason)


def is_transient(error: Exception) -> bool:
    """Tell whether a request may succeed at once if it is sent again; what was waited for has had its time."""
    if isinstance(error, exc.ClientError):
        return status_of(error) in _TRANSIENT_STATUS or code_of(error) in _TRANSIENT_CODES
    return isinstance(error, exc.ConnectionClosedError)


@contextmanager
def translated(place: str, operation: str) -> Iterator[None]:
    """Let errors of boto3 out as errors of ours; those of obstore are in its words by then.

    Args:
        place: the bucket as it may be shown, without a secret.
        operation: what was tried, with its key.

    Raises:
        NotFoundError: the server says that there is no such object or upload.
        ConfigurationError: no waiting helps: wrong credentials, no right, no bucket.
        ValidationError: the server refuses what was asked.
        ConflictError: what was sent is not what was announced.
        CorruptDataError: what was received does not have the server's checksum.
        BackendUnavailable: anything else: it may work later.
    """
    try:
        yield
    except exc.ClientError as error:
        raise translate_answer(place, operation, error) from error
    except exc.FlexibleChecksumError as error:
        raise CorruptDataError(f"{place}: {operation}: {error}") from error
    except exc.ParamValidationError as error:
        raise ValidationError(f"{place} refuses {operation}: {error}") from error
    except exc.NoCredentialsError as error:
        raise missing_credentials(place) from error
    except _DRIVER_CONFIGURATION as error:
        raise ConfigurationError(f"{place} cannot be used: {error}") from error
    except (exc.BotoCoreError, exc.HTTPClientError) as error:
        raise _translate_silence(place, operation, error) from error


def code_of(error: exc.ClientError) -> str:
    """Give the server's code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: exc.ClientError) -> int:
    """Give the status of the server's answer."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def translate_answer(place: str, operation: str, error: exc.ClientError) -> MorphMLRayError:
    """Give our error for an answer of the server."""
    code, status = code_of(error), status_of(error)
    said = f"{code} {error.response.get('Error', {}).get('Message', '')}".strip()
    if code not in _CONFIGURATION:
        if code in _UNAVAILABLE or status == _TOO_MANY or status >= _INTERNAL or not status:
            return BackendUnavailable(f"{place} failed {operation}: {said}")
        if code in _DAMAGED:
            return ConflictError(f"{place} refuses {operation}: what arrived is not what was announced ({said})")
        if status == _NOT_FOUND:
            return NotFoundError(f"{place}: {operation}: {said}")
    advice = _advice(code, status)
    if advice is None:
        return ValidationError(f"{place} refuses {operation}: {said}")
    return ConfigurationError(f"{place} refuses {operation}: {said}; {advice}")


def _advice(code: str, status: int) -> str | None:
    """Give what the user can do; None where the request itself is wrong."""
    if status in (_FORBIDDEN, _UNAUTHORIZED):
        return _CONFIGURATION.get(code, _RIGHTS)
    return _CONFIGURATION.get(code, _UNEXPLAINED if code == str(status) else None)


def _translate_silence(place: str, operation: str, error: Exception) -> MorphMLRayError:
    reason = " ".join(str(error).split())
    if isinstance(error, exc.SSLError) and is_tls_refusal(reason):
        return ConfigurationError(
            f"{place} cannot be trusted or has no TLS: {reason}. Name its authority in AWS_CA_BUNDLE, or write "
            "endpoint_url=http:// to go without TLS."
        )
    return BackendUnavailable(f"{place} did not answer {operation}: {reason}")
