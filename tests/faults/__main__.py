"""``python -m tests.faults``: damage run folders, packed slices and codes; say what came of it.

Exit status 1 if damage was ever taken silently, or ended in a traceback.
"""

import sys

from tests.faults.soak import soak
from tests.soaks import run_soak

if __name__ == "__main__":
    sys.exit(run_soak(soak, name="tests.faults", about=__doc__, what="faults", count=1000, failures=["bad"]))
