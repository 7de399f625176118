"""Suites that show whether a backend keeps its contract; pytest runs them. They need the extra ``test``.

A backend of your own is tested by a class below the contract's, with the fixtures that its docstring names::

    from morphml_ray.testing import DatabaseContract

    class TestMyDatabase(DatabaseContract):
        @pytest.fixture
        def reopen(self, tmp_path): ...

        @pytest.fixture
        def database(self, reopen): ...
"""

import pytest

pytest.register_assert_rewrite(*(f"morphml_ray.testing.{room}" for room in ("artifacts", "cache", "database")))

from morphml_ray.testing.artifacts import ArtifactContract  # noqa: E402 - pytest must hear of the modules first
from morphml_ray.testing.cache import CacheContract  # noqa: E402 - the same
from morphml_ray.testing.database import DatabaseContract  # noqa: E402 - the same

__all__ = ["ArtifactContract", "CacheContract", "DatabaseContract"]
