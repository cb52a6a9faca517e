"""Stimuli without human maps go the whole road: tolerance and accuracy, with alignment absent and no crash."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from advalign.analysis.comparison import compare
from advalign.data.classes import read_classes
from advalign.data.stimuli import freeze_stimuli, save_stimuli
from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines.local import local
from advalign.evaluation.runner import Evaluator
from advalign.models.zoo import create_classifier
from advalign.settings import load_settings
from tests.conftest import save_untrained, with_stimuli


@pytest.fixture
def project(sample_root, tmp_path):
    """The tiny project with stimuli drawn from validation images, two of every class."""
    project = with_stimuli(sample_root, tmp_path / "project")
    classes = read_classes(project.data / "classes.yaml")
    rows = ["image,wnid"]
    folder = project.data / "imagenet"
    for entry in classes.entries:
        for number in range(2):
            pixels = np.random.default_rng([entry.index, number]).integers(0, 256, (64, 64, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "val" / f"{entry.index}_{number}.JPEG")
            rows.append(f"{entry.index}_{number}.JPEG,{entry.wnid}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    (folder / "multilabel.json").unlink()
    settings = load_settings(project.root)
    wanted = settings.stimuli.model_copy(update={"split": "imagenet"})
    save_stimuli(project, freeze_stimuli(project, wanted, 0))
    save_untrained(project, "test_resnet.baseline", create_classifier("test_resnet", 36, 64, seed=0))
    return project


def test_alignment_is_absent_and_the_rest_is_there(project):
    settings = load_settings(project.root)
    evaluate = settings.evaluate.model_copy(update={"protocol": "fmn-3", "also": (), "gallery": 2})
    settings = settings.model_copy(update={"evaluate": evaluate})
    evaluator = Evaluator(project, settings, limit=12)
    for name, part in evaluator.parts.items():  # the trial takes the place of a whole evaluation
        evaluator.parts[name] = replace(part, folder=part.folder.removesuffix(".first12"))
    (outcome,) = Campaign(evaluator, [TrainedModel(project.checkpoints / "test_resnet.baseline")], local(1)).run()
    assert outcome.state == "evaluated", outcome
    summary = json.loads(evaluator.paths("test_resnet.baseline").summary.read_text())
    metrics = summary["metrics"]
    assert summary["human_ceiling"] is None
    aligned = [
        name for name in metrics if "alignment" in name or name in ("aligned_minus_shuffled", "energy_on_human_top10")
    ]
    assert len(aligned) > 10
    assert all(metrics[name] is None for name in aligned)
    assert metrics["n_without_rank_correlation"] == metrics["n_valid"]
    assert metrics["multilabel_accuracy"] is None
    assert 0 <= metrics["top1_accuracy"] <= 1
    table, statistics = compare(project, settings, "fmn-3")
    assert table["aa"].isna().all()
    assert statistics["reference"] == {
        "human_ceiling": None,
        "centred_gaussian_aa_raw": None,
        "centred_gaussian_aa": None,
        "n_stimuli": 12,
    }
    report = (project.comparison / "report.html").read_text()
    assert "centred Gaussian would score" not in report
    assert "nan" not in json.dumps(statistics).lower().replace("finance", "")
