"""Locks on this machine: one process at a time changes a tracking store for the same purpose.

The locks of a database that is a file lie beside it, so that all who use the file share them, whoever they are. Those
of a server lie in the user's state folder (`$XDG_STATE_HOME`, by default `~/.local/state`), for all clones of a user.
"""

import hashlib
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from advalign.errors import CheckFailed
from advalign.progress import waiting
from advalign.tracking.database import StoreDown, database_file

WAIT = 600  # seconds
ELSEWHERE = "set XDG_STATE_HOME to a folder that you can write"
UNDER_WAY = 120  # seconds after which the move of an alias counts as cut off


@contextmanager
def exclusive(uri: str, purpose: str) -> Iterator[None]:
    """Hold a machine-wide lock while the block runs; the lock ends with the process, even if killed.

    Args:
        uri: of the store; clones with the same store share the lock.
        purpose: "open", "promote", "publish".

    Raises:
        CheckFailed: another process has held the lock for ten minutes.
        StoreDown: the lock cannot be written where it belongs.
    """
    path, database = lock_file(uri, purpose), database_file(uri)
    with ExitStack() as held:
        try:
            with waiting(f"another process holds the lock {path}; waiting for it"):
                held.enter_context(FileLock(path, timeout=WAIT, mode=_mode(database)))
        except Timeout:
            raise CheckFailed(f"another process on this machine holds the lock to {purpose}: try again later") from None
        except OSError as error:
            mend = ELSEWHERE if database is None else "make the folder writable"
            raise StoreDown(f"the lock {path} cannot be written ({error.strerror}): {mend}") from None
        yield


def lock_file(uri: str, purpose: str) -> Path:
    """Where the lock of a store lies; the same file for all spellings of one address."""
    database = database_file(uri)
    if database is not None:
        return database.with_name(f".{database.name}.{purpose}.lock")
    plain = re.sub(r"//[^/]*@", "//", uri).replace("//localhost", "//127.0.0.1").rstrip("/")
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser())
    except RuntimeError:  # a number without a name, as in a container
        raise StoreDown(f"this user has no home folder for its locks: {ELSEWHERE}") from None
    return state / "advalign" / f"{hashlib.sha256(plain.encode()).hexdigest()[:16]}-{purpose}.lock"


def _mode(database: Path | None) -> int:
    """Permissions of a lock: whoever may write the database may take it; -1 for the usual ones of a new file.

    The owner may write it even where the database is only read: the library locks no other file.
    """
    return database.stat().st_mode & 0o666 | 0o600 if database is not None and database.is_file() else -1


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
