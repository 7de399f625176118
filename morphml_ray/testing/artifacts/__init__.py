"""The contract of an artifact backend, as tests."""

from morphml_ray.testing.artifacts.chunked_uploads import ChunkedUploadContract
from morphml_ray.testing.artifacts.files import FileContract
from morphml_ray.testing.artifacts.listing import ListingContract
from morphml_ray.testing.artifacts.objects import ObjectContract


class ArtifactContract(ObjectContract, FileContract, ChunkedUploadContract, ListingContract):
    """What every ``morphml_ray.artifacts.contract.ArtifactBackend`` does.

    A class below it has three fixtures:

    - ``artifacts``: an opened backend without objects, for one test.
    - ``damage``: a function that changes one stored byte of the object with the key it is given, without the backend
      and without touching what the backend keeps beside the data.
    - ``leftovers``: a function that lists what stands on the disk or the server for writes that did not end.
    """
