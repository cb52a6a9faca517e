"""SIGKILL at ten random moments of one training: it ends in the bytes of an undisturbed one."""

import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest
import torch

from advalign.files import Project
from advalign.settings import Training, load_settings
from advalign.tracking.store import open_store
from advalign.training.plan import plan
from advalign.training.train import state_file
from tests.pipeline.conftest import environment
from tests.team.processes import Process, advalign
from tests.tiny_responses import write_responses

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

NAME, EPOCHS, STEPS = "test_resnet.harmonized", 3, 9  # steps of an epoch
COMMAND = ("train", "harmonized", "--epochs", str(EPOCHS), "--set", "threads=1", "--set", "save_minutes=0.00001")
LOCAL = {"MLFLOW_TRACKING_URI": None, "OMP_NUM_THREADS": "1"}
MOMENTS = ("loading", "steps", "saving", "validation", "writing the checkpoint")


GUIDED = {"manifold-guided": "test_resnet.manifold.guided.brain.v4", "guided": "test_resnet.guided.brain.v4"}
GUIDE = ("--set", "responses=brain", "--set", "roi=V4", *COMMAND[2:])


@dataclass
class Watched:
    """What a training has on disk, seen from outside."""

    project: Project
    name: str = NAME
    states: list[tuple[int, int]] = field(default_factory=list)  # (epochs, steps of the next), as they were written
    mark: object = None

    @property
    def state_file(self):
        return next(self.project.resume.glob(f"{self.name}.*.pt"), self.project.resume / "none yet")

    @property
    def folder(self):
        return self.project.runs / self.name

    def look(self):
        """Note the state on disk if it is a new one; whether it is."""
        try:
            mark = self.state_file.stat().st_ino, self.state_file.stat().st_mtime_ns
            if mark == self.mark:
                return False
            state = torch.load(self.state_file, weights_only=True)  # one move: never half a file
        except FileNotFoundError:
            return False
        self.mark = mark
        self.states.append((len(state["history"]), state["done"]))
        return True

    def temporary(self):
        """Names of states that were being written."""
        return {path.name for path in self.project.resume.glob(".*.tmp")}

    def written(self):
        """Which history.csv there is: the first that is written of a checkpoint."""
        history = self.folder / "history.csv"
        return history.stat().st_ino if history.exists() else None


def kill_at(moment, project, chance, command=COMMAND):
    """Start the training, kill it at a moment; at which one it was, by what lies on the disk."""
    watched = Watched(project, GUIDED.get(command[1], NAME))
    watched.look()
    before, leftover, history = watched.mark, watched.temporary(), watched.written()
    process = advalign(project.root, LOCAL, *command)

    def wait(reached):
        while not reached():
            assert process.process.exitcode is None, f"ended before {moment}: {process.printed()}{process.errors()}"
            time.sleep(0.0005)

    if moment == "loading":
        time.sleep(chance.uniform(0.1, 0.8))
    elif moment in ("steps", "saving"):
        for _ in range(chance.randint(1, 4)):
            wait(watched.look)
        if moment == "saving":
            wait(lambda: watched.temporary() - leftover)
        else:
            time.sleep(chance.uniform(0, 0.1))
    elif moment == "validation":
        wait(lambda: watched.look() and watched.states[-1][1] == STEPS)
        time.sleep(chance.uniform(0, 0.02))
    elif moment == "writing the checkpoint":
        wait(lambda: watched.written() != history)
        time.sleep(chance.uniform(0, 0.003))
    else:
        wait((watched.folder / "card.json").exists)
        time.sleep(chance.uniform(0.05, 0.5))
    process.process.kill()
    process.process.join()
    assert process.process.exitcode == -9, f"it had ended: {process.printed()}{process.errors()}"
    return found_at(watched, before, leftover, history)


def found_at(watched, before, leftover, history):
    """The moment that a training was killed at."""
    watched.look()
    if (watched.folder / "card.json").exists():
        return "registering"
    if watched.temporary() - leftover:
        return "saving"
    if watched.written() != history:
        return "writing the checkpoint"
    if watched.mark == before:
        return "loading"
    return "validation" if watched.states[-1][1] == STEPS else "steps"


def test_a_killed_training_ends_in_the_bytes_of_an_undisturbed_one(sample_root, tmp_path):
    calm, killed = (Project(tmp_path / name) for name in ("calm", "killed"))
    for project in (calm, killed):
        shutil.copytree(sample_root, project.root, ignore=shutil.ignore_patterns("outputs", "ml*", ".ml*"))
    undisturbed = subprocess.Popen(
        [sys.executable, "-m", "advalign.cli.main", *COMMAND], cwd=calm.root, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        chance = random.Random(11)
        planned = [*MOMENTS[:4], *MOMENTS[:4]]
        chance.shuffle(planned)
        planned += [MOMENTS[4], MOMENTS[4], "registering"]  # when all epochs are done
        hit = [kill_at(moment, killed, chance) for moment in planned]
        printed, _ = undisturbed.communicate()
        assert undisturbed.returncode == 0, printed
    finally:
        undisturbed.kill()
    print("killed at:", ", ".join(hit))  # noqa: T201  pytest -rP shows it
    assert len(hit) > 10
    assert {*MOMENTS, "registering"} <= set(hit), f"killed at {hit}"  # all but the last were aimed at twice
    assert not list(killed.resume.glob("*.pt")), "the result is safe"

    done = advalign(killed.root, LOCAL, *COMMAND)
    assert done.wait() == 0, done.errors()
    assert done.printed().startswith(f"{NAME}: already trained with these settings")
    for name in ("model.safetensors", "history.csv"):
        assert (killed.runs / NAME / name).read_bytes() == (calm.runs / NAME / name).read_bytes(), name
    visible = {path.name for path in (killed.runs / NAME).iterdir() if path.name[0] != "."}
    assert visible == {"model.safetensors", "history.csv", "card.json"}
    check = Process(killed.root, LOCAL, one_of_each, killed.root)
    assert check.wait() == 0, check.errors()


@pytest.mark.parametrize(
    ("recipe", "ema"),
    [("manifold-guided", ()), ("guided", ()), ("guided", ("--set", "ema=0.9"))],
    ids=["manifold", "guided", "guided average"],
)
def test_a_killed_guided_training_ends_in_the_bytes_of_an_undisturbed_one(sample_root, tmp_path, recipe, ema):
    """Its head is in the saved states and not in the checkpoint: it must not begin anew."""
    calm, killed = (Project(tmp_path / name) for name in ("calm", "killed"))
    for project in (calm, killed):
        shutil.copytree(sample_root, project.root, ignore=shutil.ignore_patterns("outputs", "ml*", ".ml*"))
        write_responses(project)
    chance = random.Random(5)
    command, name = ("train", recipe, *GUIDE, *ema), GUIDED[recipe]
    undisturbed = advalign(calm.root, LOCAL, *command)
    assert undisturbed.wait() == 0, undisturbed.errors()
    hit = [kill_at(moment, killed, chance, command) for moment in ("steps", "saving", "steps")]
    assert set(hit) & {"steps", "saving"}, f"killed at {hit}"
    done = advalign(killed.root, LOCAL, *command)
    assert done.wait() == 0, done.errors()
    assert "guided by simulated responses brain, area V4" in done.errors()
    for file in ("model.safetensors", "history.csv"):
        assert (killed.runs / name / file).read_bytes() == (calm.runs / name / file).read_bytes(), file


def one_of_each(root):
    """In the store: one finished run whose curves have a point per epoch, and one version."""
    store = open_store(Project(root))
    (run,) = store.all_runs("train")
    assert run.info.status == "FINISHED"
    for metric in ("loss", "map_term", "val_accuracy"):
        points = store.client.get_metric_history(run.info.run_id, metric)
        assert sorted(point.step for point in points) == [STEPS * epoch for epoch in range(1, EPOCHS + 1)], metric
    (version,) = store.client.search_model_versions(f"name = '{NAME}'")
    assert version.run_id == run.info.run_id
    assert dict(store.client.get_registered_model(NAME).aliases) == {"candidate": version.version}


def test_what_a_killed_process_was_writing_is_no_state(sample_root, tmp_path):
    """Half of a state beside it, and nothing else: the training begins at the beginning and ends well."""
    project = Project(tmp_path / "project")
    shutil.copytree(sample_root, project.root, ignore=shutil.ignore_patterns("outputs", "ml*", ".ml*"))
    project.resume.mkdir(parents=True)
    words = ("train", "baseline", "--set", "threads=1")
    settings = load_settings(project.root)
    training = Training(model="test_resnet", recipe="baseline", train={"threads": 1})
    own = state_file(project, plan(project, settings, training))
    half = own.with_name(f".{own.name}.{'0' * 12}.tmp")
    half.write_bytes(b"PK half of a state")
    done = advalign(project.root, LOCAL, *words)
    assert done.wait() == 0, done.errors()
    assert "trained, val accuracy" in done.printed()
    assert not half.exists()
