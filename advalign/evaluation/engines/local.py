"""Tasks on this machine: a pool of processes (or this process for one worker), results as they come."""

import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import RawArray
from typing import Any

import torch

from advalign.evaluation import tally
from advalign.evaluation.engines import Engine, Halvings, TaskOutcome, Work, attempt
from advalign.evaluation.tasks import Task
from advalign.memory import available, held, keep_freed_memory
from advalign.processes import end_with_parent, place_sockets

AHEAD = 2  # tasks per worker that are made before they are needed
ENDED_BY_POOL = (None, 0, -signal.SIGTERM)  # exit codes of workers whose pool broke, but for the ones that broke it

NOBODY = 0  # number of no task


def default_workers(device: str, threads: int) -> int:
    """As many workers as the cores serve, or one per GPU."""
    if device.startswith("cuda"):
        return max(1, torch.cuda.device_count())
    return max(1, (os.cpu_count() or 1) // threads)


def local(workers: int, work: Work = attempt) -> Engine:
    """Engine of so many processes; `work` is what they do with a task, a function of some module.

    Each worker may take its share of the memory that there is. When a worker is killed, as the system does when memory
    runs out, or cannot get memory, its task runs again with half as many images in one pass.
    """

    def run(tasks: Iterable[Task]) -> Iterator[tuple[Task, TaskOutcome]]:
        if workers == 1:
            yield from _alone(tasks, work)
        else:
            yield from _Pool(workers, work).run(iter(tasks))

    return run


def _alone(tasks: Iterable[Task], work: Work) -> Iterator[tuple[Task, TaskOutcome]]:
    free, own = available(), held()
    memory = None if free is None or own is None else free + own
    halvings = Halvings()
    tally.share([0])
    for task in tasks:
        outcome = None
        while outcome is None:
            ran = halvings.applied(task, memory)
            outcome = halvings.settled(ran, work(ran))
        yield task, outcome


class _Places:
    """What the workers of a pool are at, in memory that all of them share: each writes at its own place.

    Attributes:
        processes: their ids.
        numbers: of the tasks that they run.
        passes: of these tasks.
    """

    def __init__(self, workers: int) -> None:
        self.processes, self.numbers, self.passes = (RawArray("q", workers) for _ in range(3))


@dataclass(frozen=True)
class _Given:
    """A task that was given to the pool: its number there, and the task as it is run."""

    number: int
    task: Task
    ran: Task


class _Pool:
    """A pool that outlives its workers.

    When a worker is killed, its task runs again with smaller passes. A worker that dies in another way (a library
    crashes, say) may have been unlucky: its task runs again, and has failed if that one dies too.
    """

    def __init__(self, workers: int, work: Work) -> None:
        self.workers, self.work = workers, work
        free = available()
        self.memory = None if free is None else free // workers
        self.halvings = Halvings()
        self.given = 0
        self.running: dict[Future[TaskOutcome], _Given] = {}
        self.again: list[Task] = []
        self.crashed: set[Task] = set()

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, TaskOutcome]]:
        """See `Engine`."""
        self._start()
        try:
            while True:
                whole = self._submit(tasks)
                if whole and not self.running:
                    return
                lost = []
                for future in wait(self.running, return_when=FIRST_COMPLETED).done:
                    given, error = self.running.pop(future), future.exception()
                    if isinstance(error, BrokenProcessPool):
                        lost.append(given)
                        continue
                    found = error if isinstance(error, Exception) else future.result()
                    yield from self._ended(given, self.halvings.settled(given.ran, found))
                if lost or not whole:
                    lost += self.running.values()
                    self.running.clear()
                    self.pool.shutdown(cancel_futures=True)
                    for given, outcome in self._what_became_of(lost):
                        yield from self._ended(given, outcome)
                    self._start()
        finally:
            for process in self.processes.values() if self.running else ():
                process.terminate()
            self.pool.shutdown(cancel_futures=True)

    def _submit(self, tasks: Iterator[Task]) -> bool:
        """Keep the workers busy; False where the pool turns out to be broken."""
        while len(self.running) < AHEAD * self.workers:
            task = self.again.pop(0) if self.again else next(tasks, None)
            if task is None:
                break
            self.given += 1
            given = _Given(self.given, task, self.halvings.applied(task, self.memory))
            try:
                self.running[self.pool.submit(_run, given.number, self.work, given.ran)] = given
            except BrokenProcessPool:
                self.again.append(task)
                return False
        return True

    def _ended(self, given: _Given, outcome: TaskOutcome | None) -> Iterator[tuple[Task, TaskOutcome]]:
        """The outcome of a task, or nothing where it is to run again."""
        if outcome is None:
            self.again.append(given.task)
            return
        if isinstance(outcome, Exception):  # its model has failed
            self.again = [task for task in self.again if task.checkpoint != given.task.checkpoint]
        yield given.task, outcome

    def _what_became_of(self, lost: list[_Given]) -> list[tuple[_Given, TaskOutcome | None]]:
        """The outcome of each task that was under way or waited when a worker died; None: it is to run again."""
        codes = {process.pid: process.exitcode for process in self.processes.values()}
        died = {
            number: codes.get(process)
            for number, process in zip(self.places.numbers, self.places.processes, strict=True)
            if number != NOBODY and codes.get(process) not in ENDED_BY_POOL
        }
        return [(given, self._outcome(given, died)) for given in lost]

    def _outcome(self, given: _Given, died: dict[int, int | None]) -> TaskOutcome | None:
        if died and given.number not in died:
            return None
        code = died.get(given.number)  # without `died` nobody can tell whose task it was
        if code == -signal.SIGKILL:
            return self.halvings.settled(given.ran, MemoryError())
        if given.task not in self.crashed:
            self.crashed.add(given.task)
            return None
        return RuntimeError(f"its worker process died twice (exit code {code})")

    def _start(self) -> None:
        place_sockets()
        context = get_context("spawn")
        free: Queue[int] = context.Queue()
        for place in range(self.workers):
            free.put(place)
        self.places = _Places(self.workers)
        tally.share(self.places.passes)
        self.pool = ProcessPoolExecutor(
            self.workers, mp_context=context, initializer=_begin, initargs=(free, self.places)
        )
        self.processes: Mapping[int, BaseProcess] = self.pool._processes


_worker: tuple[int, _Places] | None = None


def _begin(free: Any, places: _Places) -> None:
    """Give a worker its place, and a GPU of its own; make it keep memory, and end with its parent."""
    global _worker
    keep_freed_memory()
    place = free.get()
    _worker = place, places
    places.processes[place] = os.getpid()
    tally.share(places.passes, place)
    if torch.cuda.device_count():
        torch.cuda.set_device(place % torch.cuda.device_count())
    end_with_parent()


def _run(number: int, work: Work, task: Task) -> TaskOutcome:
    """Run a task in a worker, which says what it is at."""
    assert _worker is not None, "this is not a worker"
    place, places = _worker
    places.numbers[place] = number
    try:
        return work(task)
    finally:
        places.numbers[place] = NOBODY
