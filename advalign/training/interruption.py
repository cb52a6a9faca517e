"""SIGTERM, which a cluster sends before it takes the machine away: the training saves its state and ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from advalign.errors import AdvalignError


class Interrupted(AdvalignError):  # noqa: N818  nothing is wrong: the same command resumes
    """The training was asked to end; its state is kept."""

    exit_code = 128 + signal.SIGTERM


class Interruption:
    """Whether SIGTERM came."""

    wanted = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler."""
        self.wanted = True


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Note SIGTERM while the block runs; outside the main thread Python has no signals, so nothing is noted."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = signal.signal(signal.SIGTERM, interruption.note)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # None: it was not set from Python
