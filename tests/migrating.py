"""Single migrations, over a connection of ours."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config

from morphml_ray.database import sql


def migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(sql.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def run(engine: sa.Engine, step: Any, revision: str) -> None:
    config = migrations()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        step(config, revision)
