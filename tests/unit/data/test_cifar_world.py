"""The drawn 32x32 world: exact masks, a background that follows the class, and its swap; and the sets made of it."""

import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from advalign.data.cifar import CifarImage, read_split, write_split
from advalign.data.classes import checked_classes, read_classes
from advalign.data.sample import cifar_world
from advalign.data.sample.backgrounds import grating
from advalign.data.sample.cifar_world import NAMES, SCENES, WorldSettings, draw, generate_world, images_of
from advalign.data.sets.cifar import CifarImages
from advalign.data.sets.cifar_swapped import SwappedCifar
from advalign.errors import DataError, InputError
from advalign.files import Project
from tests.conftest import REPOSITORY

TINY = WorldSettings(scale=0.2)
SPLITS = ("train", "test", "swapped")
SHARE = 0.95  # of the cues that are the object's own


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A project with a small world, and what it told about its progress."""
    root, told = tmp_path_factory.mktemp("world"), []
    generate_world(root / "data", TINY, lambda done, total: told.append((done, total)))
    return Project(root), told


def split(world, name):
    return read_split(world[0].data / "cifar" / f"{name}.parquet", len(NAMES))


def opened(world, kind=CifarImages):
    return kind.open(world[0], read_classes(world[0].data / "classes.yaml"))


def test_it_has_equally_many_images_of_each_class_and_sound_classes(world):
    project, told = world
    assert told == [(done, 680) for done in range(1, 681)]
    for name, each in zip(SPLITS, (48, 10, 10), strict=True):
        found = split(world, name)
        assert np.bincount(found.table["label"]).tolist() == [each] * 10
        assert found.table["index"].tolist() == list(range(10 * each))
        assert set(found.table["mask_source"]) == {"generator"}
        assert not found.table["lossy"].any()
    table = checked_classes(project.data / "classes.yaml")
    assert [entry.name for entry in table.entries] == list(NAMES)
    assert table.decision_of_class == [1] * 5 + [0] * 5
    with pytest.raises(InputError, match="is not empty: move it away first"):
        generate_world(project.data, TINY)


def test_the_same_settings_give_the_same_bytes_and_another_seed_others(world, tmp_path):
    for name in SPLITS:
        write_split(tmp_path / name, images_of(name, TINY))
        assert (tmp_path / name).read_bytes() == (world[0].data / "cifar" / f"{name}.parquet").read_bytes()
    one, other = (next(images_of("test", WorldSettings(seed=seed, scale=0.2))) for seed in (20261, 1))
    assert not np.array_equal(one.pixels, other.pixels)


def test_the_cue_agrees_in_training_and_never_after_the_swap(world):
    for name in ("train", "test"):
        cues = split(world, name).table
        assert (cues["cue"] == cues["label"]).mean() == pytest.approx(SHARE, abs=0.05)
    test, swapped = split(world, "test").table, split(world, "swapped").table
    assert (swapped["cue"] != swapped["label"]).all()
    assert (swapped["cue"] != test["cue"]).all()
    assert len(set(swapped["cue"][swapped["label"] == 3])) > 3  # any of the others


def test_no_swap_gives_back_the_class_or_the_background_that_was_there():
    seeds = [(label, np.random.default_rng([label, k])) for label in range(10) for k in range(400)]
    drawn = [(label, *cifar_world._cues(label, rng)) for label, rng in seeds]
    assert all(other not in (label, cue) for label, cue, other in drawn)
    assert len({(label, other) for label, _, other in drawn}) == 90  # any of the others
    assert np.mean([label == cue for label, cue, _ in drawn]) == pytest.approx(SHARE, abs=0.012)


def test_a_swap_changes_the_background_and_no_pixel_of_the_object(world):
    test, swapped = split(world, "test"), split(world, "swapped")
    difference = (test.pixels(0, 100) - swapped.pixels(0, 100)).abs().amax(1)
    mask = test.masks(0, 100)
    assert torch.equal(mask, swapped.masks(0, 100))
    changed = difference > 0.5 / 255
    assert changed[~mask].float().mean() > 0.9
    assert changed[mask].float().mean() < 0.25  # pixels of the rim, of which the object covers a part
    inner = torch.nn.functional.max_pool2d((~mask).float()[:, None], 3, 1, 1)[:, 0] == 0
    assert inner.sum() > 5000
    assert changed[inner].float().mean() < 0.02


def test_a_mask_is_where_the_object_is_drawn():
    """Against an image of the same object without background: what is not background colour is the object."""
    layer = cifar_world.paint(cifar_world._CATEGORY[7], np.random.default_rng(3), SCENES)
    _, mask = draw(7, 0, np.random.default_rng(3))
    assert np.array_equal(mask, layer.alpha[..., 0] >= 0.5)
    assert 0.08 < mask.mean() < 0.6


def test_the_background_of_each_class_has_its_own_grating():
    """Correlating a picture's background with every grating at every phase finds the cue."""
    phases = np.linspace(0, np.pi, 8, endpoint=False)
    found = []
    for cue in range(len(NAMES)):
        pixels, mask = draw(cue, cue, np.random.default_rng(100 + cue))
        grey = np.where(mask, 0, pixels.mean(2) - pixels.mean(2)[~mask].mean())
        power = [max(abs((grey * grating(one, phase, 32)).sum()) for phase in phases) for one in range(len(NAMES))]
        found.append(int(np.argmax(power)))
    assert np.mean(np.array(found) == np.arange(len(NAMES))) >= 0.9


def test_pixels_of_the_set_are_values_over_255_under_any_transform(world):
    image_set = opened(world)
    items = image_set.items(3, 9, seed=0)
    expected = np.stack([one.pixels for one in images_of("test", TINY)])[3:9]

    def refuse(_):
        raise AssertionError("the images have one size for all models")

    scaled = items.pixels(refuse) * 255
    assert torch.equal(scaled.round(), torch.from_numpy(expected).permute(0, 3, 1, 2).float())
    assert (scaled - scaled.round()).abs().max() < 1e-4
    assert items.labels.tolist() == image_set.listing()["label"][3:9].tolist()
    assert items.extras["has_mask"].all()
    assert image_set.absent() == []
    assert not CifarImages.grouped


def test_the_swapped_set_has_each_image_beside_its_original(world):
    swapped, test = opened(world, SwappedCifar), opened(world)
    items = swapped.items(0, 100, seed=0)
    assert torch.equal(items.extras["original"], test.items(0, 100, seed=0).pixels(None))
    assert not torch.equal(items.extras["original"], items.pixels(None))
    assert swapped.digest != test.digest
    assert {path.name for path in swapped.reads(world[0])} == {"classes.yaml", "swapped.parquet", "test.parquet"}


def changed(world, tmp_path, **columns):
    """A copy of the world whose test images are of other sources."""
    copy = Project(tmp_path / "copy")
    shutil.copytree(world[0].root, copy.root)
    images = [CifarImage(**(vars(one) | columns)) for one in images_of("test", TINY)]
    write_split(copy.data / "cifar" / "test.parquet", images)
    return copy


def test_circular_masks_are_used_by_no_metric_and_named(world, tmp_path):
    image_set = opened((changed(world, tmp_path, mask_source="own-cam"),))
    items = image_set.items(0, 100, seed=0)
    assert not items.extras["has_mask"].any()
    assert not items.extras["mask"].any()
    assert set(items.table["mask_source"]) == {"own-cam"}
    assert image_set.absent()[0] == "100 masks are from a model's own saliency (own-cam): no metric uses them"
    assert image_set.digest != opened(world).digest


def test_lossy_images_are_named(world, tmp_path):
    image_set = opened((changed(world, tmp_path, lossy=True, mask=None, mask_source=None),))
    assert image_set.absent() == [
        "100 of 100 images went through JPEG: their pixels are not the official ones",
        "the images have no object masks: nothing that needs them is measured",
    ]
    assert image_set.items(0, 2, 0).table["lossy"].all()


def test_swapped_images_of_another_test_split_are_refused(world, tmp_path):
    copy = changed(world, tmp_path, label=4)
    with pytest.raises(
        DataError, match=r"swapped\.parquet is not of the images of test\.parquet: index, label and mask"
    ):
        opened((copy,), SwappedCifar)


def test_the_committed_world_is_what_the_generator_draws(tmp_path):
    """Decoded: the bytes of PNG files depend on the library."""
    data = REPOSITORY / "experiments" / "robustsight" / "data" / "cifar"
    if not data.is_dir():
        pytest.skip("the data of experiments/robustsight is not checked out (dvc pull)")
    for name in SPLITS:
        found = read_split(data / f"{name}.parquet", len(NAMES))
        every = max(1, len(found) // 40)
        for row, one in enumerate(images_of(name)):
            if row % every == 0:
                scaled = (found.pixels(row, row + 1)[0] * 255).round().byte().permute(1, 2, 0).numpy()
                assert np.array_equal(scaled, one.pixels)
                assert np.array_equal(found.masks(row, row + 1)[0].numpy(), one.mask)
                assert found.table["cue"][row] == one.cue


def test_masks_are_stored_as_black_and_white(world):
    content = io.BytesIO(split(world, "test").encoded_masks[0])
    assert set(np.unique(np.asarray(Image.open(content)))) == {0, 255}
