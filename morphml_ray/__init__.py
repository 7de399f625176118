"""Ray-native distributed storage for neural architecture search."""

from importlib.metadata import version

from morphml_ray.client.artifacts import ArtifactStore
from morphml_ray.client.cache import DistributedCache
from morphml_ray.client.database import DatabaseManager
from morphml_ray.client.experiment import Experiment
from morphml_ray.client.recorder import Recorder
from morphml_ray.client.storage import Storage, connect
from morphml_ray.config import StorageConfig
from morphml_ray.errors import (
    AlreadyExistsError,
    BackendUnavailable,
    ConfigurationError,
    ConflictError,
    CorruptDataError,
    DeadlineExceeded,
    LeaseLostError,
    MorphMLRayError,
    NotFoundError,
    OutcomeUnknownError,
    Overloaded,
    StaleEpochError,
    UntrustedDataError,
    ValidationError,
)
from morphml_ray.identity import register_codec
from morphml_ray.model.records import ArchitectureRecord, ExperimentRecord

__version__ = version("morphml-ray")

__all__ = [
    "AlreadyExistsError",
    "ArchitectureRecord",
    "ArtifactStore",
    "BackendUnavailable",
    "ConfigurationError",
    "ConflictError",
    "CorruptDataError",
    "DatabaseManager",
    "DeadlineExceeded",
    "DistributedCache",
    "Experiment",
    "ExperimentRecord",
    "LeaseLostError",
    "MorphMLRayError",
    "NotFoundError",
    "OutcomeUnknownError",
    "Overloaded",
    "Recorder",
    "StaleEpochError",
    "Storage",
    "StorageConfig",
    "UntrustedDataError",
    "ValidationError",
    "__version__",
    "connect",
    "register_codec",
]
