"""experiments/linsley2023 as it is committed, on tiny data: `dvc repro` ends with both variants compared."""

import json
import shutil

import pandas as pd
import pytest
import yaml

from advalign.data.sample.generate import SampleSettings, generate_sample
from tests.pipeline.conftest import CODE, REPOSITORY, change_params, reproduce, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]
NAMES = ["test_resnet.baseline", "test_resnet.harmonized"]
SMALL = {
    "stimuli": {"images_per_category": 1},
    "train": {"epochs": 1, "batch_size": 16, "threads": 1},
    "evaluate": {"shard_size": 12, "gallery": 3},
    "compare": {"bootstrap": 200},
}


def test_its_data_are_those_of_the_main_experiment():
    folder = REPOSITORY / "experiments" / "linsley2023"
    own, main = (yaml.safe_load((place / "data.dvc").read_text()) for place in (folder, REPOSITORY))
    assert own == main
    told = (folder / ".dvc" / "config").read_text()
    assert (folder / ".dvc" / told.partition("url = ")[2].strip()).resolve() == REPOSITORY / ".dvc" / "seed"


def test_its_stages_end_with_both_variants_side_by_side(tmp_path):
    root = tmp_path / "project"
    for name in (name for name in CODE if (REPOSITORY / name).is_dir()):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "params.yaml").touch()
    left_out = shutil.ignore_patterns("outputs", "data", "data.dvc", "cache", "tmp", "dvc.lock")
    folder = root / "experiments" / "linsley2023"
    shutil.copytree(REPOSITORY / "experiments" / "linsley2023", folder, ignore=left_out)
    config = folder / ".dvc" / "config"
    config.write_text(config.read_text().replace("[core]", "[core]\n    no_scm = true"))
    for section, values in SMALL.items():
        change_params(folder, section, **values)
    generate_sample(folder / "data", SampleSettings(scale=0.01))
    assert run(folder, "dvc", "add", "-q", "data").returncode == 0
    done = reproduce(folder)
    assert done.returncode == 0, done.stdout + done.stderr

    for protocol in ("linsley2023-published", "linsley2023-sphere"):
        for name in NAMES:
            results = folder / "outputs" / "evaluations" / protocol
            told = json.loads((results / f"{name}.json").read_text())
            assert told["image_set"] == "stimuli-classes"
            assert {"adversarial_human_alignment_mean_map_raw", "perturbation_tolerance", "top1_accuracy"} <= set(
                told["metrics"]
            )
            rows = pd.read_parquet(results / f"{name}.parquet")
            assert len(rows) == rows["label"].nunique() == 36  # an image of each class, labelled with it
            assert "rho_mean" in rows
    statistics = json.loads((folder / "outputs" / "comparison" / "statistics.json").read_text())
    assert statistics["protocol"] == "linsley2023-published"
    assert [one["protocol"] for one in statistics["protocols"]["trade_off"]] == [
        "linsley2023-published", "linsley2023-sphere",
    ]  # fmt: skip
    assert statistics["left_out"] == []
    assert pd.read_csv(folder / "outputs" / "comparison" / "zoo.csv")["model"].tolist() == NAMES
    assert (root / "mlflow.db").is_file()
