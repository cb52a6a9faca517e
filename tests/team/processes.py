"""Processes of these tests: the command line in a process of its own, begun quickly, and servers that end with us."""

import contextlib
import locale
import multiprocessing
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

# A server that has imported torch and mlflow once; a process forked from it begins at once, and can be killed.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.team.preloaded"])
PROGRESS = re.compile(r"[^:]+: \d+/\d+ \(")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def tied_to_us(command: list[str], end_signal: str) -> list[str]:
    """The command, such that it gets a signal when this process ends in whatever way."""
    if command[0] == "setpriv":
        return ["setpriv", f"--pdeathsig={end_signal}", *command[1:]]
    return ["setpriv", f"--pdeathsig={end_signal}", *command] if shutil.which("setpriv") else command


class Process:
    """A process that runs a function in a folder, with variables of the environment; what it prints goes to files.

    Args:
        root: the folder; its output lies in root/.printed.
        variables: of the environment; None removes one.
        function, arguments: what is run. A function's SystemExit is the exit code.
    """

    made = 0

    def __init__(
        self, root: Path, variables: dict[str, str | None], function: Callable[..., None], *arguments: Any
    ) -> None:
        Process.made += 1
        self.folder = root / ".printed" / str(Process.made)
        self.folder.mkdir(parents=True)
        self.process: BaseProcess = FORKS.Process(target=_run, args=(root, self.folder, variables, function, arguments))
        self.process.start()

    def wait(self) -> int:
        """Wait for its end, or kill it where this test's time is over; the exit code."""
        try:
            self.process.join()
        finally:
            if self.process.exitcode is None:
                print(self.errors())  # noqa: T201  what it was at
                self.process.kill()
        return int(self.process.exitcode or 0)

    def begun(self) -> bool:
        """Whether what it prints goes to its files already."""
        return (self.folder / "err").exists()

    def printed(self) -> str:
        """Its standard output."""
        return (self.folder / "out").read_text()

    def errors(self) -> str:
        """Its standard error."""
        return (self.folder / "err").read_text()


def _run(
    root: Path, folder: Path, variables: dict[str, str | None], function: Callable[..., None], arguments: tuple[Any]
) -> None:
    for name, value in variables.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    tempfile.tempdir = None  # the server's
    if variables.get("LC_ALL"):
        locale.setlocale(locale.LC_ALL, "")  # for what is opened from now on; names of files stay UTF-8
    os.chdir(root)
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    code = 0
    try:
        function(*arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  it is printed, and the exit code says so
        traceback.print_exc()
        code = 70
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def command_line(*words: str) -> None:
    """What the program `advalign` does with these words."""
    from advalign.cli import main

    sys.argv = ["advalign", *words]
    main.run()


def advalign(root: Path, variables: dict[str, str | None], *words: str) -> Process:
    """Begin `advalign WORDS` in a project."""
    return Process(root, variables, command_line, *words)


class Spoken:
    """`advalign WORDS` in a folder, in a process whose standard error is a pipe: no disk stops what it says.

    Args:
        root: the folder.
        words: of the command.
        prepare: is called in the process before the command; a function of a module.
    """

    def __init__(self, root: Path, words: tuple[str, ...], prepare: Callable[[], None] | None = None) -> None:
        self.reading, writing = multiprocessing.Pipe(duplex=False)
        self.process: BaseProcess = FORKS.Process(target=_speak, args=(root, writing, words, prepare))
        self.process.start()
        writing.close()

    def end(self) -> tuple[int, str]:
        """Wait for its end; its exit code, and its standard error."""
        said = b""
        while part := os.read(self.reading.fileno(), 1 << 16):
            said += part
        self.process.join()
        return int(self.process.exitcode or 0), said.decode()

    def told(self) -> tuple[int, list[str]]:
        """Wait for its end; its exit code, and the lines that it said, but for those of progress."""
        code, said = self.end()
        return code, [line for line in said.splitlines() if line.strip() and not PROGRESS.match(line)]


def _speak(root: Path, end: Connection, words: tuple[str, ...], prepare: Callable[[], None] | None) -> None:
    os.chdir(root)
    for name in ("MLFLOW_TRACKING_URI", "ADVALIGN_DEBUG"):
        os.environ.pop(name, None)
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
    os.dup2(end.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes processes in the background ignore it
    if prepare is not None:
        prepare()
    command_line(*words)
