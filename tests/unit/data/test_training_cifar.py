"""Training on data/cifar: images, labels and masks by value, what counts as a map, and what makes another training."""

import numpy as np
import pytest
import torch

from advalign.data.batches import Share, TrainingData
from advalign.data.cifar import CifarImage, read_split, write_split
from advalign.data.classes import write_classes
from advalign.data.sample.cifar_world import WorldSettings, generate_world, images_of, world_classes
from advalign.data.training_images import data_identity, pictured_images, training_images, validation_images
from advalign.errors import DataError
from advalign.files import Project
from advalign.settings import Training, TrainSettings, load_settings
from advalign.training.plan import plan
from tests.conftest import REPOSITORY

WORLD = WorldSettings(scale=0.02)
SETTINGS = TrainSettings(images="cifar", size=32, batch_size=8, augmentation="pad", flip=False)
CLASSES = world_classes()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A project that holds a tiny drawn world and nothing else. Shared: read it."""
    root = tmp_path_factory.mktemp("world")
    generate_world(root / "data", WORLD)
    (root / "params.yaml").write_text((REPOSITORY / "experiments" / "robustsight" / "params.yaml").read_text())
    return Project(root)


def written(root, images, split="train"):
    """A project with such a split."""
    (root / "data" / "cifar").mkdir(parents=True, exist_ok=True)
    write_classes(root / "data" / "classes.yaml", CLASSES)
    write_split(root / "data" / "cifar" / f"{split}.parquet", images)
    return Project(root)


def plain(count=12, **values):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return [CifarImage(number, number % 10, pixels[number], **values) for number in range(count)]


@pytest.mark.parametrize("opened", [training_images, validation_images])
def test_images_labels_and_masks_by_value(world, opened):
    images = opened(world, CLASSES, SETTINGS)
    expected = list(images_of("train" if opened is training_images else "test", WORLD))
    assert len(images) == images.with_map == len(expected)
    for number in reversed(range(len(expected))):
        found = images.read(number)
        assert np.array_equal(found.image, expected[number].pixels)
        assert np.array_equal(found.heatmap, expected[number].mask * 255)
        assert found.label == expected[number].label
    (batch, *_) = TrainingData(images, SETTINGS).all(Share())
    assert torch.equal(batch.heatmaps.bool(), read_split(images.paths[0], 10).masks(0, len(batch)))
    assert set(batch.heatmaps.unique().tolist()) == {0.0, 1.0}
    assert batch.has_heatmap.all()


def test_masks_move_with_their_images(tmp_path):
    """Each object is white, so an image tells where its mask must be."""
    mask = np.zeros((32, 32), bool)
    mask[4:20, 9:13] = True
    pixels = np.where(mask[:, :, None], np.uint8(255), np.full((32, 32, 3), 7, np.uint8))
    drawn = [CifarImage(number, 0, pixels, mask, "user") for number in range(16)]
    images = training_images(written(tmp_path, drawn), CLASSES, SETTINGS)
    for batch in TrainingData(images, SETTINGS).epoch(0, 0, Share()):
        white = (batch.images == 1).all(1)
        assert torch.equal(white, batch.heatmaps == 1)
        assert ((batch.images == 0).all(1)).any()  # what came in at an edge is black


def test_what_is_decoded_is_kept_by_one_process_only(world):
    one, several = (training_images(world, CLASSES, SETTINGS.model_copy(update={"workers": n})) for n in (0, 2))
    assert one.read(3) is one.read(3)
    assert several.read(3) is not several.read(3)
    batches = [
        torch.cat([batch.images for batch in TrainingData(images, settings).epoch(0, 0, Share())])
        for images, settings in ((one, SETTINGS), (several, SETTINGS.model_copy(update={"workers": 2})))
    ]
    assert torch.equal(*batches)


def test_images_without_a_fair_mask_have_no_map(tmp_path):
    mask = np.zeros((32, 32), bool)
    mask[3:9, 3:9] = True
    circular = plain(10, mask=mask, mask_source="own-cam")
    mixed = [*plain(3), *(CifarImage(3 + k, 0, circular[0].pixels, mask, "user") for k in range(2))]
    images = training_images(written(tmp_path / "circular", circular), CLASSES, SETTINGS)
    assert images.with_map == 0
    assert images.read(0).heatmap is None
    images = training_images(written(tmp_path / "mixed", mixed), CLASSES, SETTINGS)
    assert images.with_map == 2
    assert [images.read(number).heatmap is not None for number in range(5)] == [False] * 3 + [True] * 2


def test_only_a_recipe_with_maps_needs_masks(tmp_path):
    project = written(written(tmp_path, plain()).root, plain(), "test")
    settings = load_settings(REPOSITORY / "experiments" / "robustsight")
    assert plan(project, settings, Training(model="test_resnet", recipe="adversarial")).train.images == "cifar"
    with pytest.raises(DataError, match=r"recipe 'harmonized' needs human maps: .*train\.parquet has no object masks"):
        plan(project, settings, Training(model="test_resnet", recipe="harmonized"))


def test_pictures_are_of_test_images_with_masks(world, tmp_path):
    assert len(pictured_images(world, CLASSES, SETTINGS)) == len(validation_images(world, CLASSES, SETTINGS))
    without = written(tmp_path, plain(), "test")
    assert pictured_images(without, CLASSES, SETTINGS) is None


def test_another_pixel_label_or_split_is_another_training(tmp_path):
    def identity(name, images, split="train"):
        opened = training_images if split == "train" else validation_images
        return data_identity(opened(written(tmp_path / name, images, split), CLASSES, SETTINGS))

    images = plain()
    other = plain()
    other[3].pixels[0, 0, 0] ^= 1
    labelled = [*images[:-1], CifarImage(11, 5, images[-1].pixels)]
    found = [identity("a", images), identity("b", other), identity("c", labelled), identity("d", images, "test")]
    assert len(set(found)) == 4
    assert identity("e", images) == found[0]


def test_a_missing_split_and_a_broken_image_are_named(world, tmp_path):
    with pytest.raises(DataError, match=r"data/cifar/train\.parquet is missing"):
        training_images(written(tmp_path / "lacking", plain(), "test"), CLASSES, SETTINGS)
    images = training_images(world, CLASSES, SETTINGS)
    images.split.encoded[4] = b"no PNG"
    with pytest.raises(DataError, match=r"train\.parquet: row 4: image is no PNG"):
        images.read(4)
