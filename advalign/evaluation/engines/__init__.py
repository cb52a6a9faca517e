"""Engines run tasks; all give the same results, since a task has fixed members and a fixed thread count."""

import pickle
from collections.abc import Callable, Iterable, Iterator

from advalign.errors import unknown_name
from advalign.evaluation.tasks import Task, run_task
from advalign.probes.base import Measured

TaskOutcome = Measured | Exception
Work = Callable[[Task], TaskOutcome]
Engine = Callable[[Iterable[Task]], Iterator[tuple[Task, TaskOutcome]]]
ENGINES = ("local", "ray")


def attempt(task: Task) -> TaskOutcome:
    """A task's result, or what it raised: a model that fails does not stop the others."""
    try:
        return run_task(task)
    except Exception as error:  # noqa: BLE001
        return _portable(error)


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
