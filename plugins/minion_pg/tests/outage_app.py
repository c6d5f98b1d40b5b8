"""The application of the workers in test_outage.py."""

import os
import time

from minion_core import Minion

minion = Minion(os.environ["MINION_URL"], missing_after=6)


@minion.task(attempts=50)
def nap(seconds: float) -> str:
    """Take some time."""
    time.sleep(seconds)
    return "rested"
