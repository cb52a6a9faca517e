"""The contract, walked through: commands, options, files, columns, JSON keys and MLflow names that users rely on."""

import json
import re

import mlflow
import pandas as pd
import pytest
import yaml

from advalign.vocabulary import METRICS, describe
from tests.pipeline.conftest import typed
from tests.pipeline.test_docs import copy_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]

PROTOCOL = "fmn-5"
ROWS = ["model", "protocol", "stimulus", "category", "superclass", "label", "clean_prediction", "status"]
ROWS += ["norm_l2", "rho_released", "rho_magnitude", "queries"]
ZOO = (
    "model group recipe protocol n_valid pt pt_sem aa aa_sem aa_raw aligned_minus_shuffled multilabel_accuracy "
    "top1_accuracy attack_success_rate starts_agree"
)
COMMANDS = {  # command -> options that it promises
    "data sample": "",
    "data import clickme": "",
    "data import imagenet": "--labels",
    "data validate": "--json",
    "train": "--model --eps --constraint --epochs --seed --device --resume",
    "evaluate": "--zoo --protocol --limit --engine --dry-run --json",
    "protocols": "--json",
    "init": "",
    "compare": "--table --published",
    "zoo list": "--json",
    "zoo show": "--json",
    "registry list": "--json",
    "registry show": "--json",
    "registry promote": "--version --to --force --reason",
    "registry rollback": "",
    "registry verify": "--json",
    "registry audit": "--json",
    "publish": "",
    "ui": "",
    "doctor": "--json",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_there_with_its_options(reproduced, command):
    shown = typed(reproduced, *command.split(), "--help")
    assert shown.returncode == 0, shown.stderr
    assert not [option for option in COMMANDS[command].split() if option not in shown.stdout]


@pytest.mark.parametrize(
    "name",
    [
        "maps/cleaning.json", "maps/agreement.parquet", "maps/summary.json", "maps/curve.json",
        "stimuli/manifest.parquet", "stimuli/stimuli.safetensors",
        "checkpoints/test_resnet.baseline/model.safetensors", "checkpoints/test_resnet.baseline/card.json",
        "checkpoints/test_resnet.baseline/history.csv", f"evaluations/{PROTOCOL}/test_resnet.baseline.parquet",
        "evaluations/predictions/test_resnet.baseline.parquet", "comparison/zoo.csv", "comparison/statistics.json",
        "comparison/report.html", "comparison/figures/pt_aa_plane.png",
    ],
)  # fmt: skip
def test_every_file_is_where_it_was(reproduced, name):
    assert (reproduced / "outputs" / name).stat().st_size > 0


def test_rows_and_the_zoo_have_their_columns(reproduced):
    rows = pd.read_parquet(reproduced / "outputs" / "evaluations" / PROTOCOL / "test_resnet.baseline.parquet")
    assert set(ROWS) <= set(rows)
    assert set(rows["status"]) <= {"ok", "misclassified_clean", "attack_failed"}
    table = pd.read_csv(reproduced / "outputs" / "comparison" / "zoo.csv")
    assert set(ZOO.split()) <= set(table)
    assert list(table)[: len(ZOO.split())] == ZOO.split()


def test_predictions_keep_what_calibration_needs(reproduced):
    rows = pd.read_parquet(reproduced / "outputs" / "evaluations" / "predictions" / "test_resnet.baseline.parquet")
    assert {"image", "label", "prediction", "correct", "unclear", "problematic"} <= set(rows)
    assert rows["probability_top"].between(1 / 36, 1).all()
    assert (rows["probability_label"] <= rows["probability_top"] + 1e-12).all()
    right = rows["prediction"] == rows["label"]
    assert (rows["probability_label"][right] == rows["probability_top"][right]).all()


def test_summaries_and_statistics_have_their_keys(reproduced):
    summary = json.loads((reproduced / "outputs/evaluations" / PROTOCOL / "test_resnet.baseline.json").read_text())
    keys = (
        "model architecture recipe protocol protocol_sha256 rows_sha256 weights_sha256 data_md5 stimuli_sha256 "
        "n_stimuli seed human_ceiling flags metrics"
    )
    assert set(keys.split()) <= set(summary)
    headlines = ("perturbation_tolerance", "adversarial_human_alignment", "adversarial_human_alignment_raw")
    intervals = {f"{name}{end}" for name in headlines for end in ("", "_sem", "_ci_low", "_ci_high")}
    others = {
        "aligned_minus_shuffled",
        "multilabel_accuracy",
        "top1_accuracy",
        "attack_success_rate",
        "n_valid",
        "starts_agree",
    }
    assert intervals | others <= set(summary["metrics"])
    statistics = json.loads((reproduced / "outputs" / "comparison" / "statistics.json").read_text())
    assert {"protocol", "correlations", "contrasts", "pareto", "paired"} <= set(statistics)
    assert {"x", "y", "n", "rho", "p"} <= set(statistics["correlations"][0])
    assert {"name", "metric", "n1", "n2", "t", "df", "p", "p_holm", "d"} <= set(statistics["contrasts"][0])
    assert {entry["name"] for entry in statistics["contrasts"]} == {
        "vit_vs_cnn", "ssl_vs_other", "big_data_vs_other", "robust_vs_other",
    }  # fmt: skip


def test_mlflow_has_its_experiments_names_and_aliases(reproduced):
    client = mlflow.MlflowClient(f"sqlite:///{reproduced / 'mlflow.db'}", f"sqlite:///{reproduced / 'mlflow.db'}")
    experiments = {one.name: one.experiment_id for one in client.search_experiments()}
    assert {"advalign/train", "advalign/evaluate", "advalign/compare"} <= set(experiments)
    runs = client.search_runs([experiments["advalign/evaluate"]], f"tags.`advalign.protocol` = '{PROTOCOL}'")
    run = next(run for run in runs if run.info.run_name == "test_resnet.baseline")
    assert {"advalign.protocol", "advalign.experiment", "dvc.data.md5", "settings.sha256"} <= set(run.data.tags)
    headlines = ("perturbation_tolerance", "adversarial_human_alignment", "adversarial_human_alignment_raw", "n_valid")
    assert {one.short for one in METRICS if one.name in headlines} == {"pt", "aa", "aa_raw", "n_valid"}
    assert {"pt", "aa", "aa_raw", "n_valid"} <= set(run.data.metrics)
    assert all(len(name) <= 24 for name in run.data.metrics if not name.startswith("within/"))
    for name in ("test_resnet.baseline", "test_resnet.harmonized"):
        assert "candidate" in client.get_registered_model(name).aliases


def test_every_listing_is_json_too(reproduced):
    for command in ("zoo list", "registry list", "registry audit", "protocols", "doctor"):
        shown = typed(reproduced, *command.split(), "--json")
        assert shown.returncode in (0, 1), shown.stderr
        json.loads(shown.stdout)


def test_the_table_answers_what_the_protocol_asks(reproduced, tmp_path):
    root = copy_of(reproduced, tmp_path / "copy")  # what is evaluated here would make the pipeline's stage "changed"
    words = ["evaluate", "test_resnet.baseline", "--protocol", "pgd-3-l20.5", "--limit", "12", "--workers", "1"]
    shown = typed(root, *words)
    assert shown.returncode == 0, shown.stderr
    assert "protocol pgd-3-l20.5.first12" in shown.stdout
    assert describe("robust_accuracy").label.lower() in shown.stdout
    (row,) = json.loads(typed(root, *words, "--json").stdout)
    assert 0 <= row["robust_accuracy"] <= 1
    assert "pt" not in row
    compared = typed(root, "compare", "--protocol", "pgd-3-l20.5.first12")
    assert compared.returncode == 2
    assert "measures no perturbation tolerance" in compared.stderr


def test_a_broken_params_yaml_is_told_by_every_command(reproduced, tmp_path):
    (tmp_path / "params.yaml").write_text("seed: 1\n" + (reproduced / "params.yaml").read_text())
    refused = typed(tmp_path, "protocols")
    assert refused.returncode == 2
    assert "'seed' is given twice" in refused.stderr


def test_bad_input_is_one_line_and_exit_2(reproduced):
    for words in (["evaluate", "nobody"], ["evaluate", "--protocol", "fmm"], ["registry", "show", "nobody"]):
        refused = typed(reproduced, *words)
        assert refused.returncode == 2
        assert re.fullmatch(r"advalign: error: [^\n]+\n", refused.stderr)


def test_params_yaml_is_the_only_source_of_run_values(reproduced):
    settings = yaml.safe_load((reproduced / "params.yaml").read_text())
    assert {"seed", "human_maps", "stimuli", "train", "recipes", "trainings", "evaluate", "compare"} == set(settings)
