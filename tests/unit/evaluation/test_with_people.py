"""Stimuli of which people's agreement is known go the whole road: rows, summary, zoo table, twins, report."""

import json

import numpy as np
import pandas as pd
import pytest

from advalign.analysis.comparison import compare
from advalign.data.human_maps.make import AGREEMENT
from advalign.data.participants import IMAGES, TRIALS
from advalign.data.results import read_rows, write_table
from advalign.data.sets.stimuli import load_stimuli
from advalign.data.stimuli import freeze_stimuli, save_stimuli
from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines.local import local
from advalign.evaluation.runner import Evaluator
from advalign.models.zoo import create_classifier
from advalign.settings import load_settings
from tests.conftest import save_untrained, with_stimuli

MODELS = ("test_resnet.baseline", "test_resnet.harmonized")


def project_of(sample_root, root, seen):
    """A project in which people saw the first `seen` stimuli, with two models of random weights."""
    project = with_stimuli(sample_root, root)
    shas = load_stimuli(project).manifest["sha256"].head(seen)
    floors = np.where(np.arange(seen) % 5 == 3, 0.7, 0.1)  # every fifth is above its corrected ceiling
    known = {"spearman_ceiling": 0.5, "spearman_corrected": 0.6, "spearman_floor": floors}
    write_table(project.human_maps / AGREEMENT, pd.DataFrame({"sha256": shas, "participants": 9, **known}), "identity")
    project.participants.mkdir(exist_ok=True)
    for name in (TRIALS, IMAGES):
        (project.participants / name).write_bytes(b"trials")
    settings = load_settings(project.root)
    save_stimuli(project, freeze_stimuli(project, settings.stimuli, settings.seed))
    for seed, name in enumerate(MODELS):
        recipe = name.rpartition(".")[2]
        baseline = MODELS[0] if recipe != "baseline" else None
        classifier = create_classifier("test_resnet", 36, 64, seed=seed)
        save_untrained(project, name, classifier, recipe=recipe, baseline=baseline)
    return project


def evaluate_and_compare(project):
    settings = load_settings(project.root)
    evaluate = settings.evaluate.model_copy(update={"protocol": "fmn-5", "also": (), "gallery": 2})
    drawn = settings.compare.model_copy(update={"bootstrap": 200})
    settings = settings.model_copy(update={"evaluate": evaluate, "compare": drawn})
    evaluator = Evaluator(project, settings)
    outcomes = Campaign(evaluator, [TrainedModel(project.checkpoints / name) for name in MODELS], local(1)).run()
    assert [outcome.state for outcome in outcomes] == ["evaluated"] * 2
    table, statistics = compare(project, settings, "fmn-5")
    summaries = [json.loads(evaluator.paths(name).summary.read_text())["metrics"] for name in MODELS]
    rows = [read_rows(evaluator.paths(name).rows) for name in MODELS]
    return table, statistics, summaries, rows, (project.comparison / "report.html").read_text()


@pytest.fixture(scope="module")
def found(sample_root, tmp_path_factory):
    return evaluate_and_compare(project_of(sample_root, tmp_path_factory.mktemp("people") / "project", seen=60))


def test_rows_hold_ceiling_and_floor_of_every_image_and_summaries_follow_from_them(found):
    _, _, summaries, tables, _ = found
    for metrics, rows in zip(summaries, tables, strict=True):
        assert rows["human_floor"].notna().sum() == 60  # valid or not
        valid = rows[rows["status"] == "ok"].dropna(subset=["rho_released"])
        judged = valid[valid["human_ceiling"].notna()]
        kept = judged[judged["human_floor"] < 0.6]
        assert 0 < len(kept) < len(judged) < len(valid)
        assert metrics["n_without_ceiling"] == len(valid) - len(judged)
        assert metrics["n_below_floor"] == len(judged) - len(kept)
        by_image = metrics["adversarial_human_alignment_by_image"]
        assert by_image == pytest.approx((kept["rho_released"] / 0.6).mean())
        span = 0.5 - rows["human_floor"].mean()
        over_floor = ((judged["rho_released"] - judged["human_floor"]) / span).mean()
        assert metrics["adversarial_human_alignment_over_floor"] == pytest.approx(over_floor)
        assert metrics["auc_alignment"] == pytest.approx(valid["auc_released"].mean())


def test_table_twins_and_report_have_them_beside_the_headline(found):
    table, statistics, summaries, _, report = found
    by_name = table.set_index("model")
    for name, metrics in zip(MODELS, summaries, strict=True):
        assert by_name["aa_by_image"][name] == metrics["adversarial_human_alignment_by_image"]
        assert by_name["aa_over_floor_sem"][name] == metrics["adversarial_human_alignment_over_floor_sem"]
        assert by_name["aa"][name] == metrics["adversarial_human_alignment"]
    tested = {entry["metric"] for entry in statistics["paired"]}
    assert tested == {"pt", "aa", "aa_by_image", "aa_over_floor", "aa_auc", "aa_nss", "aa_emd"}
    over_floor = next(entry for entry in statistics["paired"] if entry["metric"] == "aa_over_floor")
    assert over_floor["note"].endswith("have no rho_over_floor and are left out")
    assert '["aa_by_image", "AA by image"]' in report
    assert ">AA over floor</td>" in report
    assert ">PT</td>" in report
    assert "AA by image (95 % interval)" in report


def test_without_people_there_is_nothing_of_them(sample_root, tmp_path, found):
    table, statistics, summaries, tables, report = evaluate_and_compare(project_of(sample_root, tmp_path / "p", seen=0))
    said = [*table, *summaries[0], *tables[0], *(entry["metric"] for entry in statistics["paired"])]
    assert not [name for name in said if "by_image" in name or "over_floor" in name or name.startswith("human_")]
    assert not {"n_below_floor", "n_without_ceiling"} & {*said}
    assert "AA over floor</td>" not in report
    assert "AA by image (95 %" not in report
    before = {entry["metric"]: entry for entry in statistics["paired"]}
    for entry in found[1]["paired"]:
        if entry["metric"] in ("pt", "aa"):
            assert entry == before[entry["metric"]]
