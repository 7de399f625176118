"""Ray-native distributed storage for neural architecture search."""

from importlib.metadata import version

from morphml_ray.artifacts.store import ArtifactStore
from morphml_ray.cache.manager import DistributedCache
from morphml_ray.config import StorageConfig
from morphml_ray.database.manager import DatabaseManager
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
from morphml_ray.experiments.experiment import Experiment
from morphml_ray.experiments.recorder import Recorder
from morphml_ray.identity import register_codec
from morphml_ray.model.records import ArchitectureRecord, ExperimentRecord
from morphml_ray.storage import Storage, connect

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
