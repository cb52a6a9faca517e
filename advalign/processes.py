"""Worker processes: they end with the process that started them, and need short paths for their sockets."""

import os
import tempfile
import threading
from multiprocessing import connection, parent_process

from advalign.errors import InputError

LONGEST_SOCKET = 107  # bytes of a path, on Linux
BELOW = len("/pymp-xxxxxxxx/listener-xxxxxxxx")  # that Python puts below the temporary folder


def check_sockets(mend: str) -> None:
    """Refuse a temporary folder whose path is too long for sockets: processes that send tensors would wait for ever.

    Args:
        mend: what else helps, beside another folder.

    Raises:
        InputError: it is too long.
    """
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) + BELOW > LONGEST_SOCKET:
        limit = LONGEST_SOCKET - BELOW
        raise InputError(
            f"TMPDIR is too long for sockets (at most {limit} bytes): {folder}: set a short one, or {mend}"
        )


def end_with_parent() -> None:
    """Make this worker end when its parent is killed: otherwise it would wait for the pool's queue for ever."""
    parent = parent_process()
    assert parent is not None, "this is not a worker"

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
