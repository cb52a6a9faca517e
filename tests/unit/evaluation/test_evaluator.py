"""What an evaluation's identity depends on: everything its rows are made from, and nothing else."""

import shutil

import numpy as np
import pytest
from PIL import Image

from advalign import seals
from advalign.errors import DataError
from advalign.evaluation.runner import Evaluator
from advalign.models.checkpoints import CARD
from advalign.models.zoo import create_classifier
from advalign.settings import load_settings
from tests.conftest import edit_card, save_untrained, with_stimuli


@pytest.fixture(scope="module")
def evaluated(sample_root, tmp_path_factory):
    """A project with stimuli and an untrained checkpoint."""
    project = with_stimuli(sample_root, tmp_path_factory.mktemp("evaluator") / "project")
    save_untrained(project, "test_resnet.baseline", create_classifier("test_resnet", 36, 64, seed=0))
    return project


def identity(project, **changes):
    settings = load_settings(project.root)
    evaluate = settings.evaluate.model_copy(update=changes)
    evaluator = Evaluator(project, settings.model_copy(update={"evaluate": evaluate}))
    return evaluator.subject(project.checkpoints / "test_resnet.baseline").identities[evaluate.protocol]


def test_identity_repeats_and_follows_what_rows_depend_on(evaluated):
    first = identity(evaluated)
    assert identity(evaluated) == first
    assert identity(evaluated, protocol="fmn-7") != first
    assert identity(evaluated, shard_size=5) != first
    assert identity(evaluated, metrics=("perturbation-tolerance",)) != first


def test_a_metric_that_only_summarises_costs_no_attack(evaluated):
    metrics = load_settings(evaluated.root).evaluate.metrics
    fewer = tuple(name for name in metrics if name not in ("robust-accuracy", "perturbation-tolerance"))
    assert len(fewer) == len(metrics) - 2
    assert identity(evaluated, metrics=fewer) == identity(evaluated)
    assert identity(evaluated, metrics=tuple(name for name in metrics if name != "alignment-controls")) != identity(
        evaluated
    )


def test_bootstrap_does_not_cost_an_attack(evaluated):
    settings = load_settings(evaluated.root)
    compare = settings.compare.model_copy(update={"bootstrap": 123})
    evaluator = Evaluator(evaluated, settings.model_copy(update={"compare": compare}))
    subject = evaluator.subject(evaluated.checkpoints / "test_resnet.baseline")
    assert subject.identities["fmn-fast"] == identity(evaluated)


def test_a_changed_validation_image_costs_its_predictions_but_no_attack(evaluated):
    def predictions():
        evaluator = Evaluator(evaluated, load_settings(evaluated.root))
        return evaluator.subject(evaluated.checkpoints / "test_resnet.baseline").identities["predictions"]

    first, attacked = predictions(), identity(evaluated)
    image = next((evaluated.data / "imagenet" / "val").glob("*.JPEG"))
    before = image.read_bytes()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(image)
    assert predictions() != first
    assert identity(evaluated) == attacked
    image.write_bytes(before)
    assert predictions() == first


def test_tasks_cover_every_stimulus_and_image_once(evaluated):
    settings = load_settings(evaluated.root)
    evaluator = Evaluator(evaluated, settings)
    tasks = evaluator.tasks(evaluator.subject(evaluated.checkpoints / "test_resnet.baseline"))
    assert set(evaluator.parts) == {"fmn-fast", "predictions"}
    for name, part in evaluator.parts.items():
        members = [k for task in tasks if task.protocol.name == name for k in range(task.first, task.last)]
        assert members == list(range(len(part.image_set)))


def test_a_model_of_other_classes_is_refused(evaluated, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(evaluated.checkpoints / "test_resnet.baseline", folder)
    edit_card(folder, classes=seals.read_json(folder / CARD, "")["classes"][:10])
    with pytest.raises(DataError, match="was trained on 10 classes that are not the 36 of"):
        Evaluator(evaluated, load_settings(evaluated.root)).subject(folder)
