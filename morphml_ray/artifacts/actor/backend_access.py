"""How an artifact actor reaches its backend: opened late, tried again through outages, tidied up after them."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

from morphml_ray.artifacts.actor.admission import Transfer
from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.config import BackendUrl
from morphml_ray.errors import BackendUnavailable, ConfigurationError, MorphMLRayError
from morphml_ray.rpc.patience import Patience

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.05
SERVER_TIMEOUT_S = 10.0
PURGE_EVERY_S = 6 * 3600.0
PURGE_AGAIN_S = 60.0
PURGE_AGE_S = 7 * 24 * 3600.0
"""Nobody uploads for a week: what is older was left behind by a crash."""

T = TypeVar("T")
Work = Callable[[ArtifactBackend, Transfer], T]


class BackendAccess:
    """The one backend of an actor; of one event loop.

    Args:
        url: of the store.
        deadline_s: how long an outage is waited out, seconds.
        has_home: the actor is the only one, so that a directory may be behind the URL.
    """

    def __init__(self, url: BackendUrl, deadline_s: float, *, has_home: bool) -> None:
        self._url = url
        self._deadline_s = deadline_s
        self._has_home = has_home
        self._backend: ArtifactBackend | None = None
        self._opening = threading.Lock()
        self._failure = ""
        self._failed_at = 0.0
        self._outage: str | None = None
        self._is_stopping = False
        self._purge_at = 0.0
        self._tidying = ThreadPoolExecutor(1, thread_name_prefix="morphml-tidy")

    async def run(self, work: Work[T], transfer: Transfer, threads: Executor) -> T:
        """Do work on a thread, again and again until the store answers or nothing has moved for the deadline.

        Args:
            work: blocks; is told the backend and ``transfer``.
            transfer: says how far it is.
            threads: where it runs.

        Raises:
            BackendUnavailable: the store stayed unavailable.
        """
        loop = asyncio.get_running_loop()
        patience = Patience(self._deadline_s, first_pause_s=FIRST_PAUSE_S)
        while not self._is_stopping:
            try:
                result = await loop.run_in_executor(threads, lambda: work(self._opened(), transfer))
            except BackendUnavailable as error:
                if self._outage is None:
                    logger.warning("Transfers wait: %s", error)
                self._outage = str(error)
                patience.renew(self._deadline_s - transfer.idle_s)
                # Between two attempts no thread is held: others may be luckier.
                if not await patience.pause_async():
                    raise
                transfer.restart()
            else:
                self._note_answer()
                return result
        raise BackendUnavailable("the artifact actor is shutting down")

    def silent_s(self) -> float:
        """Tell for how long the store has answered nothing, in seconds."""
        return time.monotonic() - (0.0 if self._backend is None else self._backend.answered_at)

    def status(self) -> dict[str, Any]:
        """Tell the status of the store, without asking it."""
        return {"is_open": self._backend is not None, "outage": self._outage}

    def stop_trying(self) -> None:
        """Let what runs end, and begin nothing more."""
        self._is_stopping = True

    def close(self) -> None:
        """Close all connections; blocks."""
        self._tidying.shutdown(wait=True, cancel_futures=True)
        if self._backend is not None:
            self._backend.close()

    def verify(self, url: BackendUrl) -> None:
        """Open the store with another URL of it, and close it again; blocks."""
        self._open(url).close()

    def _opened(self) -> ArtifactBackend:
        if self._backend is not None:
            return self._backend
        asked_at = time.monotonic()
        with self._opening:
            if self._backend is None:
                if self._failed_at > asked_at:  # while this thread waited: once more would take as long again
                    raise BackendUnavailable(self._failure)
                try:
                    self._backend = self._open(self._url)
                except BackendUnavailable as error:
                    self._failure, self._failed_at = str(error), time.monotonic()
                    raise
            return self._backend

    def _open(self, url: BackendUrl) -> ArtifactBackend:
        backend = create_artifact_backend(url, timeout_s=min(SERVER_TIMEOUT_S, self._deadline_s))
        is_reference = url.path is None
        if is_reference and not self._has_home and url.resolve("artifacts").startswith("file:"):
            raise ConfigurationError(
                f"{url.masked} leads to a directory, which is on one node only: state it as file:///path"
            )
        backend.open()
        return backend

    def _note_answer(self) -> None:
        """After an outage, and now and then, free what was left unfinished."""
        if self._is_stopping or (self._outage is None and time.monotonic() < self._purge_at):
            return
        self._outage = None
        self._purge_at = time.monotonic() + PURGE_EVERY_S
        self._tidying.submit(self._purge)

    def _purge(self) -> None:
        try:
            purged = self._opened().purge_uploads(PURGE_AGE_S)
        except BackendUnavailable as error:
            self._purge_at = time.monotonic() + PURGE_AGAIN_S
            logger.info("Unfinished uploads are left for later: %s", error)
        except MorphMLRayError as error:  # such as a right that is missing: soon again would be in vain
            logger.warning("Unfinished uploads cannot be freed: %s", error)
        else:
            if purged:
                logger.info("Freed %d unfinished uploads", purged)


def create_artifact_backend(url: BackendUrl, *, timeout_s: float = 10.0) -> ArtifactBackend:
    """Make the backend that a URL names, not opened yet. To be called where it will be used: references are followed.

    Args:
        url: of a bucket of S3, or of a directory.
        timeout_s: how long a server may be silent.

    Raises:
        ConfigurationError: a reference cannot be followed here, or leads to something else than artifacts.
    """
    if url.resolve("artifacts").startswith("file:"):
        from morphml_ray.artifacts.local import LocalArtifactBackend  # noqa: PLC0415 - only what is used is loaded

        return LocalArtifactBackend(url)
    from morphml_ray.artifacts.s3 import S3ArtifactBackend  # noqa: PLC0415 - see above

    return S3ArtifactBackend(url, timeout_s=timeout_s)
