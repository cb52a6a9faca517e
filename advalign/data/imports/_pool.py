"""A pool of processes that verify files; the first error ends the work."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

from advalign.errors import InputError
from advalign.processes import end_with_parent

Task = TypeVar("Task")
Result = TypeVar("Result")


def each(work: Callable[[Task], Result], tasks: Sequence[Task], workers: int | None) -> Iterator[Result]:
    """Yield the results of the tasks as they finish; one worker is this process itself.

    Args:
        work: a module's function (it is sent to other processes).
        tasks: its arguments.
        workers: processes, at most; None: one per core.

    Raises:
        InputError: the work's own, or a file could not be read or written, or a process was killed.
    """
    guarded = partial(_guarded, work)
    count = min(workers or os.cpu_count() or 1, len(tasks))
    if count <= 1:
        yield from map(guarded, tasks)
        return
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_begin) as pool:
        try:
            for future in as_completed([pool.submit(guarded, task) for task in tasks]):
                yield future.result()
        except BrokenProcessPool:
            raise InputError("a worker was killed (out of memory?): run again with fewer --workers") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _guarded(work: Callable[[Task], Result], task: Task) -> Result:
    try:
        return work(task)
    except OSError as error:
        # an error while reading or writing names no file, unlike one while opening: the task does
        raise InputError(f"{error.filename or task}: {error.strerror or error}: fix that and run again") from None


def _begin() -> None:
    """Make a worker end with its parent, killed or interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()
