"""The tail of the change table -> whoever reads, whoever wrote it.

One thread a process, and only while somebody reads. A commit of this process wakes it at once; those of
others are found by looking five times a second. What it cannot read now, because the database is away, say, it
reads later: nothing depends on having been told.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from django.db import DatabaseError, connections

from events import recorder

logger = logging.getLogger("events")

POLL_SECONDS: Final = 0.2
_LONGEST_PAUSE: Final = 5.0


class Relay:
    """Calls `step` whenever there may be something new, until `stop`. `step` returns True if there is more."""

    def __init__(self, step: Callable[[], bool]) -> None:
        self._step = step
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self.failures = 0
        self.last_failure = ""

    def start(self) -> None:
        recorder.call_after_commit(self._wake.set)
        self._thread = threading.Thread(target=self._run, name="events-relay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended. Not for the event loop."""
        self._stopped = True
        recorder.do_not_call(self._wake.set)
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        pause = POLL_SECONDS
        try:
            while not self._stopped:
                self._wake.wait(pause)
                self._wake.clear()
                pause = self._turn(pause)
        finally:
            connections.close_all()

    def _turn(self, pause: float) -> float:
        """Reads all there is; returns how long to wait at most before the next look."""
        try:
            while not self._stopped and self._step():
                pass
        except Exception as error:  # Without this thread readers would hear nothing more, and not know it.
            # Read in other threads: who sees that there was one finds what it was.
            self.last_failure = f"{time.strftime('%H:%M:%S')} {error}"
            self.failures += 1
            trace = None if isinstance(error, DatabaseError) else error
            logger.warning(
                "The changes cannot be read now, and will be read later: %s", error, exc_info=trace
            )
            connections.close_all()
            return min(_LONGEST_PAUSE, pause * 2)
        return POLL_SECONDS
