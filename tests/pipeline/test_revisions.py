"""Metrics of every revision: `dvc metrics diff` and `dvc exp show` find in git what a commit measured."""

import json
import shutil

import pytest
import yaml

from tests.pipeline.conftest import REPOSITORY, program, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]

FILES = (".gitignore", ".dvcignore", "dvc.yaml", "params.yaml", ".dvc/config", ".dvc/.gitignore")
COMMITTER = {f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def copied(source, target):
    for name in FILES:
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)


def git(root, *words):
    done = run(root, "git", *words, **COMMITTER)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("experiment", [".", "experiments/imagenet"])
def test_metrics_of_an_older_commit_are_there(tmp_path, experiment):
    copied(REPOSITORY, tmp_path)
    copied(REPOSITORY / "experiments" / "imagenet", tmp_path / "experiments" / "imagenet")
    git(tmp_path, "init", "-q")
    folder = tmp_path / experiment
    stages = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"].values()
    metrics = [name for stage in stages for one in stage.get("metrics", ()) for name in one]
    assert len(metrics) == 4
    for value in (1.0, 2.0):
        for name in (*metrics, "outputs/published.json", "outputs/comparison/zoo.csv", "outputs/evaluations/a.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(json.dumps({"net": value}))
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-q", "-m", f"measured {value}")
    held = git(folder, "ls-files", "outputs").split()
    assert sorted(held) == sorted(metrics)
    changed = json.loads(run(folder, "dvc", "metrics", "diff", "HEAD~1", "HEAD", "--json").stdout)
    assert changed == {name: {"net": {"old": 1.0, "new": 2.0, "diff": 1.0}} for name in metrics}
    shown = json.loads(run(folder, "dvc", "exp", "show", "--json", "-n", "2").stdout)
    told = [{name: one["data"]["net"] for name, one in row["data"]["metrics"].items()} for row in shown]
    assert told == [dict.fromkeys(metrics, value) for value in (2.0, 2.0, 1.0)]


def test_a_trial_by_hand_changes_no_stage(reproduced, tmp_path):
    root = shutil.copytree(reproduced, tmp_path / "project", symlinks=True)
    trained = program(root, "train", "robust", "--eps", "0.25", "--epochs", "1")
    assert trained.returncode == 0, trained.stderr
    before = run(root, "dvc", "status", "--json").stdout
    assert "evaluate" not in json.loads(before)
    for model in ("test_resnet.baseline", "test_resnet_l2_eps0.25"):
        tried = program(root, "evaluate", model, "--limit", "6", "--workers", "1", "--json")
        assert json.loads(tried.stdout)[0]["state"] == "evaluated", tried.stderr
    assert run(root, "dvc", "status", "--json").stdout == before
