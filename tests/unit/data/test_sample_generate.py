"""The sample on disk: the same content from the same seed, the layout of the contract, labels that are true."""

import io
import itertools
import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy.stats import spearmanr

from advalign.data.classes import read_classes
from advalign.data.clickme import decode_jpeg, read_clickme, read_human_ceiling, split_shards
from advalign.data.imagenet import read_validation
from advalign.data.participants import read_images, read_trials
from advalign.data.sample import generate
from advalign.data.sample.drawings import CATEGORIES
from advalign.data.sample.generate import SampleSettings, generate_sample, sample_classes
from advalign.data.tfrecord import read_examples
from advalign.errors import InputError
from advalign.files import Project
from tests.conftest import REPOSITORY

TINY = SampleSettings(scale=0.01)
SPLITS = ("train", "val", "test")


def records(project, split):
    return list(read_clickme(split_shards(project, split), len(CATEGORIES)))


def pictures(project):
    return {path.name: np.asarray(Image.open(path)) for path in sorted((project.data / "imagenet" / "val").iterdir())}


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """A second run with the settings of the shared sample, and what it told about its progress."""
    root, told = tmp_path_factory.mktemp("again"), []
    (root / "data").mkdir()  # an empty folder is as good as none
    generate_sample(root / "data", TINY, lambda done, total: told.append((done, total)))
    return Project(root), told


def test_layout_is_that_of_the_contract(project):
    found = sorted(str(path.relative_to(project.data)) for path in project.data.rglob("*") if path.is_file())
    images = [f"imagenet/val/SAMPLE_val_{number:08d}.JPEG" for number in range(1, 145)]
    shards = [f"clickme/{split}-00000.tfrecords" for split in SPLITS]
    tables = ["classes.yaml", "clickme/ceiling.yaml", "imagenet/labels.csv", "imagenet/multilabel.json"]
    people = ["participants/images.parquet", "participants/trials.parquet"]
    assert found == sorted(images + shards + tables + people)


def test_two_runs_have_the_same_content(project, again):
    other, _ = again
    for split in SPLITS:
        first, second = records(project, split), records(other, split)
        assert len(first) == len(second) == 4 * len(CATEGORIES)
        for one, two in zip(first, second, strict=True):
            assert one.label == two.label
            assert np.array_equal(one.image, two.image)
            assert np.array_equal(one.heatmap, two.heatmap)
    for name in ("classes.yaml", "clickme/ceiling.yaml", "imagenet/labels.csv", "imagenet/multilabel.json"):
        assert (project.data / name).read_text() == (other.data / name).read_text(), name
    assert read_images(project).equals(read_images(other))
    for one, two in zip(read_trials(project), read_trials(other), strict=True):
        assert one.astype(str).equals(two.astype(str))
    first, second = pictures(project), pictures(other)
    assert list(first) == list(second)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_progress_counts_every_image(again):
    _, told = again
    assert told == [(done, 4 * 144) for done in range(1, 4 * 144 + 1)]


def test_another_seed_is_other_content(project):
    for stream in ("train", "test", "imagenet"):
        split = TINY.split(stream)
        own = next(generate._singles(TINY, split))
        other = next(generate._singles(SampleSettings(seed=1, scale=0.01), split))
        assert not np.array_equal(own.image, other.image)
    assert list(generate._order(TINY, TINY.split("test"))) != list(generate._order(SampleSettings(1, 0.01), split))


def test_splits_share_no_picture(project):
    seen = [item.image.tobytes() for split in SPLITS for item in records(project, split)]
    seen += [picture.tobytes() for picture in pictures(project).values()]
    assert len(seen) == len(set(seen)) == 4 * 144


def test_every_category_is_drawn_equally_often_in_mixed_order(project):
    for split in SPLITS:
        labels = [item.label for item in records(project, split)]
        assert np.bincount(labels).tolist() == [4] * len(CATEGORIES)
        assert labels[:36] != sorted(labels[:36])


def test_records_are_64_pixel_jpegs_whose_map_reaches_its_maximum(project):
    for example in read_examples(split_shards(project, "test")[0]):
        assert set(example) == {"image", "heatmap", "label"}
        for name, mode in (("image", "RGB"), ("heatmap", "L")):
            opened = Image.open(io.BytesIO(example[name]))
            assert (opened.format, opened.mode, opened.size) == ("JPEG", mode, (64, 64))
    for item in records(project, "test"):
        assert item.heatmap.max() >= 240
        assert item.heatmap.min() <= 15


def test_default_sizes_are_those_of_the_committed_sample():
    sizes = {name: SampleSettings().split(name).count for name in (*SPLITS, "imagenet")}
    assert sizes == {"train": 2160, "val": 360, "test": 288, "imagenet": 720}
    cues = {name: SampleSettings().split(name).cue_agreement for name in sizes}
    assert cues == {"train": 0.9, "val": 0.9, "test": 0.0, "imagenet": 0.9}
    assert SampleSettings(scale=2.0).split("val").count == 720
    assert len({SampleSettings().split(name).stream for name in sizes}) == 4


def test_shards_have_fixed_members(tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "RECORDS_PER_SHARD", 5)
    scenes = list(itertools.islice(generate._singles(TINY, TINY.split("test")), 12))
    generate._write_shards(tmp_path / "data" / "clickme", "test", scenes)
    shards = split_shards(Project(tmp_path), "test")
    assert [path.name for path in shards] == [f"test-0000{number}.tfrecords" for number in range(3)]
    assert [len(list(read_examples(path))) for path in shards] == [5, 5, 2]
    found = [item.label for item in read_clickme(shards, len(CATEGORIES))]
    assert found == [scene.categories[0] for scene in scenes]


def test_classes_are_three_in_each_of_twelve_superclasses_half_of_them_animate(project):
    classes = read_classes(project.data / "classes.yaml")
    assert classes == sample_classes()
    names = [entry.superclass for entry in classes.entries]
    assert len(set(names)) == 12
    assert all(names.count(name) == 3 for name in names)
    assert sum(classes.decision_of_class) == 18
    assert len({(entry.superclass, entry.animate) for entry in classes.entries}) == 12
    assert all(entry.wnid.startswith("n90") and len(entry.wnid) == 9 for entry in classes.entries)


def test_two_objects_have_two_right_labels_of_different_superclasses(project):
    classes = read_classes(project.data / "classes.yaml")
    images = read_validation(project, classes)
    for number, image in enumerate(images, start=1):
        assert image.path.name == f"SAMPLE_val_{number:08d}.JPEG"
        if (number - 1) % 6 == 0:
            assert len(image.labels.correct) == 2
            assert len({classes[index].superclass for index in image.labels.correct}) == 2
        else:
            assert len(image.labels.correct) <= 1
        if image.labels.correct:
            assert image.label in image.labels.correct
        assert not image.labels.correct & (image.labels.unclear | image.labels.wrong)
    assert sum(len(image.labels.correct) == 2 for image in images) == 24


def test_flagged_and_unclear_images_are_where_they_are_promised(project):
    images = read_validation(project, read_classes(project.data / "classes.yaml"))
    problematic = [n for n, image in enumerate(images, start=1) if image.labels.problematic]
    assert problematic == [40, 80, 120]
    assert [n for n, image in enumerate(images, start=1) if not image.labels.correct] == [80]
    unclear = {n: image for n, image in enumerate(images, start=1) if image.labels.unclear}
    assert list(unclear) == [7, 67, 127]
    assert all(image.labels.unclear == {(image.label + 1) % 36} for image in unclear.values())
    content = json.loads((project.data / "imagenet" / "multilabel.json").read_text())
    assert set(content) == {"initial_annots", "problematic_images", "imagenet_m"}


def test_pictures_of_pairs_show_what_their_labels_say(project):
    """Drawn once more from the same stream, a pair is the picture that lies on disk."""
    split = TINY.split("imagenet")
    classes = read_classes(project.data / "classes.yaml")
    for image, scene in zip(read_validation(project, classes)[:13], generate._validation(TINY, split), strict=False):
        assert image.label == scene.categories[0]
        assert image.labels.correct == set(scene.categories)
        expected = decode_jpeg(generate._jpeg(scene.image, generate.IMAGE_QUALITY), "RGB", "drawn")
        assert np.array_equal(np.asarray(Image.open(image.path)), expected)
        assert np.abs(expected.astype(int) - scene.image).mean() < 6


def test_ceiling_is_the_mean_split_half_rank_correlation(project):
    scenes = list(generate._singles(TINY, TINY.split("test")))
    rhos = [spearmanr(*(half.ravel() for half in scene.half_maps)).statistic for scene in scenes]
    assert read_human_ceiling(project) == pytest.approx(np.mean(rhos), abs=6e-6)
    stored = yaml.safe_load((project.data / "clickme" / "ceiling.yaml").read_text())
    assert stored["images"] == len(scenes) == 144


def test_a_folder_that_holds_something_is_refused_and_untouched(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty: move it away first, or give another --output"):
        generate_sample(tmp_path, TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_the_global_random_streams_are_neither_used_nor_moved():
    np.random.seed(0)
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    next(generate._validation(TINY, TINY.split("imagenet")))
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


COMMITTED = Project(REPOSITORY)


@pytest.mark.skipif(
    not ((REPOSITORY / "data.dvc").is_file() and (COMMITTED.data / "clickme").is_dir()),
    reason="sample data not pulled",
)
def test_the_committed_sample_is_what_the_generator_draws():
    settings = SampleSettings()
    drawn = itertools.islice(generate._singles(settings, settings.split("test")), 40)
    stored = read_clickme([COMMITTED.data / "clickme" / "test-00000.tfrecords"], len(CATEGORIES))
    count = 0
    for scene, item in zip(drawn, stored, strict=False):
        heatmap = np.round(scene.heatmap * 255).astype(np.uint8)
        expected = decode_jpeg(generate._jpeg(scene.image, generate.IMAGE_QUALITY), "RGB", "drawn")
        assert item.label == scene.categories[0]
        assert np.array_equal(item.image, expected)
        assert np.array_equal(item.heatmap, decode_jpeg(generate._jpeg(heatmap, generate.MAP_QUALITY), "L", "drawn"))
        count += 1
    assert count == 40
