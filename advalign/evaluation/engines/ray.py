"""Tasks on a Ray cluster: the same function, placed by Ray, run again where a worker or a node is lost."""

import importlib
import os
import socket
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from advalign.errors import InputError, quoted
from advalign.evaluation.engines import Engine, Halvings, TaskOutcome, Work, attempt
from advalign.evaluation.tasks import Task
from advalign.memory import available, held, keep_freed_memory

RETRIES = 3  # of a task whose node was lost
STARTED_HERE = (None, "", "local")  # values of RAY_ADDRESS
REACH_SECONDS = 10  # for a cluster to answer
AHEAD = 2  # tasks per place that are made before they are needed


def on_ray(device: str, threads: int, workers: int | None = None, work: Work = attempt) -> Engine:
    """Engine on the cluster that RAY_ADDRESS names ("auto", host:port), or on one that is started here.

    Every node must see the project under the same path. Only this process writes results and the tracking store.

    Args:
        device: "cuda" takes one GPU per task.
        threads: CPU threads, and so CPUs, per task.
        workers: most tasks at once; default: as many as the cluster has places.
        work: what is done with a task.

    Raises:
        InputError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise InputError("--engine ray needs Ray: pip install 'advalign[ray]'") from None
    needs = {"num_cpus": threads, "num_gpus": 1 if device.startswith("cuda") else 0}

    def run(tasks: Iterable[Task]) -> Iterator[tuple[Task, TaskOutcome]]:
        started = _connect(ray)
        remote = ray.remote(**needs, max_retries=0)(_on_node)  # Ray would run it again in passes of the same size
        places = workers or _places(ray.cluster_resources(), needs)
        try:
            yield from _run(ray, remote, work, iter(tasks), places)
        finally:
            if started:
                ray.shutdown()

    return run


def _connect(ray: Any) -> bool:
    """Join the cluster, or start one; whether it is this call's to end."""
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS")
    if address not in STARTED_HERE:
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")  # attempts, of 40 s each; Ray makes 20
    try:
        _knock(address or "")
        ray.init(address=address, log_to_driver=False, include_dashboard=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(_why(address, quoted(error))) from None
    return True


def _why(address: str | None, reason: str) -> str:
    """Why there is no cluster, and what to do about it."""
    if "AF_UNIX path length" in reason:  # Ray's sockets lie some 80 characters below this folder
        folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
        mend = "set RAY_TMPDIR to a short path such as /tmp"
        return f"Ray cannot start: paths of its sockets below {folder} would be longer than 107 bytes: {mend}"
    if address in STARTED_HERE:
        return f"Ray cannot start on this machine: {reason}; --engine local needs no Ray"
    return f"no Ray cluster at {address!r}: {reason}; start one with `ray start --head`"


def _knock(address: str) -> None:
    """Fail at once where nobody listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()


def _places(resources: dict[str, float], needs: dict[str, int]) -> int:
    kinds = {"num_cpus": "CPU", "num_gpus": "GPU"}
    return max(1, min(int(resources.get(kinds[key], 0) // need) for key, need in needs.items() if need))


def _on_node(work: Work, task: Task) -> TaskOutcome:
    """Run a task in a worker of Ray, with its share of the node's memory."""
    keep_freed_memory()
    return work(replace(task, memory=_share(task.threads)))


@lru_cache(maxsize=1)
def _share(threads: int) -> int | None:
    """Bytes for this worker, if there is one for every `threads` cores of the node."""
    free, own = available(), held()
    return None if free is None or own is None else (free + own) // max(1, (os.cpu_count() or 1) // threads)


def _run(ray: Any, remote: Any, work: Work, tasks: Iterator[Task], places: int) -> Iterator[tuple[Task, TaskOutcome]]:
    running: dict[Any, tuple[Task, Task]] = {}
    halvings, lost = Halvings(), Counter[Task]()
    again: list[Task] = []
    while True:
        while len(running) < AHEAD * places:
            task = again.pop(0) if again else next(tasks, None)
            if task is None:
                break
            ran = halvings.applied(task)
            running[remote.remote(work, ran)] = task, ran
        if not running:
            return
        done, _ = ray.wait(list(running), num_returns=1)
        for reference in done:
            task, ran = running.pop(reference)
            outcome = halvings.settled(ran, _outcome(ray, reference))
            if isinstance(outcome, _LostError) and lost[task] < RETRIES:
                lost[task] += 1
                outcome = None
            if outcome is None:
                again.append(task)
            else:
                yield task, outcome


class _LostError(RuntimeError):
    """A task's node is gone, or its result."""


def _outcome(ray: Any, reference: Any) -> TaskOutcome:
    """The outcome of a task; MemoryError where its worker was killed, by the system or by Ray."""
    try:
        found: TaskOutcome = ray.get(reference)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
        return MemoryError()
    except ray.exceptions.RayError as error:
        return _LostError(f"lost on the cluster: {quoted(error)}")
    return found
