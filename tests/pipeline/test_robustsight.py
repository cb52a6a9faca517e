"""experiments/robustsight as it is committed: its data come out of the repository, its road ends with five tables."""

import json
import shutil

import pandas as pd
import pytest
import yaml

from advalign.data.sample.cifar_world import NAMES
from advalign.files import Project
from advalign.settings import load_settings
from advalign.tracking.registry.model_card import RUN
from advalign.tracking.store import EXPERIMENT, open_store
from tests.pipeline.conftest import CODE, REPOSITORY, reproduce, run, stages_run, typed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]
MODEL, ADVERSARIAL = "test_resnet.baseline", "test_resnet_linf_eps8_255.adversarial"
MODELS = (MODEL, ADVERSARIAL, "test_resnet.aligned")
PROTOCOLS = ("accuracy", "shortcut")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """A copy of the experiment, with the code beside it, as a fresh clone has it; it trains and attacks for seconds."""
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
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["train"] |= {"epochs": 1}
    params["recipes"]["adversarial"] |= {"steps": 1}
    params["trainings"] = {name: params["trainings"][name] for name in MODELS}
    protocols = params["evaluate"]["protocols"]
    protocols["pgd-cifar"]["settings"] |= {"steps": 2}
    protocols["votes-cifar"]["settings"] |= {"n0": 2, "n": 10}
    params["evaluate"]["also"].remove(
        "corruptions"
    )  # 95 passes for every image: tests/unit/analysis/robustsight has it
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return folder


def test_the_whole_road_from_a_fresh_clone(experiment):
    lacking = typed(experiment, "data", "validate")
    assert lacking.returncode == 2
    pulled = run(experiment, "dvc", "pull", "-q", "data.dvc")
    assert pulled.returncode == 0, pulled.stderr
    done = reproduce(experiment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stages_run(done.stdout)[-2:] == ["gates", "tables"]
    found = json.loads((experiment / "outputs" / "validation.json").read_text())
    assert {name: found[name]["checked"] for name in ("train", "test", "swapped", "swaps")} == {
        "train": 9, "test": 9, "swapped": 9, "swaps": 4,
    }  # fmt: skip
    assert found["success"] == 1

    folder = experiment / "outputs" / "evaluations"
    one, other = (pd.read_parquet(folder / name / f"{MODEL}.parquet") for name in PROTOCOLS[:2])
    assert one["image"].tolist() == other["image"].tolist()
    assert one["label"].tolist() == other["label"].tolist()
    assert set(one["label"]) == set(range(len(NAMES)))
    assert (other["cue"] != other["label"]).all()
    assert 0.9 < (one["cue"] == one["label"]).mean() < 1
    assert not one["probability_top"].equals(other["probability_top"])

    compared = experiment / "outputs" / "comparison"
    figures = {path.name for path in (compared / "figures").iterdir()}
    assert {"robust_accuracy.png", "certified_accuracy.svg", "trade_off.png", "saliency.png"} <= figures
    assert "Does alignment raise IoU over both controls?" in (compared / "report.html").read_text()
    judged = json.loads((compared / "gates.json").read_text())["sighted"]
    assert set(judged) == set(MODELS)
    assert "evaluation under corruptions: under corruptions, got not evaluated under it" in judged[MODEL]["failed"]
    tables = (compared / "tables.md").read_text()
    assert tables.strip() in done.stdout, "the tables are printed"
    assert f"| {ADVERSARIAL} | adversarial | 0." in tables
    kept = json.loads((compared / "metrics" / "robustsight.json").read_text())
    assert set(kept) == set(MODELS)
    assert kept[MODEL]["clean_accuracy"] == pytest.approx((one["prediction"] == one["label"]).mean())


def test_its_runs_and_versions_are_in_the_repositorys_store(experiment):
    store = open_store(Project(experiment))
    runs = {kind: store.all_runs(kind) for kind in ("train", "evaluate")}
    assert {run.data.tags[EXPERIMENT] for found in runs.values() for run in found} == {"robustsight"}
    assert {run.info.run_name for run in runs["train"]} == {f"robustsight/{name}" for name in MODELS}
    evaluate = load_settings(experiment).evaluate
    assert len(runs["evaluate"]) == len(MODELS) * len({evaluate.protocol, *evaluate.also})
    assert {path.name for path in experiment.parent.parent.glob("mlflow.db")} == {"mlflow.db"}
    version = store.client.get_model_version_by_alias(ADVERSARIAL, "candidate")
    attacked = store.client.get_run(version.tags[f"robustsight/pgd-cifar{RUN}"])
    assert 0 <= attacked.data.metrics["robust_accuracy"] <= 1


def test_its_rows_pass_the_expectations(experiment):
    checked = typed(experiment, "data", "validate", "--json")
    assert checked.returncode == 0, checked.stdout
    found = json.loads(checked.stdout)
    assert {"attacked", "predicted", "measured"} <= set(found)


def test_a_second_repro_runs_nothing(experiment):
    again = reproduce(experiment)
    assert again.returncode == 0, again.stderr
    assert stages_run(again.stdout) == []
