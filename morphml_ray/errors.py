"""The errors that ``morphml_ray`` raises.

::

    MorphMLRayError
      ConfigurationError(ValueError)       settings that cannot work: the message says what to change
      ValidationError(ValueError)          an argument that cannot be stored
      UntrustedDataError                   bytes whose signature does not verify
      NotFoundError(LookupError)           the thing named does not exist
      AlreadyExistsError                   the thing named exists already
      ConflictError                        another configuration or owner holds the place
      BackendUnavailable(ConnectionError)  a server did not answer within the deadline
        Overloaded                         an actor's queue is full: wait, then try again
      OutcomeUnknownError                  the call may or may not have taken effect
      CorruptDataError                     stored bytes that cannot be read back
      LeaseLostError                       another worker took the evaluation over
      StaleEpochError                      a newer driver took the experiment over
      DeadlineExceeded(TimeoutError)       an answer did not come in time; the call may still take effect

Each takes its message as the only argument, so each survives pickling and a trip through Ray. Messages name
the backend, the operation and the key, never a secret.
"""


class MorphMLRayError(Exception):
    """Any error of ``morphml_ray``."""


class ConfigurationError(MorphMLRayError, ValueError):
    """Settings that cannot work; the message says what to change."""


class ValidationError(MorphMLRayError, ValueError):
    """An argument that cannot be stored."""


class UntrustedDataError(MorphMLRayError):
    """Bytes whose signature does not verify; they were not unpickled."""


class NotFoundError(MorphMLRayError, LookupError):
    """The thing named does not exist."""


class AlreadyExistsError(MorphMLRayError):
    """The thing named exists already."""


class ConflictError(MorphMLRayError):
    """Another configuration or another owner holds the place."""


class BackendUnavailable(MorphMLRayError, ConnectionError):  # noqa: N818 - the public contract fixes the name
    """A server did not answer within the deadline."""


class Overloaded(BackendUnavailable):
    """An actor's queue is full: nothing was taken, wait and try again."""


class OutcomeUnknownError(MorphMLRayError):
    """The call may or may not have taken effect."""


class CorruptDataError(MorphMLRayError):
    """Stored bytes that cannot be read back."""


class LeaseLostError(MorphMLRayError):
    """Another worker took the evaluation over."""


class StaleEpochError(MorphMLRayError):
    """A newer driver took the experiment over."""


class DeadlineExceeded(MorphMLRayError, TimeoutError):  # noqa: N818 - the public contract fixes the name
    """An answer did not come in time; the call may still take effect."""
