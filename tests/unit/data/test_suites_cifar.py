"""Expectations on data/cifar: the drawn world and plain images pass; each fault fails the expectation that names it."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from advalign.data.cifar import write_split
from advalign.data.classes import write_classes
from advalign.data.expectations import validate
from advalign.data.sample.cifar_world import WorldSettings, images_of, world_classes
from advalign.errors import DataError
from advalign.files import Project
from advalign.settings import load_settings
from tests.conftest import REPOSITORY

SMALL = WorldSettings(scale=0.1)
SPLITS = ("train", "test", "swapped")


@pytest.fixture(scope="module")
def drawn():
    return {split: list(images_of(split, SMALL)) for split in SPLITS}


def checked(root, splits):
    """The result of the suites over splits, in a project without stimuli."""
    project = Project(root)
    (root / "data" / "cifar").mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(yaml.safe_load((REPOSITORY / "params.yaml").read_text())))
    write_classes(project.data / "classes.yaml", world_classes())
    for split, images in splits.items():
        write_split(project.data / "cifar" / f"{split}.parquet", images)
    return validate(project, load_settings(root), evaluations=True)


def failed(root, splits):
    return {(one.table, one.column): one.unexpected for one in checked(root, splits).failures}


def test_the_drawn_world_passes(drawn, tmp_path):
    found = checked(tmp_path, drawn)
    assert found.success, found.failures
    assert found.checked == {"train": 9, "test": 9, "swapped": 9, "swaps": 4}


def test_images_that_are_not_drawn_pass_without_masks(drawn, tmp_path):
    plain = [replace(one, mask=None, mask_source=None, cue=None, lossy=True) for one in drawn["test"]]
    found = checked(tmp_path, {"test": plain})
    assert found.success, found.failures
    assert found.checked == {"test": 8}


def spoiled(images, row, **changes):
    return [replace(one, **changes) if number == row else one for number, one in enumerate(images)]


def blank(drawn):
    grey = np.full((32, 32, 3), 90, np.uint8)
    return {**drawn, "train": spoiled(drawn["train"], 3, pixels=grey)}, ("train", "contrast"), 1


def everywhere(drawn):
    return {**drawn, "train": spoiled(drawn["train"], 3, mask=np.ones((32, 32), bool))}, ("train", "mask_share"), 1


def point(drawn):
    mask = np.zeros((32, 32), bool)
    mask[5, 5] = True
    return {**drawn, "train": spoiled(drawn["train"], 3, mask=mask)}, ("train", "mask_share"), 1


def leaked(drawn):
    images = drawn["train"][:50]
    moved = [replace(one, pixels=other.pixels) for one, other in zip(drawn["test"], images, strict=True)]
    return {**drawn, "test": moved[:10] + drawn["test"][10:]}, ("test", "in_train"), 10


def repeated(drawn):
    first = drawn["train"][0].pixels
    images = [replace(one, pixels=first) if number < 6 else one for number, one in enumerate(drawn["train"])]
    return {**drawn, "train": images}, ("train", "sha256"), 6


def without_a_class(drawn):
    images = [replace(one, label=0) if one.label == 4 else one for one in drawn["train"]]
    return {**drawn, "train": images}, ("train", "label"), 1


def unrelated_backgrounds(drawn):
    images = [replace(one, cue=number % 10) for number, one in enumerate(drawn["train"])]
    return {**drawn, "train": images}, ("train", "agrees"), 1


def not_swapped(drawn):
    return {**drawn, "swapped": drawn["test"]}, ("swaps", "same_pixels"), 50


def other_objects(drawn):
    mask = drawn["swapped"][1].mask
    return (
        {**drawn, "swapped": spoiled(drawn["swapped"], 0, mask=mask)},
        ("swaps", "mask_sha256, mask_sha256_swapped"),
        1,
    )


FAULTS = (
    blank, everywhere, point, leaked, repeated, without_a_class, unrelated_backgrounds, not_swapped, other_objects,
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found_and_counted(drawn, tmp_path, fault):
    splits, where, count = fault(drawn)
    assert failed(tmp_path, splits)[where] == count


def test_a_world_without_test_images_is_no_pass(drawn, tmp_path):
    with pytest.raises(DataError, match=r"test\.parquet is missing"):
        checked(tmp_path, {"train": drawn["train"]})
