"""experiments/robustsight as it is committed: its data come out of the repository, are checked, and are measured on."""

import json
import shutil

import pandas as pd
import pytest

from advalign.data.classes import DECISIONS, read_classes
from advalign.data.sample.cifar_world import NAMES
from advalign.files import Project
from advalign.models.checkpoints import save_checkpoint
from advalign.models.zoo import create_classifier
from tests.pipeline.conftest import CODE, REPOSITORY, reproduce, run, typed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]
MODEL = "test_resnet.baseline"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """A copy of the experiment, with the code beside it, as a fresh clone has it."""
    root = tmp_path_factory.mktemp("robustsight") / "project"
    for name in (name for name in CODE if (REPOSITORY / name).is_dir()):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "params.yaml").touch()
    left_out = shutil.ignore_patterns("outputs", "data", "cache", "tmp", "dvc.lock")
    folder = shutil.copytree(
        REPOSITORY / "experiments" / "robustsight", root / "experiments" / "robustsight", ignore=left_out
    )
    config = folder / ".dvc" / "config"
    config.write_text(config.read_text().replace("[core]", "[core]\n    no_scm = true"))
    return folder


def save_untrained(project):
    classes = read_classes(project.data / "classes.yaml")
    card = {
        "name": MODEL,
        "architecture": "test_resnet",
        "arguments": {},
        "classes": [{"wnid": one.wnid, "name": one.name, "decision": int(one.animate)} for one in classes.entries],
        "decisions": DECISIONS,
        "recipe": "baseline",
        "settings": {},
        "seed": 0,
        "inputs_sha256": "0",
        "data_md5": None,
        "metrics": {},
    }
    save_checkpoint(project.runs / MODEL, create_classifier("test_resnet", len(classes), 32, seed=0), card)


def test_its_data_come_from_the_repository_and_are_measured_on(experiment):
    lacking = typed(experiment, "data", "validate")
    assert lacking.returncode == 2
    pulled = run(experiment, "dvc", "pull", "-q", "data.dvc")
    assert pulled.returncode == 0, pulled.stderr
    done = reproduce(experiment)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((experiment / "outputs" / "validation.json").read_text())
    assert {name: found[name]["checked"] for name in ("train", "test", "swapped", "swaps")} == {
        "train": 9, "test": 9, "swapped": 9, "swaps": 4,
    }  # fmt: skip
    assert found["success"] == 1

    save_untrained(Project(experiment))
    rows = {}
    for protocol in ("accuracy", "accuracy-swapped"):
        measured = typed(experiment, "evaluate", MODEL, "--protocol", protocol, "--workers", "1", "--limit", "60")
        assert measured.returncode == 0, measured.stderr
        rows[protocol] = pd.read_parquet(
            experiment / "outputs" / "evaluations" / f"{protocol}.first60" / f"{MODEL}.parquet"
        )
    one, other = rows["accuracy"], rows["accuracy-swapped"]
    assert one["image"].tolist() == other["image"].tolist()
    assert one["label"].tolist() == other["label"].tolist()
    assert set(one["label"]) == set(range(len(NAMES)))
    assert (other["cue"] != other["label"]).all()
    assert (one["cue"] == one["label"]).mean() > 0.85
    assert not one["probability_top"].equals(other["probability_top"])
