"""One at a time on this machine: whoever changes the same tracking store for the same purpose."""

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
UNDER_WAY = 120  # seconds after which whoever moves an alias is taken for cut off


@contextmanager
def exclusive(uri: str, purpose: str) -> Iterator[None]:
    """Hold a machine-wide lock while the block runs; it ends with the process, however that ends.

    Args:
        uri: of the store: clones that share a store share the lock.
        purpose: "promote", "publish".

    Raises:
        CheckFailed: somebody else has held it for ten minutes.
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
    """Whether somebody who began a short work may still be at it.

    Args:
        host, process: who. This process itself is not: whoever asks holds the lock.
        since: when, seconds since 1970; clocks of machines may differ by less than two minutes.
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
