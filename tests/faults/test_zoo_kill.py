"""SIGKILL at 25 random moments of an evaluation of 12 models: every file ends as if nobody had disturbed it."""

import json
import os
import random
import shutil
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest

from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines.local import _begin, _Places, local
from advalign.evaluation.runner import Evaluator
from advalign.files import Project
from advalign.models.zoo import create_classifier
from advalign.settings import load_settings
from tests.conftest import save_untrained, with_stimuli
from tests.pipeline.conftest import OURS
from tests.team.processes import Process

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kill")]

MODELS = [f"test_resnet.m{number:02d}" for number in range(12)]
KILLS = 25
POOLED = 4  # of the runs that are killed, how many have two workers
UNITS = 7  # tasks of a model: 72 stimuli in shards of 12, and one of validation images


def evaluate(root: Path, workers: int) -> None:
    """What a process runs, in a process group of its own; it prints what became of the models."""
    os.setsid()
    project = Project(root)
    settings = load_settings(project.root)
    changed = {"protocol": "fmn-5", "shard_size": 12, "threads": 1, "gallery": 3}
    settings = settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update=changed)})
    sources = [TrainedModel(folder) for folder in sorted(project.checkpoints.iterdir())]
    outcomes = Campaign(Evaluator(project, settings), sources, local(workers)).run()
    sys.stdout.write(" ".join(outcome.state for outcome in outcomes))


@pytest.fixture(scope="module")
def calm(sample_root, tmp_path_factory):
    """A project whose 12 models were evaluated undisturbed, and the seconds that a task took."""
    project = with_stimuli(sample_root, tmp_path_factory.mktemp("zoo") / "calm")
    for seed, name in enumerate(MODELS):
        save_untrained(project, name, create_classifier("test_resnet", 36, 64, seed=seed))
    begun = time.monotonic()
    assert end(start(project.root)) == ["evaluated"] * len(MODELS)
    return project, (time.monotonic() - begun) / (UNITS * len(MODELS))


def start(root: Path, workers: int = 1) -> Process:
    """Start an evaluation; returns when its process group is its own."""
    process = Process(root, dict(OURS), evaluate, root, workers)
    while os.getpgid(process.process.pid) != process.process.pid:
        time.sleep(0.001)
    return process


def end(process: Process) -> list[str]:
    """What became of the models, once the evaluation is over."""
    assert process.wait() == 0, process.errors()
    return process.printed().split()


def kill_after(process: Process, project: Project, tasks: int, seconds: float) -> bool:
    """Kill a process group some time after it has finished some more tasks; whether it was still at work."""
    goal = finished_units(project) + tasks
    while process.process.is_alive() and finished_units(project) < goal:
        time.sleep(0.01)
    process.process.join(seconds)
    if not process.process.is_alive():
        return False
    os.killpg(process.process.pid, signal.SIGKILL)
    process.process.join()
    return True


def untouched(calm: Project, root: Path) -> Project:
    """The same project with nothing evaluated."""
    shutil.copytree(calm.root, root, ignore=shutil.ignore_patterns("evaluations"))
    return Project(root)


def finished_units(project: Project) -> int:
    """Tasks whose results are on disk."""
    folder = project.evaluations / "fmn-5"
    done = {path.stem for path in folder.glob("*.parquet")}
    parts = [path for path in project.evaluations.glob("**/shards/*/[!.]*.parquet") if path.parent.name not in done]
    return UNITS * len(done) + len(parts)


def visible(project: Project) -> dict[str, Path]:
    """All files of the evaluations that are not hidden."""
    found = [path for path in project.evaluations.rglob("*") if path.is_file() and path.name[0] != "."]
    return {str(path.relative_to(project.evaluations)): path for path in found}


def assert_same(project: Project, calm: Project) -> None:
    """Same files; rows equal exactly, galleries and summaries to the byte."""
    expected, found = visible(calm), visible(project)
    assert sorted(found) == sorted(expected)
    assert len(found) == 4 * len(MODELS)  # rows, predictions, gallery, summary
    for name, path in expected.items():
        if path.suffix == ".parquet":
            pd.testing.assert_frame_equal(pd.read_parquet(found[name]), pd.read_parquet(path), check_exact=True)
        elif path.suffix == ".json":
            assert json.loads(found[name].read_text()) == json.loads(path.read_text()), name
        else:
            assert found[name].read_bytes() == path.read_bytes(), name
    assert not list(project.evaluations.rglob("shards/*"))


def test_25_kills_end_as_an_undisturbed_run(calm, tmp_path):
    project, pace = calm
    killed = untouched(project, tmp_path / "killed")
    chance = random.Random(11)
    pooled = set(chance.sample(range(KILLS), POOLED))
    progress = [0]
    for number in range(KILLS):
        process = start(killed.root, 2 if number in pooled else 1)
        tasks = chance.choice((0, 0, 1, 1, 1, 2, 2, 3))
        seconds = chance.uniform(0, 2 * pace) if tasks else chance.uniform(0, 10 * pace)  # the first is long in coming
        assert kill_after(process, killed, tasks, seconds), f"over before kill {number + 1}: {progress}"
        progress.append(finished_units(killed))
    assert progress == sorted(progress), "finished work was lost"
    assert UNITS * len(MODELS) / 4 < progress[-1] < UNITS * len(MODELS), progress
    states = end(start(killed.root))
    assert set(states) == {"kept", "evaluated"}
    assert_same(killed, project)


def test_two_evaluations_at_once_end_as_one(calm, tmp_path):
    project, _ = calm
    shared = untouched(project, tmp_path / "shared")
    both = [start(shared.root) for _ in range(2)]
    for process in both:
        assert set(end(process)) <= {"kept", "evaluated"}
    assert_same(shared, project)


def begin_worker_and_wait() -> None:
    """A parent of one worker, whose number it prints."""
    context = get_context("spawn")
    free = context.Queue()
    free.put(0)
    pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(free, _Places(1)))
    sys.stdout.write(f"{pool.submit(os.getpid).result()}\n")
    time.sleep(600)


@pytest.mark.timeout(120, func_only=True)
def test_workers_end_with_their_killed_parent(tmp_path):
    """A worker whose parent is gone must not wait for ever."""
    parent = Process(tmp_path, dict(OURS), begin_worker_and_wait)
    while not (parent.begun() and parent.printed().endswith("\n")):
        assert parent.process.is_alive(), parent.errors()
        time.sleep(0.1)
    worker = Path("/proc") / parent.printed().strip()
    assert worker.exists()
    parent.process.kill()
    parent.process.join()
    while worker.exists():
        time.sleep(0.1)
