"""The contract of an artifact backend, as tests."""

from morphml_ray.testing.artifacts.chunked_uploads import ChunkedUploadContract
from morphml_ray.testing.artifacts.files import FileContract
from morphml_ray.testing.artifacts.keys import KeyContract
from morphml_ray.testing.artifacts.listing import ListingContract
from morphml_ray.testing.artifacts.objects import ObjectContract
from morphml_ray.testing.artifacts.planted import PlantedContract


class ArtifactContract(
    ObjectContract, KeyContract, FileContract, ChunkedUploadContract, ListingContract, PlantedContract
):
    """What every ``morphml_ray.artifacts.contract.ArtifactBackend`` does.

    A class below it has five fixtures; all but the first go past the backend, straight to the disk or the server, so
    that no write is checked by its own read (their types are in ``raw_hooks``):

    - ``artifacts``: an opened backend without objects, for one test.
    - ``stored``: a function that gives the data of the object with the key it is given; None where there is none.
    - ``plant``: a function that stores data under a key, as another program would; replaces what is there.
    - ``damage``: a function that changes one stored byte of the object with the key it is given, and nothing of what
      the backend keeps beside the data.
    - ``leftovers``: a function that lists what stands there for writes that did not end.
    """
