"""What holds for every image set in the catalog: items in order, a digest that follows them, extras as promised."""

import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from advalign.data.classes import read_classes
from advalign.data.sets.base import ImageSet
from advalign.data.sets.stimuli import derangement
from advalign.errors import DataError, InputError
from advalign.models.classifier import Preprocessing
from advalign.models.zoo import evaluation_transform
from tests import extending
from tests.conftest import with_cifar, with_stimuli, write_cifar_c

NAMES = extending.names("image set")
every_set = pytest.mark.parametrize("name", NAMES)
TRANSFORM = evaluation_transform(Preprocessing(input_size=48, mean=(0, 0, 0), std=(1, 1, 1), crop=1.0))


@pytest.fixture(scope="module")
def project(sample_root, tmp_path_factory):
    found = with_cifar(with_stimuli(sample_root, tmp_path_factory.mktemp("sets") / "project"))
    labels = pd.read_parquet(found.data / "cifar" / "test.parquet", columns=["label"])["label"]
    write_cifar_c(found.data / "cifar" / "corruptions", labels)
    return found


def opened(project, name) -> ImageSet:
    return extending.load("image set", name).open(project, read_classes(project.data / "classes.yaml"))


@every_set
def test_parts_put_together_are_the_whole(project, name):
    image_set = opened(project, name)
    count = len(image_set)
    whole = image_set.items(0, count, seed=0)
    assert len(whole) == count == len(whole.labels) == len(image_set.listing())
    parts = [image_set.items(first, min(first + 7, count), seed=0) for first in range(0, count, 7)]
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)
    assert torch.equal(torch.cat([part.pixels(TRANSFORM) for part in parts]), whole.pixels(TRANSFORM))
    for extra in image_set.offers:
        assert torch.equal(torch.cat([part.extras[extra] for part in parts]), whole.extras[extra])
    assert [cell for part in parts for cell in part.table["label"]] == list(whole.table["label"])


@every_set
def test_pixels_are_images_and_extras_are_what_is_offered(project, name):
    image_set = opened(project, name)
    items = image_set.items(0, 5, seed=0)
    pixels = items.pixels(TRANSFORM)
    assert pixels.dtype == torch.float32
    assert pixels.ndim == 4
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert set(items.extras) == set(image_set.offers)
    assert all(len(extra) == 5 for extra in items.extras.values())


@every_set
def test_two_readings_have_one_digest(project, name):
    first, second = opened(project, name), opened(project, name)
    assert first.digest == second.digest
    assert len(first.digest) == 64


def test_other_pixels_are_another_set(project, tmp_path):
    copy = tmp_path / "project"
    shutil.copytree(project.root, copy)
    changed = type(project)(copy)
    image = next((changed.data / "imagenet" / "val").glob("*.JPEG"))
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(image)
    assert opened(changed, "validation").digest != opened(project, "validation").digest
    assert opened(changed, "stimuli").digest == opened(project, "stimuli").digest


def test_the_other_map_is_another_items(project):
    stimuli = opened(project, "stimuli")
    items = stimuli.items(0, len(stimuli), seed=3)
    order = derangement(len(stimuli), 3)
    assert torch.equal(items.extras["other_ranks"], items.extras["human_ranks"][order])
    assert not torch.equal(stimuli.items(0, 5, seed=4).extras["other_ranks"], items.extras["other_ranks"][:5])


@pytest.mark.parametrize("name", ["cifar", "cifar-swapped"])
def test_the_other_mask_is_another_images_and_counts_as_a_mask_does(project, tmp_path, name):
    """A third of the images have no mask, a third one of a model's own saliency: neither is given to another image."""
    copy = type(project)(tmp_path / "project")
    shutil.copytree(project.data, copy.data)
    for split in ("test", "swapped"):
        path = copy.data / "cifar" / f"{split}.parquet"
        table = pq.read_table(path)
        columns = table.to_pydict()
        for row in range(0, len(table), 3):
            columns["mask"][row] = columns["mask_source"][row] = None
        for row in range(1, len(table), 3):
            columns["mask_source"][row] = "own-cam"
        pq.write_table(pa.table(columns, schema=table.schema), path)
    image_set = opened(copy, name)
    found = image_set.items(0, len(image_set), seed=3).extras
    fair = torch.arange(len(image_set)) % 3 == 2
    assert torch.equal(found["has_mask"], fair)
    order = derangement(int(fair.sum()), 3)
    assert torch.equal(found["other_mask"][fair], found["mask"][fair][order])
    assert not found["other_mask"][~fair].any()
    assert not torch.equal(image_set.items(0, len(image_set), seed=4).extras["other_mask"], found["other_mask"])


def test_a_probe_that_needs_more_than_a_set_offers_is_refused():
    validation = extending.load("image set", "validation")
    with pytest.raises(InputError, match="needs mask of each image, image set 'validation' offers none: name another"):
        validation.check_offers("validation", ("mask",), "saliency")
    stimuli = extending.load("image set", "stimuli")
    with pytest.raises(InputError, match="offers human_map, human_ranks, other_ranks"):
        stimuli.check_offers("stimuli", ("mask",), "saliency")


@every_set
def test_a_project_without_it_says_how_to_get_it(sample_root, tmp_path, name):
    (tmp_path / "data").mkdir()
    shutil.copy(sample_root / "data" / "classes.yaml", tmp_path / "data")
    from advalign.files import Project

    with pytest.raises(DataError, match=r"is missing: .*dvc"):
        opened(Project(tmp_path), name)
