"""Fit of a study's models: on images that were not trained on, found by content."""

import numpy as np
import pandas as pd
import pytest

from advalign.data.classes import read_classes
from advalign.data.image_digests import image_digests
from advalign.data.response_writer import About, writing_responses
from advalign.data.responses import ResponseStore
from advalign.data.training_images import validation_images
from advalign.models.zoo import create_classifier
from advalign.settings import load_settings
from advalign.workflows.guidance_fit import Fits
from tests.conftest import save_untrained
from tests.unit.workflows.guided_world import made


@pytest.fixture(scope="module")
def made_fits(tmp_path_factory):
    """A model, and fits to noise in answer to the validation images, which are in another order."""
    project = made(tmp_path_factory.mktemp("fit"), scale=0.1)
    train, classes = load_settings(project.root).train, read_classes(project.data / "classes.yaml")
    save_untrained(project, "model", create_classifier("test_resnet", len(classes), 32, seed=0).eval())
    known = image_digests(validation_images(project, classes, train)).sample(frac=1, random_state=0)
    images = pd.DataFrame({"id": [f"i{row}" for row in known.index], "sha256": known["sha256"]})
    noise = np.random.default_rng(0).standard_normal((len(known), 3))
    units = pd.DataFrame({"roi": ["noise"] * 3, "noise_ceiling": np.float32(0.5)})
    path = project.root / "outputs/responses/own.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_responses(path, About("simulated", "none"), images.reset_index(drop=True), units) as writer:
        writer.add_trials(np.arange(len(known)), noise, "validation", 0)
    store = ResponseStore.open(path)
    return project.checkpoints / "model", Fits(project, train, store, ["noise"], (), 0), (project, train, store)


def test_noise_is_not_explained(made_fits):
    checkpoint, fits, _ = made_fits
    found = fits.of(checkpoint, "noise", "")
    assert found["explained"] < 0.1
    assert 0 <= found["cka"] <= 1
    assert fits.of(checkpoint, "", "") == found  # the mean over the only area
    assert fits.told == f"Fits are cross-validated over {fits.count} images that no model was trained on."


def test_without_validation_images_nothing_is_fitted(made_fits):
    checkpoint, _, (project, train, _) = made_fits
    path = project.root / "outputs/responses/others.h5"
    units = pd.DataFrame({"roi": ["V1"]})
    with writing_responses(path, About("simulated", "none"), pd.DataFrame({"id": ["a"]}), units) as writer:
        writer.add_trials(np.zeros(1, int), np.ones((1, 1)), "validation", 0)
    fits = Fits(project, train, ResponseStore.open(path), ["V1"], (), 0)
    assert fits.of(checkpoint, "V1", "") == {}
    assert fits.told.startswith("No fit: the responses are to 0 of the validation images")
