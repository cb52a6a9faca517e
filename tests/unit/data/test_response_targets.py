"""Targets of guided training: found by content, averaged, standardised, projected; their controls, and bad input."""

import hashlib
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from advalign.data.batches import Share, TrainingData
from advalign.data.cifar import CifarImage, write_split
from advalign.data.classes import read_classes, write_classes
from advalign.data.clickme import image_digests as clickme_digests
from advalign.data.guided_images import GuidedImages
from advalign.data.image_digests import image_digests
from advalign.data.response_targets import TargetSettings, principal_components, response_targets, shuffled
from advalign.data.response_writer import About, writing_responses
from advalign.data.sample.cifar_world import world_classes
from advalign.data.training_images import training_images
from advalign.errors import DataError, InputError
from advalign.files import Project
from advalign.settings import TrainSettings

SETTINGS = TrainSettings(images="cifar", size=32, batch_size=8, augmentation="pad", flip=False)
COUNT, KNOWN = 24, 20  # training images, and those of them with a response: the first ones


def pixels_of(number):
    return np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def digest_of(number):
    return hashlib.sha256(np.moveaxis(pixels_of(number), 2, 0).tobytes()).hexdigest()


def responses_of(number, units=6):
    """Response of every unit; two latent dimensions and a little noise."""
    random = np.random.default_rng(1000 + number)
    mixing = np.random.default_rng(7).normal(size=(2, units))
    return 3 + random.normal(size=2) @ mixing + 0.01 * random.normal(size=units)


def write_store(project, name="brain", roi=("V4",) * 6, subject=("A",) * 6, ceiling=np.nan, provenance="simulated",
                split="train", images=range(KNOWN)):  # fmt: skip
    """Images in reverse order, each shown twice: once 1 above the response, once 1 below."""
    shown = list(reversed(images))
    table = pd.DataFrame({"id": [f"image {number}" for number in shown], "sha256": [digest_of(n) for n in shown]})
    units = pd.DataFrame({"roi": roi, "subject": subject, "noise_ceiling": ceiling})
    path = project.data / "responses" / f"{name}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    betas = np.stack([responses_of(number, len(roi)) for number in shown])
    with writing_responses(path, About(provenance, "none"), table, units) as writer:
        for session, shift in enumerate((1, -1)):
            writer.add_trials(np.arange(len(shown)), betas + shift, split, session)
    return path


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("guided"))
    (project.data / "cifar").mkdir(parents=True)
    write_classes(project.data / "classes.yaml", world_classes())
    write_split(
        project.data / "cifar" / "train.parquet",
        [CifarImage(number, number % 10, pixels_of(number)) for number in range(COUNT)],
    )
    write_store(project)
    return project


@pytest.fixture
def project(shared, tmp_path):
    shutil.copytree(shared.root, tmp_path / "project")
    return Project(tmp_path / "project")


def targets(project, seed=0, **values):
    images = training_images(project, world_classes(), SETTINGS)
    return response_targets(project, TargetSettings(**{"responses": "brain", **values}), images, seed)


def standardised():
    """By hand: (20, 6), the repeats averaged."""
    raw = np.stack([responses_of(number) for number in range(KNOWN)])
    return (raw - raw.mean(0)) / raw.std(0)


def test_an_image_has_its_own_response_averaged_and_standardised(shared):
    found = targets(shared, variance=None)
    np.testing.assert_allclose(found.values, standardised(), atol=1e-4)
    assert found.values.dtype == np.float32
    assert found.rows.tolist() == [*range(KNOWN), *[-1] * (COUNT - KNOWN)]
    assert found.labels.tolist() == [number % 10 for number in range(KNOWN)]
    assert np.mean(found.values.astype(np.float64) ** 2) == pytest.approx(1, abs=1e-6)
    assert found.told["provenance"] == "simulated"
    assert found.told | {"sha256": ""} == {
        "name": "brain", "provenance": "simulated", "sha256": "", "roi": "V4", "subject": None, "control": None,
        "noise_ceiling": None, "images": KNOWN, "of": COUNT, "dimensions": 6,
    }  # fmt: skip


def test_components_hold_the_variance_and_keep_distances(shared):
    found = targets(shared, variance=0.95)
    assert found.values.shape == (KNOWN, 2), "two latent dimensions"
    gram, whole = found.values @ found.values.T, standardised() @ standardised().T
    scale = np.mean(standardised() ** 2 @ np.ones(6)) / 2
    np.testing.assert_allclose(gram * scale, whole, atol=0.1)
    assert np.mean(found.values**2) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(found.values, targets(shared).values), "the same twice"
    wide = principal_components(np.diag([3.0, 2.0, 1.0]), 13 / 14)
    assert wide.shape == (3, 2)
    np.testing.assert_allclose(wide, [[3, 0], [0, 2], [0, 0]], atol=1e-12)


def test_a_shuffle_gives_every_response_to_another_image_by_the_seed(shared):
    own, other = targets(shared), targets(shared, control="shuffled")
    assert sorted(map(tuple, own.values)) == sorted(map(tuple, other.values))
    assert (own.values != other.values).any(1).mean() > 0.8
    assert np.array_equal(other.values, targets(shared, control="shuffled").values)
    assert not np.array_equal(other.values, targets(shared, 1, control="shuffled").values)


def test_a_shuffle_within_classes_keeps_every_class_s_responses(shared):
    own, other = targets(shared), targets(shared, control="shuffled-within-class")
    for label in range(10):
        of = own.labels == label
        assert sorted(map(tuple, own.values[of])) == sorted(map(tuple, other.values[of]))
    assert not np.array_equal(own.values, other.values)
    labels = np.arange(60) % 3
    assert (labels[shuffled(labels, "shuffled-within-class", 3)] == labels).all()
    assert (labels[shuffled(labels, "shuffled", 3)] != labels).mean() == pytest.approx(2 / 3, abs=0.2)


def test_a_class_code_is_one_dimension_per_class_of_the_same_images(shared):
    found = targets(shared, control="class-code")
    assert found.values.shape == (KNOWN, 10)
    of, others = found.values[found.labels == 3, 3], found.values[found.labels != 3, 3]
    np.testing.assert_allclose(of, 3, atol=1e-6)  # a tenth of the images: (1 - .1) / .3
    np.testing.assert_allclose(others, -1 / 3, atol=1e-6)
    everywhere = targets(shared, responses=None, control="class-code")
    assert (everywhere.rows == np.arange(COUNT)).all()
    assert everywhere.told == {"control": "class-code", "images": COUNT, "of": COUNT, "dimensions": 10}


def test_one_subject_of_two_and_one_area_of_two(project):
    write_store(project, "two", roi=("V1",) * 3 + ("V4",) * 3, subject=("A", "B") * 3)
    found = targets(project, responses="two", roi="V4", subject="B", variance=None)
    np.testing.assert_allclose(found.values, standardised()[:, [3, 5]], atol=1e-4)
    both = targets(project, responses="two", roi="V4", variance=None)
    np.testing.assert_allclose(both.values, standardised()[:, 3:], atol=1e-4)
    assert targets(project, responses="two", roi="V1", variance=None).values.shape == (KNOWN, 3)


def test_batches_have_the_responses_of_their_images(shared):
    images = training_images(shared, world_classes(), SETTINGS)
    found = targets(shared)
    guided = GuidedImages(images, found)
    assert len(guided) == COUNT
    rows = {pixels_of(number).tobytes(): row for number, row in enumerate(found.rows)}
    (whole,) = TrainingData(guided, SETTINGS).all(Share())
    for image, response, has in zip(whole.images, whole.responses, whole.has_response, strict=True):
        row = rows[(image * 255).round().byte().permute(1, 2, 0).contiguous().numpy().tobytes()]
        assert bool(has) == (row >= 0)
        assert torch.equal(response, torch.from_numpy(found.values[row]) if has else torch.zeros(2))
    order = torch.cat([batch.has_response for batch in TrainingData(guided, SETTINGS).epoch(0, 0, Share())])
    assert int(order.sum()) == KNOWN, "augmentation keeps them"
    (plain,) = TrainingData(images, SETTINGS).all(Share())
    assert plain.responses is None
    assert plain.has_response is None


def test_digests_of_clickme_are_those_of_the_encoded_images(sample_root):
    project = Project(sample_root)
    classes = read_classes(project.data / "classes.yaml")
    images = training_images(project, classes, SETTINGS.model_copy(update={"images": "clickme"}))
    found = image_digests(images)
    assert found["sha256"].tolist() == [digest for _, digest in clickme_digests(images.shards)]
    assert found["label"].tolist() == [images.read(number).label for number in range(len(images))]


BAD = [
    ({"responses": None}, {}, InputError, "responses is null, expected a set of responses: give brain"),
    ({"responses": "brian"}, {}, InputError, "unknown set of responses 'brian'; did you mean 'brain'"),
    ({"roi": "V5"}, {}, InputError, "unknown area of brain 'V5'"),
    ({"subject": "B"}, {}, InputError, "unknown subject of brain 'B'"),
    ({}, {"roi": ("V1", "V4") * 3}, InputError, "roi is null, and brain has several areas: give one of 'V1', 'V4'"),
    ({}, {"images": range(100, 110)}, DataError, "none of its 10 images"),
    ({}, {"split": "test"}, InputError, "split train"),
    ({}, {"ceiling": 0.0}, InputError, "noise ceiling above zero, so the area is not reliable"),
    ({}, {"ceiling": -0.1}, InputError, "or force: true"),
    (
        {},
        {"subject": ("A", "B") * 3, "ceiling": [0.5, 0.0] * 3},
        InputError,
        "no unit of 'V4' of subject 'B' has a noise",
    ),
]


@pytest.mark.parametrize(("values", "store", "kind", "says"), BAD, ids=[says for *_, says in BAD])
def test_what_cannot_guide_is_refused_in_one_line(project, values, store, kind, says):
    write_store(project, **store)
    with pytest.raises(kind) as caught:
        targets(project, **values)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_responses_that_do_not_vary_and_dissimilarities_are_refused(project):
    path = project.data / "responses" / "flat.h5"
    table = pd.DataFrame({"id": ["a", "b"], "sha256": [digest_of(0), digest_of(1)]})
    with writing_responses(path, About("measured", "none"), table, pd.DataFrame({"roi": ["V1"]})) as writer:
        writer.add_trials(np.arange(2), np.ones((2, 1)), "train", 0)
    with pytest.raises(DataError, match="the responses to all 2 training images are the same"):
        targets(project, responses="flat")
    with writing_responses(path, About("measured", "none"), table) as writer:
        writer.add_rdm(np.ones(1), "A", "V1")
    with pytest.raises(InputError, match="holds dissimilarities, no responses"):
        targets(project, responses="flat")


def test_an_area_that_is_not_reliable_may_be_forced_and_one_reliable_unit_is_enough(project):
    write_store(project, ceiling=0.0)
    assert targets(project, force=True).values.shape == (KNOWN, 2)
    assert targets(project, control="class-code").values.shape == (KNOWN, 10)
    write_store(project, ceiling=[0.0, np.nan, 0.0, 0.0, 0.1, -1.0])
    found = targets(project)
    assert found.values.shape == (KNOWN, 2)
    assert found.told["noise_ceiling"] == pytest.approx(-0.18)
    write_store(project, subject=("A", "B") * 3, ceiling=[0.5, 0.0] * 3)
    assert targets(project, subject="A").told["noise_ceiling"] == 0.5
