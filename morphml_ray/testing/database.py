"""The contract of a database, as tests."""

from morphml_ray.testing.experiments import ExperimentContract
from morphml_ray.testing.ranking import RankingContract
from morphml_ray.testing.reading import ReadingContract
from morphml_ray.testing.saving import SavingContract


class DatabaseContract(ExperimentContract, SavingContract, ReadingContract, RankingContract):
    """What every ``morphml_ray.backends.contracts.Database`` does.

    A class below it has two fixtures:

    - ``database``: an opened database without data, for one test.
    - ``reopen``: a function that closes ``database`` and gives another object, opened, over the same data. The
      fixture closes what it gave.
    """
