"""Ray: two nodes give the rows of one process, a killed worker makes passes smaller, and nothing is left behind."""

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines.local import local
from advalign.evaluation.runner import Evaluator
from advalign.files import Project
from advalign.models.checkpoints import WEIGHTS
from advalign.models.zoo import create_classifier
from advalign.settings import load_settings
from tests.conftest import save_untrained, with_stimuli
from tests.pipeline.conftest import REPOSITORY, environment

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kill")]

MODELS = [f"test_resnet.m{number}" for number in range(3)]
TASKS = 7 * len(MODELS)
CHANGED = {"protocol": "fmn-5", "shard_size": 12, "threads": 1, "gallery": 3}
COMMON = f"""
import json, os, signal, sys, threading, time
from pathlib import Path
from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines import attempt
from advalign.evaluation.engines.ray import on_ray
from advalign.evaluation.runner import Evaluator
from advalign.files import Project
from advalign.settings import load_settings

def evaluate(root, engine):
    project = Project(Path(root))
    settings = load_settings(project.root)
    settings = settings.model_copy(update={{"evaluate": settings.evaluate.model_copy(update={CHANGED!r})}})
    sources = [TrainedModel(folder) for folder in sorted(project.checkpoints.iterdir())]
    return [[outcome.state, outcome.error] for outcome in Campaign(Evaluator(project, settings), sources, engine).run()]
"""
CLUSTER = (
    COMMON
    + '''
from ray.cluster_utils import Cluster

def noting(task):
    """`attempt`, having said where."""
    import ray
    with (task.root / "started.txt").open("a") as file:
        file.write(f"{os.getpid()} {ray.get_runtime_context().get_node_id()}\\n")
    return attempt(task)

def kill_one(log, killed):
    """Kill the worker that begins the sixth task."""
    while not log.exists() or len(lines := log.read_text().splitlines()) < 6:
        time.sleep(0.01)
    pid = int(lines[5].split()[0])
    title = Path(f"/proc/{pid}/cmdline").read_bytes()
    if title.startswith(b"ray::"):
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

if __name__ == "__main__":
    plain, disturbed, damaged = sys.argv[1:]
    small = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    cluster.add_node(**small)
    cluster.wait_for_nodes()
    os.environ["RAY_ADDRESS"] = cluster.address
    engine = on_ray("cpu", 1, work=noting)
    outcomes, killed = {"plain": evaluate(plain, engine)}, []
    killer = threading.Thread(target=kill_one, args=(Path(disturbed) / "started.txt", killed), daemon=True)
    killer.start()
    outcomes["disturbed"] = evaluate(disturbed, engine)
    killer.join(5)
    outcomes["damaged"] = evaluate(damaged, engine)
    cluster.shutdown()
    print(json.dumps({"outcomes": outcomes, "killed": killed}))
'''
)
ALONE = COMMON + 'print(json.dumps(evaluate(sys.argv[1], on_ray("cpu", 1))))\n'


@pytest.fixture(scope="module")
def calm(sample_root, tmp_path_factory):
    """A project whose models were evaluated in one process without Ray."""
    project = with_stimuli(sample_root, tmp_path_factory.mktemp("ray") / "calm")
    for seed, name in enumerate(MODELS):
        save_untrained(project, name, create_classifier("test_resnet", 36, 64, seed=seed))
    settings = load_settings(project.root)
    settings = settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update=CHANGED)})
    sources = [TrainedModel(project.checkpoints / name) for name in MODELS]
    outcomes = Campaign(Evaluator(project, settings), sources, local(1)).run()
    assert [outcome.state for outcome in outcomes] == ["evaluated"] * len(MODELS)
    return project


def untouched(calm: Project, root: Path) -> Project:
    """The same project with nothing evaluated."""
    shutil.copytree(calm.root, root, ignore=shutil.ignore_patterns("evaluations"))
    return Project(root)


def run_script(folder: Path, text: str, *arguments: str, **variables: str):
    """Run a script whose processes, and theirs, can be told by a variable; returns (code, output, errors)."""
    script = folder / "script.py"
    script.write_text(text)
    own = {name: value for name, value in environment().items() if not name.startswith("RAY_")}
    own |= {"PYTHONPATH": str(REPOSITORY), "RAY_USAGE_STATS_ENABLED": "0", "ADVALIGN_DRILL": str(folder), **variables}
    done = subprocess.run(
        [sys.executable, str(script), *arguments], cwd=folder, env=own, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def left_behind(folder: Path, patience: float = 20) -> list[str]:
    """Command lines of processes of a drill that do not end."""
    mark = f"ADVALIGN_DRILL={folder}".encode()
    deadline = time.monotonic() + patience
    while True:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200])
            except OSError:
                continue  # ended meanwhile, or another user's
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def assert_same(project: Project, calm: Project, names: list[str]) -> None:
    """Rows, predictions and summaries are those of the run without Ray."""
    for name in names:
        for table in (f"fmn-5/{name}.parquet", f"predictions/{name}.parquet"):
            expected, found = (pd.read_parquet(one.evaluations / table) for one in (calm, project))
            assert not found["batch_size"].notna().any()
            pd.testing.assert_frame_equal(found, expected, check_exact=True)
        summary = f"fmn-5/{name}.json"
        assert json.loads((project.evaluations / summary).read_text()) == json.loads(
            (calm.evaluations / summary).read_text()
        )


def starts(project: Project) -> list[list[str]]:
    """(worker, node) of every task that was started."""
    return [line.split() for line in (project.root / "started.txt").read_text().splitlines()]


def test_two_nodes_a_killed_worker_and_a_damaged_model(calm, tmp_path):
    plain, disturbed, damaged = (untouched(calm, tmp_path / name) for name in ("plain", "disturbed", "damaged"))
    with (damaged.checkpoints / MODELS[1] / WEIGHTS).open("ab") as file:
        file.write(b"\0")
    roots = [str(project.root) for project in (plain, disturbed, damaged)]
    code, printed, errors = run_script(tmp_path, CLUSTER, *roots)
    assert code == 0, errors[-3000:]
    said = json.loads(printed.splitlines()[-1])

    assert said["outcomes"]["plain"] == [["evaluated", ""]] * len(MODELS)
    assert_same(plain, calm, MODELS)
    assert len(starts(plain)) == TASKS
    assert len({node for _, node in starts(plain)}) == 2

    assert said["outcomes"]["disturbed"] == [["evaluated", ""]] * len(MODELS)
    assert said["killed"], "no worker was killed"
    assert TASKS < len(starts(disturbed)) <= TASKS + 3
    sizes = set()
    for name in MODELS:
        expected, rows = (pd.read_parquet(one.evaluations / f"fmn-5/{name}.parquet") for one in (calm, disturbed))
        sizes |= {*rows["batch_size"].dropna()}
        pd.testing.assert_frame_equal(  # 24 at once are no fewer than the 12 of a task
            rows.drop(columns="batch_size"), expected.drop(columns="batch_size"), check_exact=True
        )
    assert sizes == {24}

    assert [state for state, _ in said["outcomes"]["damaged"]] == ["evaluated", "failed", "evaluated"]
    line = json.loads((damaged.evaluations / "fmn-5" / "failed" / f"{MODELS[1]}.json").read_text())["error"]
    assert line.startswith("DataError: ")
    assert line.endswith("the weights were changed or damaged")
    assert_same(damaged, calm, [MODELS[0], MODELS[2]])
    assert left_behind(tmp_path) == []


def test_a_cluster_started_for_one_run_ends_with_it(calm, tmp_path):
    project = untouched(calm, tmp_path / "alone")
    code, printed, errors = run_script(tmp_path, ALONE, str(project.root), RAY_ADDRESS="local")
    assert code == 0, errors[-3000:]
    assert json.loads(printed.splitlines()[-1]) == [["evaluated", ""]] * len(MODELS)
    assert_same(project, calm, MODELS)
    assert left_behind(tmp_path) == []


@pytest.mark.timeout(300, func_only=True)  # Ray itself would try for 14 minutes
@pytest.mark.parametrize("listens", [False, True])
def test_an_address_without_ray_is_one_line_soon(calm, tmp_path, listens):
    """Nobody there, or somebody who is not Ray."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if listens:
            other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        code, _, errors = run_script(tmp_path, ALONE, str(untouched(calm, tmp_path / "none").root), RAY_ADDRESS=address)
    assert code == 1
    last = errors.strip().splitlines()[-1]
    assert last.startswith(f"advalign.errors.InputError: no Ray cluster at '{address}': ")
    assert "`ray start --head`" in last
    assert left_behind(tmp_path) == []
