"""SIGKILL at 25 random moments of an evaluation of 12 models: every file ends as if nobody had disturbed it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from advalign.files import Project
from advalign.models.zoo import create_classifier
from tests.conftest import save_untrained, with_stimuli
from tests.pipeline.conftest import REPOSITORY, environment

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kill")]

MODELS = [f"test_resnet.m{number:02d}" for number in range(12)]
KILLS = 25
POOLED = 4  # of the runs that are killed, how many have two workers
UNITS = 7  # tasks of a model: 72 stimuli in shards of 12, and one of validation images
SCRIPT = """
import sys
from pathlib import Path
from advalign.evaluation.protocols import protocol
from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines.local import local
from advalign.evaluation.runner import Evaluator
from advalign.files import Project
from advalign.settings import load_settings

def main():
    project = Project(Path(sys.argv[1]))
    settings = load_settings(project.root)
    changed = {"protocol": "fmn-5", "shard_size": 12, "threads": 1, "gallery": 3}
    settings = settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update=changed)})
    print("ready", flush=True)
    sources = [TrainedModel(folder) for folder in sorted(project.checkpoints.iterdir())]
    outcomes = Campaign(Evaluator(project, settings), sources, local(int(sys.argv[2]))).run()
    print(*(outcome.state for outcome in outcomes))

if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def calm(sample_root, tmp_path_factory):
    """A project whose 12 models were evaluated undisturbed, the script, and the seconds that a task took."""
    folder = tmp_path_factory.mktemp("zoo")
    project = with_stimuli(sample_root, folder / "calm")
    for seed, name in enumerate(MODELS):
        save_untrained(project, name, create_classifier("test_resnet", 36, 64, seed=seed))
    script = folder / "evaluate.py"
    script.write_text(SCRIPT)
    process = start(script, project.root)
    begun = time.monotonic()
    assert end(process) == ["evaluated"] * len(MODELS)
    return project, script, (time.monotonic() - begun) / (UNITS * len(MODELS))


def start(script: Path, root: Path, workers: int = 1) -> subprocess.Popen[str]:
    """Start an evaluation in a process group of its own; returns when its imports are done."""
    process = subprocess.Popen(
        [sys.executable, str(script), str(root), str(workers)],
        cwd=root, env={**environment(), "PYTHONPATH": str(REPOSITORY)}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    ready = process.stdout.readline()
    assert ready == "ready\n", process.communicate()[1]
    return process


def end(process: subprocess.Popen[str]) -> list[str]:
    """What became of the models, once the evaluation is over."""
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    return printed.split()


def kill_after(process: subprocess.Popen[str], project: Project, tasks: int, seconds: float) -> bool:
    """Kill a process group some time after it has finished some more tasks; whether it was still at work."""
    goal = finished_units(project) + tasks
    while process.poll() is None and finished_units(project) < goal:
        time.sleep(0.01)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    return False


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
    project, script, pace = calm
    killed = untouched(project, tmp_path / "killed")
    chance = random.Random(11)
    pooled = set(chance.sample(range(KILLS), POOLED))
    progress = [0]
    for number in range(KILLS):
        process = start(script, killed.root, 2 if number in pooled else 1)
        tasks = chance.choice((0, 0, 1, 1, 1, 2, 2, 3))
        seconds = chance.uniform(0, 2 * pace) if tasks else chance.uniform(0, 10 * pace)  # the first is long in coming
        assert kill_after(process, killed, tasks, seconds), f"over before kill {number + 1}: {progress}"
        progress.append(finished_units(killed))
    assert progress == sorted(progress), "finished work was lost"
    assert UNITS * len(MODELS) / 4 < progress[-1] < UNITS * len(MODELS), progress
    states = end(start(script, killed.root))
    assert set(states) == {"kept", "evaluated"}
    assert_same(killed, project)


def test_two_evaluations_at_once_end_as_one(calm, tmp_path):
    project, script, _ = calm
    shared = untouched(project, tmp_path / "shared")
    both = [start(script, shared.root) for _ in range(2)]
    for process in both:
        assert set(end(process)) <= {"kept", "evaluated"}
    assert_same(shared, project)


@pytest.mark.timeout(120, func_only=True)
def test_workers_end_with_their_killed_parent(tmp_path):
    """A worker whose parent is gone must not wait for ever."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        "from advalign.evaluation.engines.local import _begin\n"
        "if __name__ == '__main__':\n"
        "    context = get_context('spawn')\n"
        "    pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(context.Queue(),))\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    assert Path(f"/proc/{worker}").exists()
    process.kill()
    process.wait()
    while Path(f"/proc/{worker}").exists():
        time.sleep(0.1)
