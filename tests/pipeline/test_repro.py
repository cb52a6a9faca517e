"""The whole road on tiny data: what runs, what is kept, what comes back, what a user finds."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

import advalign
from advalign.errors import AdvalignError
from tests.pipeline.conftest import TRAININGS, change_params, program, reproduce, run, stages_run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]

CONTRACT_COLUMNS = [
    "model",
    "protocol",
    "stimulus",
    "category",
    "superclass",
    "label",
    "clean_prediction",
    "status",
    "norm_l2",
    "rho_released",
    "rho_magnitude",
    "queries",
]
ZOO_COLUMNS = [
    "model",
    "group",
    "recipe",
    "protocol",
    "n_valid",
    "pt",
    "pt_sem",
    "aa",
    "aa_sem",
    "aa_raw",
    "aligned_minus_shuffled",
    "multilabel_accuracy",
    "top1_accuracy",
    "attack_success_rate",
    "starts_agree",
]


def test_files_are_where_the_contract_says(reproduced):
    outputs = reproduced / "outputs"
    for name in TRAININGS:
        rows = pd.read_parquet(outputs / "evaluations" / "fmn-5" / f"{name}.parquet")
        assert set(CONTRACT_COLUMNS) <= set(rows.columns)
        assert len(rows) == 36
        assert set(rows["status"]) <= {"ok", "misclassified_clean", "attack_failed"}
        assert rows.loc[rows["status"] != "ok", "norm_l2"].isna().all()
        assert (rows.loc[rows["status"] == "ok", "norm_l2"] > 0).all()
        metadata = pq.read_schema(outputs / "evaluations" / "fmn-5" / f"{name}.parquet").metadata
        assert metadata[b"advalign.schema_version"] == b"1"
        for file in ("model.safetensors", "card.json", "history.csv"):
            assert (outputs / "checkpoints" / name / file).is_file()
    zoo = pd.read_csv(outputs / "comparison" / "zoo.csv")
    assert set(ZOO_COLUMNS) <= set(zoo.columns)
    assert sorted(zoo["model"]) == sorted(TRAININGS)
    statistics = json.loads((outputs / "comparison" / "statistics.json").read_text())
    assert {"protocol", "correlations", "contrasts", "pareto", "paired"} <= set(statistics)
    assert {entry["name"] for entry in statistics["contrasts"]} == {
        "vit_vs_cnn",
        "ssl_vs_other",
        "big_data_vs_other",
        "robust_vs_other",
    }
    assert json.loads((outputs / "validation.json").read_text())["success"] == 1
    report = (outputs / "comparison" / "report.html").read_text()
    assert all(name in report for name in TRAININGS)
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.http", report)  # nothing is fetched


def test_protocols_stand_side_by_side(reproduced):
    statistics = json.loads((reproduced / "outputs" / "comparison" / "statistics.json").read_text())
    assert statistics["protocol"] == "fmn-5"
    side_by_side = statistics["protocols"]
    assert [entry["protocol"] for entry in side_by_side["trade_off"]] == ["fmn-5", "feng2025-released"]
    for row in side_by_side["models"]:
        for protocol in ("fmn-5", "feng2025-released"):
            rows = pd.read_parquet(reproduced / "outputs" / "evaluations" / protocol / f"{row['model']}.parquet")
            assert row["pt"][protocol] == pytest.approx(rows["norm_l2"].mean())


def test_a_second_repro_runs_nothing(reproduced):
    again = reproduce(reproduced)
    assert again.returncode == 0
    assert stages_run(again.stdout) == []


def test_pt_is_the_mean_of_the_stored_norms(reproduced):
    zoo = pd.read_csv(reproduced / "outputs" / "comparison" / "zoo.csv").set_index("model")
    for name in TRAININGS:
        rows = pd.read_parquet(reproduced / "outputs" / "evaluations" / "fmn-5" / f"{name}.parquet")
        valid = rows[rows["status"] == "ok"]
        assert zoo.loc[name, "n_valid"] == len(valid)
        assert zoo.loc[name, "pt"] == pytest.approx(valid["norm_l2"].mean(), rel=1e-5)
        assert zoo.loc[name, "aa_raw"] == pytest.approx(valid["rho_released"].mean(), rel=1e-5, abs=1e-6)


def test_store_is_rebuilt_after_it_is_deleted(reproduced):
    before = json.loads(program(reproduced, "registry", "list", "--json").stdout)
    assert sorted(row["name"] for row in before) == sorted(TRAININGS)
    assert all(row["aliases"] == ["candidate"] for row in before)
    assert json.loads(program(reproduced, "publish", "--json").stdout)["created"] == []
    (reproduced / "mlflow.db").unlink()
    published = json.loads(program(reproduced, "publish", "--json").stdout)
    # a run and a version per checkpoint, a run per evaluation under two protocols, the human maps, the comparison
    assert len(published["created"]) == 4 * len(TRAININGS) + 2
    assert json.loads(program(reproduced, "publish", "--json").stdout)["created"] == []
    after = json.loads(program(reproduced, "registry", "list", "--json").stdout)
    digests = [{row["name"]: row["tags"]["advalign.weights_sha256"] for row in rows} for rows in (before, after)]
    assert digests[0] == digests[1]
    tags = after[0]["tags"]
    assert float(tags["fmn-5.perturbation_tolerance"]) > 0


def test_registered_model_predicts_as_the_checkpoint_does(reproduced, monkeypatch):
    monkeypatch.chdir(reproduced)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    pixels = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    name = TRAININGS[1]
    with torch.no_grad():
        expected = advalign.load(str(reproduced / "outputs" / "checkpoints" / name))(pixels)
        registered = advalign.load(f"models:/{name}@candidate")(pixels)
    torch.testing.assert_close(registered, expected, rtol=0, atol=0)

    import mlflow

    served = mlflow.pyfunc.load_model(f"models:/{name}@candidate").predict(pixels.numpy())
    assert served["class_index"].tolist() == expected.argmax(1).tolist()
    animate = expected[:, :18].amax(1)  # the first six superclasses are animate
    np.testing.assert_allclose(served["animate_score"], animate, atol=1e-5)
    with pytest.raises(AdvalignError, match="has no alias 'nobody'"):
        advalign.load(f"models:/{name}@nobody")


def test_evaluation_by_hand_is_kept_apart_and_resumes(reproduced):
    words = ("evaluate", TRAININGS[0], "--limit", "6", "--protocol", "feng2025-released", "--json")
    first = program(reproduced, *words, "--workers", "2")
    assert first.returncode == 0, first.stderr
    row = json.loads(first.stdout)[0]
    assert row["state"] == "evaluated"
    rows = pd.read_parquet(
        reproduced / "outputs" / "evaluations" / "feng2025-released.first6" / f"{TRAININGS[0]}.parquet"
    )
    assert len(rows) == 6
    again = program(reproduced, *words)
    assert json.loads(again.stdout)[0]["state"] == "kept"
    estimate = program(reproduced, "evaluate", TRAININGS[0], "--protocol", "fmn", "--dry-run", "--json")
    cost = json.loads(estimate.stdout)[0]
    assert cost["passes"] == 36 * 1000
    assert cost["gflop_per_pass"] > 0.01


def test_dvc_shows_metrics_and_plots(reproduced):
    shown = run(reproduced, "dvc", "metrics", "show", "--json")
    assert shown.returncode == 0
    assert "outputs/comparison/metrics/pt.json" in shown.stdout
    plots = run(reproduced, "dvc", "plots", "show", "-o", "plots")
    assert plots.returncode == 0, plots.stderr
    assert (reproduced / "plots" / "index.html").is_file()


def test_models_trained_by_hand_keep_their_results(reproduced):
    """The pipeline's stage shares the folder with what a user evaluates, and removes only what nobody has any more."""
    trained = program(reproduced, "train", "robust", "--eps", "0.5", "--epochs", "1")
    assert trained.returncode == 0, trained.stderr
    assert program(reproduced, "evaluate", "test_resnet_l2_eps0.5", "--workers", "1").returncode == 0
    mine = reproduced / "outputs" / "evaluations" / "fmn-5" / "test_resnet_l2_eps0.5.parquet"
    stale = mine.with_name("gone.baseline.json")
    stale.write_text("{}")
    done = reproduce(reproduced)
    assert done.returncode == 0, done.stderr
    assert mine.is_file()
    assert not stale.exists()
    assert "test_resnet_l2_eps0.5" in (reproduced / "outputs" / "comparison" / "zoo.csv").read_text()


def test_changing_one_recipe_reruns_only_what_depends_on_it(reproduced):
    """Runs last: it changes the project."""
    change_params(reproduced, "recipes/harmonized", lambda_1=2.0)
    done = reproduce(reproduced)
    assert done.returncode == 0, done.stderr
    assert stages_run(done.stdout) == ["train@test_resnet.harmonized", "evaluate", "compare", "publish"]
    assert "test_resnet.baseline: kept" in done.stdout
    assert "test_resnet.harmonized: evaluated" in done.stdout
    versions = json.loads(program(reproduced, "registry", "show", "test_resnet.harmonized", "--json").stdout)
    assert sorted(row["version"] for row in versions) == [1, 2]
    assert {row["version"]: row["aliases"] for row in versions}[2] == ["candidate"]
