"""How many draws, rows or examples a test takes."""

import os

from logitchain.numeric.compile import INTERPRETED

#: `make test-long` and the like: HYPOTHESIS_PROFILE=long.
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


def effort(interpreted, quick, long=None):
    """One of these numbers: kernels that run as plain Python are a hundred times slower."""
    if INTERPRETED:
        return interpreted
    return long if LONG and long is not None else quick
