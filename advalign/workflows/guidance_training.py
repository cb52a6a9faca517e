"""Many small trainings on a few processes: each imports once, and trains one model after another."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from advalign.errors import AdvalignError, CheckFailed, quoted
from advalign.files import Project
from advalign.processes import end_with_parent
from advalign.settings import Settings, Training, load_settings
from advalign.training.plan import plan
from advalign.training.train import train


@dataclass(frozen=True)
class Job:
    """A training to be done.

    Attributes:
        root: of the project.
        name: of the model.
        training, seed: what is trained.
        folder: of the checkpoint.
        device: "cpu", "cuda", ...
    """

    root: Path
    name: str
    training: Training
    seed: int
    folder: Path
    device: str


def train_all(jobs: Sequence[Job], workers: int, on_done: Callable[[int, int, str], None]) -> None:
    """Train what is not finished; a finished checkpoint of the same identity is kept, an interrupted one resumed.

    Args:
        jobs: each name once.
        workers: processes; with one, this process trains.
        on_done: called with (done, of, name) after each.

    Raises:
        CheckFailed: some trainings failed; the others are finished.
    """
    failed = []
    if workers == 1 or len(jobs) == 1:
        outcomes = ((job, run(job)) for job in jobs)
        for number, (job, error) in enumerate(outcomes, 1):
            failed += [error] if error else []
            on_done(number, len(jobs), job.name)
    else:
        failed = _in_processes(jobs, workers, on_done)
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(jobs)} trainings failed: {'; '.join(failed[:3])}")


def _in_processes(jobs: Sequence[Job], workers: int, on_done: Callable[[int, int, str], None]) -> list[str]:
    pool = ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn"), end_with_parent)
    failed = []
    try:
        futures = {pool.submit(run, job): job for job in jobs}
        for number, future in enumerate(as_completed(futures), 1):
            error = future.result()
            failed += [error] if error else []
            on_done(number, len(jobs), futures[future].name)
    except BaseException:
        for process in list(pool._processes.values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return failed


def run(job: Job) -> str:
    """Train; the error in a line, "" where there is none."""
    project = Project(job.root)
    try:
        planned = plan(project, _settings(job.root), job.training, job.seed)
        train(project, replace(planned, name=job.name), job.folder, lambda: [], device=job.device)
    except AdvalignError as error:
        return f"{job.name}: {quoted(error)}"
    return ""


@cache
def _settings(root: Path) -> Settings:
    return load_settings(root)
