"""Engines run tasks; all give the same results, since a task has fixed members and a fixed thread count."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from advalign.errors import unknown_name
from advalign.evaluation.tasks import MemoryRanOut, Task, run_task
from advalign.probes.base import Measured
from advalign.progress import say

TaskOutcome = Measured | Exception
Work = Callable[[Task], TaskOutcome]
Engine = Callable[[Iterable[Task]], Iterator[tuple[Task, TaskOutcome]]]
ENGINES = ("local", "ray")
REFUSED = "DefaultCPUAllocator: can't allocate memory"  # PyTorch has no class for it
MOST_HALVINGS = 4  # of a model's passes: 48, 24, 12, 6, 3 images


def attempt(task: Task) -> TaskOutcome:
    """A task's result, or what it raised: a model that fails does not stop the others."""
    try:
        return run_task(task)
    except Exception as error:  # noqa: BLE001
        return _portable(error)


class Halvings:
    """How often each model's passes had to be halved because memory ran out; its later tasks begin with that."""

    def __init__(self) -> None:
        self._of: dict[Path, int] = {}

    def applied(self, task: Task, memory: int | None = None) -> Task:
        """The task as it is to be run.

        Args:
            task: of the campaign.
            memory: bytes for the worker.
        """
        return replace(task, memory=memory, halvings=self._of.get(task.checkpoint, 0))

    def settled(self, ran: Task, outcome: TaskOutcome) -> TaskOutcome | None:
        """The outcome that counts; None where memory ran out and the task is to run again.

        Args:
            ran: the task as it was run.
            outcome: MemoryError where its worker was killed.
        """
        refused = isinstance(outcome, RuntimeError) and REFUSED in str(outcome)
        if not refused and not isinstance(outcome, MemoryError):
            return outcome
        if ran.halvings == MOST_HALVINGS:
            return MemoryRanOut(ran.memory)
        self._of[ran.checkpoint] = max(self._of.get(ran.checkpoint, 0), ran.halvings + 1)
        what = "could not get memory" if refused else "was killed (out of memory?)"
        say(f"{ran.checkpoint.name}: a worker {what}: its task runs again with half as many images in one pass")
        return None


def _portable(error: Exception) -> Exception:
    """The error, or its line where it would not survive the way to another process."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    except Exception:  # noqa: BLE001
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error.with_traceback(None)  # whose frames would keep a model and its inputs in memory


def create_engine(name: str, device: str, threads: int, workers: int | None = None) -> Engine:
    """Build an engine.

    Args:
        name: "local" (processes on this machine) or "ray" (a Ray cluster; RAY_ADDRESS names it, else one is started).
        device: of the tasks, "cpu" or "cuda".
        threads: CPU threads of a task.
        workers: tasks at once; default: as the cores or GPUs serve.

    Raises:
        InputError: unknown name, or Ray is not installed.
    """
    if name == "local":
        from advalign.evaluation.engines.local import default_workers, local

        return local(workers or default_workers(device, threads))
    if name == "ray":
        from advalign.evaluation.engines.ray import on_ray

        return on_ray(device, threads, workers)
    raise unknown_name("engine", name, ENGINES)
