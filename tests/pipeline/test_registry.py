"""The registry on the small project: promotion by typing it, cards, and rows that are computed again."""

import json
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

import advalign
from advalign import seals
from advalign.data.results import read_rows, stored_identity, write_table
from advalign.evaluation.summaries import computed_metrics
from advalign.files import sha256
from advalign.settings import load_settings
from tests.pipeline.conftest import TRAININGS, run, typed
from tests.pipeline.test_docs import copy_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]

BASELINE, NAME = TRAININGS


@pytest.fixture(scope="module")
def root(reproduced, tmp_path_factory):
    return copy_of(reproduced, tmp_path_factory.mktemp("registry") / "project")


def registry(root: Path, *arguments: str):
    return typed(root, "registry", *arguments)


def client(root):
    uri = f"sqlite:///{root / 'mlflow.db'}"
    return MlflowClient(uri, uri)


def holders(root, name):
    return {alias: int(version) for alias, version in client(root).get_registered_model(name).aliases.items()}


def test_a_dry_run_prints_the_gates_and_changes_nothing(root):
    before = holders(root, NAME)
    done = registry(root, "promote", NAME, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert re.search(r"n_valid +at least 1 +\d+ +holds", done.stdout)
    assert f"{NAME} version 1 would be champion: every gate holds (nobody before); nothing was changed" in done.stdout
    gates = root / "registry" / "gates.yaml"
    kept = gates.read_text()
    gates.write_text(kept.replace("at_least: 1", "at_least: 37"))
    try:
        failed = registry(root, "promote", NAME, "--dry-run", "--json")
    finally:
        gates.write_text(kept)
    assert (failed.returncode, json.loads(failed.stdout)["outcome"]) == (1, "fails")
    assert holders(root, NAME) == before
    assert json.loads(registry(root, "audit", NAME, "--json").stdout) == []
    refused = registry(root, "promote", NAME, "--dry-run", "--force", "--reason", "because")
    assert refused.returncode == 2
    assert "--dry-run decides nothing" in refused.stderr


def test_promotion_prints_the_gates_and_moves_the_alias(root):
    done = registry(root, "promote", NAME)
    assert done.returncode == 0, done.stderr
    assert re.search(r"n_valid +at least 1 +\d+ +holds", done.stdout)
    assert f"{NAME} version 1 is champion now (nobody before)" in done.stdout
    assert holders(root, NAME) == {"candidate": 1, "champion": 1}
    again = registry(root, "promote", NAME, "--json")
    assert (again.returncode, json.loads(again.stdout)["outcome"]) == (0, "kept")
    listed = json.loads(registry(root, "audit", NAME, "--json").stdout)
    assert [(row["outcome"], row["version"]) for row in listed] == [("promoted", 1)]


def test_refusal_exits_1_with_the_gate_that_fails_and_changes_nothing(root):
    gates = root / "registry" / "gates.yaml"
    kept = gates.read_text()
    gates.write_text(kept.replace("at_least: 1", "at_least: 37"))
    try:
        refused = registry(root, "promote", BASELINE)
        forced = registry(root, "promote", BASELINE, "--force")
    finally:
        gates.write_text(kept)
    assert refused.returncode == 1
    assert re.search(r"n_valid +at least 37 +\d+ +FAILS", refused.stdout)
    assert "1 of 3 gates fail; nothing was changed" in refused.stdout
    assert (forced.returncode, forced.stderr.count("\n")) == (2, 1)
    assert holders(root, BASELINE) == {"candidate": 1}


def test_a_card_tells_recipe_data_training_and_metrics(root):
    card = registry(root, "show", NAME).stdout
    version = client(root).get_model_version(NAME, "1")
    summary = json.loads((root / "outputs" / "evaluations" / "fmn-5" / f"{NAME}.json").read_text())
    for fact in (
        "recipe: `harmonized`, seed 0",
        "recipe.lambda_1: `4.0`",
        f"training run: `{version.run_id}`",
        f"SHA-256 `{summary['weights_sha256']}`",
        f"data: `{summary['data_md5']}`",
        "licence: MIT",
        f"| fmn-5 | PT: {summary['metrics']['perturbation_tolerance']:.4g} (",
        version.tags["fmn-5.run_id"],
        "| feng2025-released |",
    ):
        assert fact in card, fact
    compared = json.loads(registry(root, "show", BASELINE, NAME, "--json").stdout)
    told = {row["what"]: (row["first"], row["second"]) for row in compared}
    assert told["recipe"] == ("baseline", "harmonized")
    assert told["recipe.lambda_1"] == ("-", "4.0")
    assert "train.epochs" not in told  # twins share it


def test_what_is_fetched_from_the_store_goes_with_the_command(root, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert registry(root, "promote", NAME).returncode == 0
    reference = f"models:/{NAME}@candidate"
    with monkeypatch.context() as patch:
        patch.chdir(root)
        advalign.load(reference)
    exported = run(root, "advalign", "checkpoint", "export", reference, str(root / "exported.safetensors"))
    assert exported.returncode == 0, exported.stderr
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
    assert [path.name for path in (root / "outputs").iterdir() if path.name.startswith(".registered")] == []


def test_verification_repeats_the_rows_to_the_last_bit(root):
    found = json.loads(registry(root, "verify", NAME, "--shards", "2", "--json").stdout)
    assert (found["holds"], found["identical"], found["computed"]) == (True, 24, 24)


def relabel(root, name, change):
    """Log other rows for a version, with digests that vouch for them: only computing them again can tell."""
    mlflow = client(root)
    run_id = mlflow.get_model_version(name, "1").tags["fmn-5.run_id"]
    folder = Path(mlflow.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    file = folder / f"{name}.parquet"
    write_table(file, change(read_rows(file)), stored_identity(file))
    summary = seals.read_json(folder / f"{name}.json", "") | {"rows_sha256": sha256(file)}
    rows = {"predictions": folder / "predictions" / file.name}
    metrics = computed_metrics(summary, lambda part: rows.get(part, file), load_settings(root).evaluate)
    seals.write_json(folder / f"{name}.json", {**summary, "metrics": metrics})
    mlflow.set_tag(run_id, "advalign.result_sha256", sha256(folder / f"{name}.json"))
    mlflow.set_model_version_tag(name, "1", "fmn-5.result_sha256", sha256(folder / f"{name}.json"))


def test_rows_that_the_weights_do_not_give_are_found(root, tmp_path):
    """Last but one: it falsifies what is logged."""
    relabel(root, BASELINE, lambda rows: rows.assign(norm_l2=rows["norm_l2"] * 1.05))
    done = registry(root, "verify", BASELINE)
    assert done.returncode == 1
    assert re.search(r"mean norm_l2 .* FAILS", done.stdout)
    assert re.search(r"predictions .* holds", done.stdout)
    assert "does NOT give what was logged" in done.stdout


def test_changed_weights_are_found_by_their_hash(root):
    """Last: it breaks the version."""
    source = client(root).get_model_version(NAME, "1").source.removeprefix("models:/")
    folder = Path(client(root).get_logged_model(source).artifact_location.removeprefix("file://"))
    weights = next(folder.glob("artifacts/*/model.safetensors"))
    shutil.copy(root / "outputs" / "checkpoints" / BASELINE / "model.safetensors", weights)
    assert registry(root, "verify", NAME).returncode == 1
    checks = json.loads(registry(root, "verify", NAME, "--json").stdout)["checks"]
    assert "the stored model.safetensors was changed" in checks[0]["got"]
    for command in (
        ("promote", BASELINE, "--version", "7"),
        ("verify", "nobody"),
        ("show", "../etc"),
        ("rollback", NAME),
    ):
        done = registry(root, *command)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), command
