"""One at a time on this machine: whoever changes the same tracking store for the same purpose."""

import getpass
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from advalign.errors import CheckFailed

WAIT = 600  # seconds


@contextmanager
def exclusive(uri: str, purpose: str) -> Iterator[None]:
    """Hold a machine-wide lock while the block runs; it ends with the process, however that ends.

    Args:
        uri: of the store: clones that share a store share the lock.
        purpose: "promote", "publish".

    Raises:
        CheckFailed: somebody else has held it for ten minutes.
    """
    key = hashlib.sha256(f"{getpass.getuser()} {uri}".encode()).hexdigest()[:16]
    try:
        path = Path(tempfile.gettempdir()) / f"advalign-{key}-{purpose}.lock"
        with FileLock(path, timeout=WAIT):
            yield
    except Timeout:
        raise CheckFailed(f"another process on this machine holds the lock to {purpose}: try again later") from None
