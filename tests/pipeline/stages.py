"""The stages of a `dvc repro` without the seconds that their imports take.

On PATH lies a `python` of our own. It asks this process, over a socket, for `-m pipelines.STAGE`, which is forked from
a process that has imported everything. In test_kill.py a real interpreter trains and attacks, to the same bytes.
"""

import json
import os
import runpy
import shlex
import socketserver
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.team.processes import Process

ASK = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    connection.sendall(json.dumps([os.getcwd(), sys.argv[2:]]).encode() + b"\\n")
    code, printed, errors = json.load(connection.makefile())
sys.stdout.write(printed)
sys.stderr.write(errors)
sys.exit(code)
"""


def run_module(option: str, name: str, *words: str) -> None:
    """What `python -m NAME WORDS` does."""
    assert option == "-m"
    sys.argv = [name, *words]
    sys.path.insert(0, str(Path.cwd()))
    os.cpu_count = lambda: 1  # an evaluation then has no pool, whose processes would import everything again
    runpy.run_module(name, run_name="__main__", alter_sys=True)


@contextmanager
def forked_stages(variables: dict[str, str | None]) -> Iterator[Path]:
    """Gives the folder of that `python`, as long as it is answered; `variables` are those of the stages."""

    class Answer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            root, words = json.loads(self.rfile.readline())
            process = Process(Path(root), variables, run_module, *words)
            self.wfile.write(json.dumps([process.wait(), process.printed(), process.errors()]).encode())

    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are too long for the address of a socket
        folder = Path(name)
        words = (sys.executable, "-SI", "-c", ASK, str(folder / "socket"))
        (folder / "python").write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (folder / "python").chmod(0o755)
        with socketserver.ThreadingUnixStreamServer(str(folder / "socket"), Answer) as server:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield folder
            finally:
                server.shutdown()
