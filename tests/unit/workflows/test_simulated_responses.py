"""Simulated responses: what guides is what was asked for, with the noise that was asked for."""

import numpy as np
import pytest

from advalign.data.classes import read_classes
from advalign.data.image_digests import image_digests
from advalign.data.responses import ResponseStore, need_responses, responses_digest
from advalign.data.training_images import training_images, validation_images
from advalign.errors import InputError
from advalign.settings import SimulationSettings, load_settings
from advalign.workflows.simulated_responses import random_units, repeats, simulate
from tests.unit.workflows.guided_world import made


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    project = made(tmp_path_factory.mktemp("simulated"))
    simulate(project, load_settings(project.root))
    return project


@pytest.fixture(scope="module")
def store(world):
    return ResponseStore.open(need_responses(world, "simulated"))


def test_they_say_that_they_are_simulated_and_of_what(store):
    assert store.provenance == "simulated"
    assert store.description == "Made from the images: IT = category-and-parts, V1 = gabor-energy, V4 = second-order."
    assert store.rois == ["IT", "V1", "V4"]  # as the YAML of the test has them
    assert set(store.units["noise_ceiling"]) == {np.float32(0.9)}


def test_images_are_found_by_content(world, store):
    settings, classes = load_settings(world.root).train, read_classes(world.data / "classes.yaml")
    train, validation = (image_digests(read(world, classes, settings)) for read in (training_images, validation_images))
    assert list(store.images["sha256"]) == [*train["sha256"], *validation["sha256"][:20]]
    assert list(store.images["label"]) == [*train["label"], *validation["label"][:20]]
    assert set(store.trials.loc[store.trials["split"] == 1, "image"]) == set(range(len(train), len(train) + 20))


def test_a_category_and_its_parts_are_in_it(store):
    """Averages of IT correlate more within a class than between classes; those of V1 do not nearly as much."""

    def gain(roi):
        images, means = store.mean_responses(roi, split="train")
        labels, similar = store.images["label"].to_numpy()[images], np.corrcoef(means)
        same = (labels[:, None] == labels) & ~np.eye(len(labels), dtype=bool)
        return similar[same].mean() - similar[labels[:, None] != labels].mean()

    assert gain("IT") > 0.3
    assert gain("IT") > gain("V1") + 0.1


def test_units_have_variance_one_over_the_training_images():
    features = np.random.default_rng(0).normal(2, 5, (300, 7))
    found = random_units(features, 200, 4, 1)
    assert found[:200].mean(0) == pytest.approx(np.zeros(4), abs=1e-12)
    assert found[:200].std(0) == pytest.approx(np.ones(4))
    assert np.linalg.matrix_rank(found) == 4


@pytest.mark.parametrize("ceiling", [0.9, 0.4])
def test_the_ceiling_is_the_share_of_the_average_that_is_no_noise(ceiling):
    asked = SimulationSettings(areas={"V1": "gabor-energy"}, ceiling=ceiling, repeats=3)
    means = np.random.default_rng(1).standard_normal((20_000, 2))
    average = np.mean(list(repeats(means, asked, 0)), 0)
    assert 1 / average.var(0) == pytest.approx(np.full(2, ceiling), rel=0.03)
    assert np.corrcoef(average[:, 0], means[:, 0])[0, 1] ** 2 == pytest.approx(ceiling, rel=0.05)


@pytest.mark.slow
def test_the_same_settings_give_the_same_file(world, store):
    before = responses_digest(store.path)
    simulate(world, load_settings(world.root))
    assert responses_digest(store.path) == before


@pytest.mark.parametrize(
    ("areas", "message"),
    [
        ({"V1": "gabor-enrgy"}, "unknown kind of simulated area 'gabor-enrgy'; did you mean 'gabor-energy'"),
        ({"T0": "checkpoint:none"}, "checkpoint:none needs .*checkpoints/none, which is no checkpoint: train it first"),
    ],
)
def test_an_area_that_cannot_be(world, areas, message):
    settings = load_settings(world.root)
    asked = settings.simulation.model_copy(update={"areas": areas, "name": "broken"})
    with pytest.raises(InputError, match=message):
        simulate(world, settings.model_copy(update={"simulation": asked}))
    assert not (world.root / "outputs/responses/broken.h5").exists()


def test_nothing_to_simulate(world):
    with pytest.raises(InputError, match=r"params\.yaml has no simulation"):
        simulate(world, load_settings(world.root).model_copy(update={"simulation": None}))
