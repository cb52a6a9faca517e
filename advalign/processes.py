"""Worker processes that end with the process that started them."""

import os
import threading
from multiprocessing import connection, parent_process


def end_with_parent() -> None:
    """Make this worker end when its parent is killed: otherwise it would wait for the pool's queue for ever."""
    parent = parent_process()
    assert parent is not None, "this is not a worker"

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
