"""Tasks on this machine: a pool of processes (or this process for one worker), results as they come."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.queues import Queue
from typing import Any

import torch

from advalign.evaluation.engines import Engine, TaskOutcome, Work, attempt
from advalign.evaluation.tasks import Task
from advalign.processes import end_with_parent, place_sockets

AHEAD = 2  # tasks per worker that are made before they are needed


def default_workers(device: str, threads: int) -> int:
    """As many workers as the cores serve, or one per GPU."""
    if device.startswith("cuda"):
        return max(1, torch.cuda.device_count())
    return max(1, (os.cpu_count() or 1) // threads)


def local(workers: int, work: Work = attempt) -> Engine:
    """Engine of so many processes; `work` is what they do with a task, a function of some module."""

    def run(tasks: Iterable[Task]) -> Iterator[tuple[Task, TaskOutcome]]:
        if workers == 1:
            for task in tasks:
                yield task, work(task)
            return
        yield from _Pool(workers, work).run(iter(tasks))

    return run


class _Pool:
    """A pool that outlives its workers.

    When a worker is killed (out of memory, say), nobody can tell whose task was to blame: what was under way runs
    again, one at a time, and a task whose worker dies then has failed, and with it what waits of the same model.
    """

    def __init__(self, workers: int, work: Work) -> None:
        self.workers, self.work = workers, work
        self.running: dict[Future[TaskOutcome], Task] = {}
        self.suspects: list[Task] = []
        self.alone: Task | None = None

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, TaskOutcome]]:
        """See `Engine`."""
        pool = self._start()
        try:
            while True:
                whole = self._submit(pool, tasks)
                if whole and not self.running:
                    return
                lost = []
                for future in wait(self.running, return_when=FIRST_COMPLETED).done:
                    task, error = self.running.pop(future), future.exception()
                    if isinstance(error, BrokenProcessPool):
                        lost.append(task)
                    else:
                        yield task, error if isinstance(error, Exception) else future.result()
                if lost or not whole:
                    lost += self.running.values()
                    self.running.clear()
                    pool.shutdown(wait=False, cancel_futures=True)
                    pool = self._start()
                guilty = [task.checkpoint for task in lost if task is self.alone]
                self.suspects += lost
                for task in [task for task in self.suspects if task.checkpoint in guilty]:
                    self.suspects.remove(task)
                    yield task, RuntimeError("its worker process died twice (out of memory?)")
        finally:
            pool.shutdown(cancel_futures=True)

    def _submit(self, pool: ProcessPoolExecutor, tasks: Iterator[Task]) -> bool:
        """Keep the workers busy; False where the pool turns out to be broken."""
        while len(self.running) < (AHEAD * self.workers if not self.suspects else 1):
            self.alone = self.suspects.pop() if self.suspects else None
            task = self.alone or next(tasks, None)
            if task is None:
                break
            try:
                self.running[pool.submit(self.work, task)] = task
            except BrokenProcessPool:
                self.suspects.append(task)
                return False
            if self.alone:
                break
        return True

    def _start(self) -> ProcessPoolExecutor:
        place_sockets()
        context = get_context("spawn")
        devices: Queue[int] = context.Queue()
        for number in range(self.workers):
            devices.put(number)
        return ProcessPoolExecutor(self.workers, mp_context=context, initializer=_begin, initargs=(devices,))


def _begin(devices: Any) -> None:
    """Give a worker a GPU of its own, and make it end with its parent."""
    if torch.cuda.device_count():
        torch.cuda.set_device(devices.get() % torch.cuda.device_count())
    end_with_parent()
