"""Locks on this machine: one process at a time changes a tracking store for the same purpose."""

import hashlib
import os
import platform
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from advalign.errors import CheckFailed

WAIT = 600  # seconds
UNDER_WAY = 120  # seconds after which the move of an alias counts as cut off


@contextmanager
def exclusive(uri: str, purpose: str) -> Iterator[None]:
    """Hold a machine-wide lock while the block runs; the lock ends with the process, even if killed.

    Args:
        uri: of the store; clones with the same store share the lock.
        purpose: "promote", "publish".

    Raises:
        CheckFailed: another process has held the lock for ten minutes.
    """
    plain = re.sub(r"//[^/]*@", "//", uri).replace("//localhost", "//127.0.0.1").rstrip("/")
    key = hashlib.sha256(f"{os.getuid()} {plain}".encode()).hexdigest()[:16]
    try:
        path = Path(tempfile.gettempdir()) / f"advalign-{key}-{purpose}.lock"
        with FileLock(path, timeout=WAIT):
            yield
    except Timeout:
        raise CheckFailed(f"another process on this machine holds the lock to {purpose}: try again later") from None


def may_be_alive(host: str, process: int, since: float) -> bool:
    """Whether a process that began a short task may still be running it.

    Args:
        host, process: of the task. For this process itself the answer is no, since it holds the lock.
        since: start of the task, seconds since 1970; clocks of machines may differ by less than two minutes.
    """
    if abs(time.time() - since) > UNDER_WAY:
        return False
    if host != platform.node():
        return True
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's
    return True
