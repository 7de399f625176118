"""Real servers from wheels, on this machine, for development and tests; they leave no process behind.

``python -m morphml_ray.devstack up`` runs them from a shell; ``DevStack`` does the same from Python.
"""

from morphml_ray.devstack.postgres import PostgresServer
from morphml_ray.devstack.seaweedfs import SeaweedServer
from morphml_ray.devstack.server import SupervisedServer
from morphml_ray.devstack.stack import DevStack
from morphml_ray.devstack.valkey import ValkeyServer

__all__ = ["DevStack", "PostgresServer", "SeaweedServer", "SupervisedServer", "ValkeyServer"]
