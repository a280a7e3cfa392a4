"""When to try a server again that could not be reached.

A thousand instances lose a server in the same moment. Were each to try again at once, or all after the
same time, the server would be met by all of them as it comes up, and go down again.
"""

import random
import time
from collections.abc import Callable

SPREAD_SECONDS = 1.0


class Gate:
    """Lets tries through; after a failed one it is shut for a random part of `SPREAD_SECONDS`.

    The whole of the time is random ("full jitter"), so that instances that failed together are spread
    over all of it, and the one that waits longest is still back a second after the server.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        part: Callable[[], float] = random.random,
    ) -> None:
        """Be open; `part` gives a number from 0 to 1."""
        self._clock = clock
        self._part = part
        self.opens_at = 0.0

    @property
    def shut(self) -> bool:
        """Whether it is too early for another try."""
        return self._clock() < self.opens_at

    def failed(self) -> None:
        """Take down that a try has failed."""
        self.opens_at = self._clock() + SPREAD_SECONDS * self._part()
