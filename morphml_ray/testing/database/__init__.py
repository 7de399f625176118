"""The contract of a database, as tests."""

from morphml_ray.testing.database.experiments import ExperimentContract
from morphml_ray.testing.database.ranking import RankingContract
from morphml_ray.testing.database.reading import ReadingContract
from morphml_ray.testing.database.saving import SavingContract
from morphml_ray.testing.database.storing import StoringContract


class DatabaseContract(ExperimentContract, SavingContract, StoringContract, ReadingContract, RankingContract):
    """What every ``morphml_ray.database.contract.Database`` does.

    A class below it has three fixtures:

    - ``database``: an opened database without data, for one test.
    - ``reopen``: a function that closes ``database`` and gives another object, opened, over the same data. The
      fixture closes what it gave.
    - ``stored``: a function that gives the evaluations of an experiment as they are stored, by ascending id, read past
      the database: mappings with ``id``, ``replicate`` and the fields of ``EncodedEvaluation`` but ``on_duplicate``.
    """
