"""MLflow's own interface on a store: a process that listens on a port of this machine."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from advalign.errors import InputError

PAUSE = 0.1  # seconds between two looks at whether it listens


def serve(uri: str, folder: Path, host: str, port: int, listens: Callable[[str], None]) -> int:
    """Run the interface, with one worker and no background jobs, until it ends or Ctrl-C ends it.

    Args:
        uri: of the store.
        folder: the working directory.
        host, port: where to listen.
        listens: called with the address once the interface answers there.

    Returns:
        Its exit code; 0 after Ctrl-C.

    Raises:
        InputError: nobody can listen there, or the interface ended before it answered.
    """
    _check_free(host, port)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port), "--workers", "1"]
    # A command line is seen by every user of the machine, and an address may have a password.
    lean = {**os.environ, "MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(command, env=lean, cwd=folder) as server:
        try:
            while not _answers(host, port):
                if server.poll() is not None:
                    raise InputError(f"MLflow's UI ended with code {server.returncode} before it listened: see above")
                time.sleep(PAUSE)
            listens(f"http://{f'[{host}]' if ':' in host else host}:{port}")
            return server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            server.terminate()  # nothing where it has ended


def _check_free(host: str, port: int) -> None:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server((str(address[0]), port), family=family).close()
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # Python adds the address
        mend = "name another --port, or another --host of this machine"
        raise InputError(f"nobody can listen on {host}, port {port} ({reason}): {mend}") from None


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port)).close()
    except OSError:
        return False
    return True
