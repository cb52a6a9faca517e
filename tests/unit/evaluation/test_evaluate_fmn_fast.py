"""An evaluation under the default protocol: the same bytes from one process and from two, and flags beside the rows."""

import json
import shutil

import pandas as pd
import pytest
import torch

from advalign.evaluation.campaign import Campaign, TrainedModel
from advalign.evaluation.engines.local import local
from advalign.evaluation.runner import Evaluator
from advalign.models.zoo import create_classifier
from advalign.settings import load_settings
from tests.conftest import save_untrained, with_stimuli

pytestmark = pytest.mark.slow
SOUND, FLAT = "test_resnet.baseline", "test_resnet.flat"


@pytest.fixture(scope="module")
def project(sample_root, tmp_path_factory):
    """Stimuli, an untrained model, and one whose logits do not depend on the image."""
    project = with_stimuli(sample_root, tmp_path_factory.mktemp("fast") / "project")
    for name in (SOUND, FLAT):
        classifier = create_classifier("test_resnet", 36, 64, seed=0)
        if name == FLAT:
            head = [layer for layer in classifier.modules() if isinstance(layer, torch.nn.Linear)][-1]
            torch.nn.init.zeros_(head.weight)
        save_untrained(project, name, classifier)
    return project


def evaluate(project, workers, **changes):
    settings = load_settings(project.root)
    changed = {"protocol": "fmn-fast", "shard_size": 6, "threads": 1, **changes}
    settings = settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update=changed)})
    evaluator = Evaluator(project, settings, limit=12)
    shutil.rmtree(evaluator.folder, ignore_errors=True)
    outcomes = Campaign(
        evaluator, [TrainedModel(project.checkpoints / one) for one in (SOUND, FLAT)], local(workers)
    ).run()
    assert [outcome.state for outcome in outcomes] == ["evaluated"] * 2, outcomes
    return {
        name: (pd.read_parquet(evaluator.paths(name).rows), json.loads(evaluator.paths(name).summary.read_text()))
        for name in (SOUND, FLAT)
    }


def test_two_workers_give_the_bytes_of_one(project):
    one, two = evaluate(project, 1), evaluate(project, 2)
    rows, _ = one[SOUND]
    assert (rows["status"] == "ok").sum() >= 3
    assert rows["queries"].max() >= 92
    for name in (SOUND, FLAT):
        pd.testing.assert_frame_equal(one[name][0], two[name][0], check_exact=True)


def test_a_flat_model_is_flagged_and_a_sound_one_is_not(project):
    found = evaluate(project, 1)
    rows, summary = found[SOUND]
    assert summary["flags"] == []
    assert set(rows["flags"]) == {""}
    rows, summary = found[FLAT]
    assert summary["flags"] == ["zero-gradients"]
    assert set(rows["flags"]) == {"zero-gradients"}
    assert set(rows["status"]) <= {"attack_failed", "misclassified_clean"}
    assert summary["metrics"]["perturbation_tolerance"] is None


def test_bfloat16_searches_and_float32_judges(project):
    rows, _ = evaluate(project, 1, search_precision="bfloat16")[SOUND]
    plain, _ = evaluate(project, 1)[SOUND]
    assert list(rows["status"]) == list(plain["status"])
    both = rows["status"] == "ok"
    assert (rows["norm_l2"][both] / plain["norm_l2"][both]).mean() == pytest.approx(1, abs=0.05)
