"""`torchrun ... advalign train`: two processes that are one training to whoever looks at it."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

from advalign.files import Project
from advalign.tracking.store import open_store
from tests.pipeline.conftest import environment
from tests.team.processes import Process, advalign, free_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

NAME = "test_resnet.baseline"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python")
TRAIN = ("train", "baseline", "--model", "test_resnet", "--set", "threads=1")
LOCAL = {"MLFLOW_TRACKING_URI": None, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def copied(sample_root, tmp_path_factory):
    """A copy of the tiny project."""
    root = tmp_path_factory.mktemp("torchrun") / "project"
    shutil.copytree(sample_root, root, ignore=shutil.ignore_patterns("outputs", "ml*", ".ml*"))
    return Project(root)


def begin(project, *words):
    """Start `advalign WORDS` twice, by torchrun, in a process group of its own."""
    return subprocess.Popen(
        [*TORCHRUN, "advalign", *words], cwd=project.root, env=environment(), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def end(process):
    """(exit code, standard output, standard error) of a group that ends by itself, or is killed."""
    try:
        printed, errors = process.communicate()
    finally:
        if process.poll() is None:  # this test's time is over
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, printed, errors


def begin_each(roots, *words, **variables):
    """Start `advalign WORDS` with torchrun's variables, but without its seconds; one process per project."""
    group = {**LOCAL, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), **variables}
    ranks = zip(("0", "1"), roots, strict=True)
    return [advalign(root, {**group, "RANK": rank, "LOCAL_RANK": rank}, *words) for rank, root in ranks]


def one_of_each(root, steps):
    """In the store: one finished run whose curve has a point at each of the steps, and one version, its candidate."""
    store = open_store(Project(root))
    (run,) = store.all_runs("train")
    assert run.info.status == "FINISHED"
    assert "advalign.ended" not in run.data.tags
    assert sorted(point.step for point in store.client.get_metric_history(run.info.run_id, "loss")) == steps
    (version,) = store.client.search_model_versions(f"name = '{NAME}'")
    assert version.run_id == run.info.run_id


def check_store(project, steps):
    looked = Process(project.root, LOCAL, one_of_each, project.root, steps)
    assert looked.wait() == 0, looked.errors()


def test_one_training_one_line_one_run_one_version_and_once_only(copied):
    code, printed, errors = end(begin(copied, *TRAIN, "--epochs", "1"))
    assert code == 0, errors
    (line,) = printed.splitlines()
    assert line.startswith(f"{NAME}: trained, val accuracy 0.")
    assert line.endswith(f"checkpoint outputs/runs/{NAME}, models:/{NAME}@candidate is version 1")
    assert errors.count(f"training {NAME}: 9/9 ") == 1
    check_store(copied, [9])
    weights = (copied.runs / NAME / "model.safetensors").read_bytes()

    again = begin_each([copied.root] * 2, *TRAIN, "--epochs", "1")
    assert [process.wait() for process in again] == [0, 0], [process.errors() for process in again]
    (line,) = "".join(process.printed() for process in again).splitlines()
    assert line.startswith(f"{NAME}: already trained with these settings, val accuracy 0.")
    assert line.endswith("is version 1")
    assert (copied.runs / NAME / "model.safetensors").read_bytes() == weights
    check_store(copied, [9])


@pytest.mark.parametrize(
    ("words", "variables", "line"),
    [
        (("--model", "test_resnett"), {}, "unknown model 'test_resnett'"),
        (("--set", "batch_size=15"), {}, "train.batch_size 15 cannot be divided by 2 processes x 1 parts"),
        ((), {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}, "tracking server http://127.0.0.1:9 does not answer"),
    ],
)
def test_what_is_wrong_ends_every_process(copied, words, variables, line):
    """Also what only the first process notices."""
    for process in begin_each([copied.root] * 2, *TRAIN, "--seed", "5", *words, **variables):
        assert process.wait() == 2, process.errors()
        (told,) = [one for one in process.errors().splitlines() if one.startswith("advalign: error: ")]
        assert line in told
        assert process.printed() == ""


def test_a_machine_that_is_taken_away(sample_root, tmp_path):
    """SIGTERM to torchrun, as a cluster sends it: the state is kept, and one process goes on, in the same run."""
    project = Project(tmp_path / "project")
    shutil.copytree(sample_root, project.root, ignore=shutil.ignore_patterns("outputs", "ml*", ".ml*"))
    words = (*TRAIN, "--epochs", "4", "--set", "save_minutes=0.00001", "--set", "workers=1")  # they get the signal too
    process = begin(project, *words)
    while not list(project.resume.glob("*.pt")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code, printed, errors = end(process)
    assert code != 0
    assert printed == ""
    assert errors.count("advalign: error: SIGTERM after step") >= 1, errors
    (state_file,) = project.resume.glob("*.pt")
    state = torch.load(state_file, weights_only=True)
    assert len(state["history"]) < 4

    done = advalign(project.root, LOCAL, *words)
    assert done.wait() == 0, done.errors()
    assert done.printed().startswith(f"{NAME}: trained, val accuracy 0.")
    assert list(pd.read_csv(project.runs / NAME / "history.csv")["epoch"]) == [1, 2, 3, 4]
    check_store(project, [9, 18, 27, 36])


JOINED_TWICE = """
import torch.distributed as dist
from advalign.training.world import joined
with joined("cpu") as outer:
    for turn in range(2):
        with joined("cpu") as inner:
            assert inner.share == outer.share
            assert inner.total(1 + inner.share.rank) == [3]
        assert dist.is_initialized()
assert not dist.is_initialized()
print(f"both {turn}\\n", end="", flush=True)
"""


def test_what_needs_the_processes_twice_joins_once_around_it(tmp_path):
    """As `advalign study` does: torchrun's store does not let the same processes meet again."""
    (tmp_path / "twice.py").write_text(JOINED_TWICE)
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = subprocess.run((*command, str(tmp_path / "twice.py")), capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("both 1") == 2


def test_processes_that_see_other_data_are_refused(sample_root, tmp_path):
    """Each on its machine with its copy of the data, of which one lacks a byte."""
    roots = [tmp_path / name for name in ("first", "second")]
    for root in roots:
        shutil.copytree(sample_root, root, ignore=shutil.ignore_patterns("outputs", "ml*", ".ml*"))
    (classes,) = roots[1].glob("data/classes.yaml")
    classes.write_text(classes.read_text() + "\n")
    for process in begin_each(roots, *TRAIN):
        assert process.wait() == 2, process.errors()
        assert "the processes see different settings, code or data: give all machines the same ones" in process.errors()
