"""When the store does not answer: say so once, wait longer each time, say when it is back."""

from __future__ import annotations

import logging
import random
import time

from minion_core.plugins import safe_url

FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0


class Outage:
    """What one thread knows about a store that may be gone.

    Attributes:
        retry_at: When to try again, by ``time.monotonic()``; 0 while all is well.
    """

    def __init__(self, logger: logging.Logger, what: str) -> None:
        """Say nothing yet.

        Args:
            logger: Where to say it.
            what: What cannot be done meanwhile.
        """
        self._logger = logger
        self._what = what
        self._since: float | None = None
        self._delay = FIRST_DELAY
        self.retry_at = 0.0

    def failed(self, error: BaseException) -> None:
        """Note a failure; only the first of a row is logged."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._delay = FIRST_DELAY
            told = safe_url(" ".join(str(error).split()))
            self._logger.error("%s: %s; trying again until it works", self._what, told)
        self.retry_at = now + self._delay * random.uniform(0.8, 1.2)  # noqa: S311
        self._delay = min(LONGEST_DELAY, self._delay * 2)

    def worked(self) -> None:
        """Note a success; after failures it is logged."""
        if self._since is not None:
            self._logger.warning("%s: works again after %.1f s", self._what, time.monotonic() - self._since)
            self._since = None
            self.retry_at = 0.0
