"""``python -m morphml_ray.cli``: the command where its script is not on the path."""

import sys

from morphml_ray.cli import main

sys.exit(main())
