"""Worker processes: they end with the process that started them, and can send it tensors wherever TMPDIR is."""

import os
import tempfile
import threading
from multiprocessing import connection, parent_process, util

LONGEST_FOLDER = 70  # characters; an address of a socket has 107, and Python adds two names to the folder


def end_with_parent() -> None:
    """Make this worker end when its parent is killed: otherwise it would wait for the pool's queue for ever."""
    parent = parent_process()
    assert parent is not None, "this is not a worker"

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def place_sockets() -> None:
    """Put the sockets that tensors are sent through into /tmp where TMPDIR is too long; call it before workers begin.

    Python chooses one folder for a process and its workers, and keeps it.

    Raises:
        OSError: /tmp cannot be written.
    """
    if len(os.fsencode(tempfile.gettempdir())) <= LONGEST_FOLDER:
        return
    long, tempfile.tempdir = tempfile.tempdir, "/tmp"
    try:
        util.get_temp_dir()
    finally:
        tempfile.tempdir = long
