"""Engines run tasks; all give the same results, since a task has fixed members and a fixed thread count."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import connection, get_context, parent_process

from advalign.evaluation.tasks import ShardResult, Task, run_task

Outcome = ShardResult | Exception
Engine = Callable[[Sequence[Task]], Iterator[tuple[Task, Outcome]]]


def local(workers: int) -> Engine:
    """Engine on this machine: a pool of processes (or this process for one worker), results as they come."""

    def run(tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        if workers == 1 or len(tasks) == 1:
            for task in tasks:
                yield task, _attempt(task)
            return
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
            futures = {pool.submit(_attempt, task): task for task in tasks}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.exception() or future.result()  # type: ignore[misc]
            finally:
                pool.shutdown(cancel_futures=True)

    return run


def _attempt(task: Task) -> Outcome:
    try:
        return run_task(task)
    except Exception as error:  # noqa: BLE001  a model that fails is recorded, the others go on
        return error


def _end_with_parent() -> None:
    """Make a worker end when its parent is killed: the pool's queue alone would keep it waiting for ever."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
