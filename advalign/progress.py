"""Progress of long work: a bar in a terminal, a line now and then elsewhere; both on standard error."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Protocol

from advalign.errors import printable

QUIET_SECONDS = 20.0  # between lines where there is no terminal
SILENT_SECONDS = 2.0  # that a command may wait for something else without a word


def say(line: str) -> None:
    """Tell the user something beside a command's results, in one line."""
    print(printable(f"advalign: {line}"), file=sys.stderr)  # noqa: T201


@contextmanager
def waiting(line: str) -> Iterator[None]:
    """Say a line, once, if the block takes longer than `SILENT_SECONDS`."""
    timer = Timer(SILENT_SECONDS, say, [line])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Advance(Protocol):
    """Reports the progress of the work."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units; the note is shown next to them."""


@contextmanager
def progress(label: str) -> Iterator[Advance]:
    """Show progress while the block runs; the block calls the yielded function with (done, total, note)."""
    if sys.stderr.isatty():
        with _bar(label) as advance:
            yield advance
    else:
        yield _Lines(label)


@contextmanager
def _bar(label: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),  # names and errors from outside
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None, note="", rate="")
        start = time.monotonic()

        def advance(done: int, total: int, note: str = "") -> None:
            rate = done / max(time.monotonic() - start, 1e-9)
            bar.update(task, completed=done, total=total, note=note, rate=f"{rate:.1f}/s")

        yield advance


class _Lines:
    """Prints a line at most every `QUIET_SECONDS`, and one when the work is complete."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.start = self.last = time.monotonic()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if not done or (done < total and now - self.last < QUIET_SECONDS):
            return
        self.last = now
        rate = done / max(now - self.start, 1e-9)
        left = f", {(total - done) / rate:.0f} s left" if done < total else ""
        print(f"{self.label}: {done}/{total} ({rate:.1f}/s{left}) {note}".rstrip(), file=sys.stderr)  # noqa: T201
