"""A PostgreSQL cluster of the tests' own: made by initdb in a temporary folder, under a user that is not root."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.team.processes import free_port, tied_to_us

PASSWORD = "of-the-tests"


def programs() -> Path:
    """The folder of initdb and postgres; skips where there is none, or nobody to run them as."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not installed:
        pytest.skip("PostgreSQL is not installed (no initdb on PATH nor in /usr/lib/postgresql)")
    return installed[-1].parent


def as_its_user() -> list[str]:
    """What a command begins with to run under another user than root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None or "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres or no setpriv to become it")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


@contextmanager
def cluster() -> Iterator[str]:
    """Run a cluster on a free port of this machine; gives the address, and ends it whatever happens."""
    found, user = programs(), as_its_user()
    folder = Path(tempfile.mkdtemp(prefix="advalign-postgres-"))  # pytest's own folders are closed to other users
    port = free_port()
    (folder / "password").write_text(PASSWORD)
    if user:
        shutil.chown(folder, "postgres", "postgres")
        shutil.chown(folder / "password", "postgres", "postgres")
    options = ["-U", "lab", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "-E", "UTF8", "--no-sync"]
    process = None
    try:
        made = [*user, str(found / "initdb"), "-D", str(folder / "data"), *options]
        subprocess.run(made, check=True, capture_output=True, cwd="/")
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder), "fsync": "off"}
        command = [str(found / "postgres"), "-D", str(folder / "data"), "-p", str(port)]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                tied_to_us([*user, *command], "INT"), stdout=log, stderr=log, cwd="/", start_new_session=True
            )
        address = f"postgresql://lab:{PASSWORD}@127.0.0.1:{port}"
        _wait(f"{address}/postgres", process, folder / "log")
        yield address
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # its fast shutdown
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def create_databases(address: str, *names: str) -> None:
    """Create databases in a cluster."""
    with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
        for name in names:
            connection.execute(f'create database "{name}"')


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    while process.poll() is None:
        try:
            psycopg.connect(address).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-1000:]}")
