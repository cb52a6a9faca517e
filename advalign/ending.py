"""Begin and end of a program: what its libraries need, its exit code, and errors on one line."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from io import TextIOWrapper
from typing import NoReturn

from advalign.errors import AdvalignError, failed_import, printable, quoted
from advalign.memory import keep_freed_memory

INTERRUPTED = 130  # exit code after Ctrl-C, as a shell gives it
TERMINATED = 128 + signal.SIGTERM
GOES_ON = "run the same command again to continue"


class Terminated(BaseException):  # as KeyboardInterrupt is: what handles an error must not handle this
    """SIGTERM came."""


def prepare() -> None:
    """Make output and environment such that libraries can be imported and everything printed; to be called first.

    A character that the output's encoding lacks is printed as its escape. OpenMP takes a list of threads, one number
    per level of nesting; numexpr, which pandas imports, takes one or raises. Freed memory is kept.
    """
    keep_freed_memory()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if "," in threads:
        os.environ.setdefault("NUMEXPR_NUM_THREADS", threads.partition(",")[0])


def run_to_end(action: Callable[[], int | None]) -> NoReturn:
    """Run a program and exit: 0 done, 1 a check said no, 2 bad input: one line, no traceback; 130 after Ctrl-C.

    After SIGTERM the exit code is 143. Like Ctrl-C, SIGTERM ends the program through its `finally` blocks, so that
    worker processes end and nothing is left behind.

    Args:
        action: the program; what it returns is the exit code, None for 0.
    """
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _terminate)
        code = action() or 0
    except KeyboardInterrupt:
        _say(f"interrupted; {GOES_ON}")
        _exit(INTERRUPTED)
    except Terminated:
        _say(f"ended by SIGTERM; {GOES_ON}")
        _exit(TERMINATED)
    except Exception as error:
        line, code = _line(error)
        if not line or os.environ.get("ADVALIGN_DEBUG"):
            raise
        _say(line)
    _exit(code)


def _terminate(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end has begun
    raise Terminated


def cut_off(error: OSError) -> NoReturn:
    """Say that the output cannot be written (`| head`, a full disk), and exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left would be written when Python ends, and fail again
    _say(f"the output cannot be written ({error.strerror or error}); what the command did is kept")
    sys.exit(2)


def _line(error: Exception) -> tuple[str, int]:
    """What is said of an error, and the exit code; nothing of one that nobody foresaw."""
    if isinstance(error, AdvalignError):
        return str(error), error.exit_code
    line = failed_import(error)
    if not line and isinstance(error, OSError):  # of the file system or the network: no permission, a full disk
        line = f"{quoted(error)}: fix that or name another place, and run again"
    return line, 2


def _exit(code: int) -> NoReturn:
    """Exit once the output is written."""
    try:
        if sys.stdout is not None:  # else the caller closed it
            sys.stdout.flush()
    except OSError as error:
        cut_off(error)
    sys.exit(code)


def _say(message: str) -> None:
    line = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in " ".join(printable(message).split()))
    if sys.stderr is not None:  # closed: the exit code says it
        print(f"advalign: error: {line}", file=sys.stderr)  # noqa: T201
