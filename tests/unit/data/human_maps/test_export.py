"""Shards written from trials: the maps in them, that the importer takes them, and what is refused."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from scipy.ndimage import gaussian_filter

sys.path.insert(0, str(Path(__file__).parent))
from populations import SIDE, write_participants

from advalign.data.classes import write_classes
from advalign.data.clickme import read_clickme, read_human_ceiling, split_shards
from advalign.data.human_maps.export import export_clickme, heatmap_jpeg
from advalign.data.human_maps.make import make_human_maps
from advalign.data.imports.clickme import import_clickme
from advalign.data.participants import IMAGES, IMAGES_SCHEMA, TRIALS, read_images, read_trials
from advalign.data.sample.generate import sample_classes
from advalign.errors import InputError
from advalign.files import Project
from advalign.settings import load_settings
from tests.pipeline.conftest import REPOSITORY

COUNT = 5
MAPS = {"resize": SIDE, "crop": 1.0, "side": SIDE, "window": 13, "sigma": 1.6, "min_clicks": 2, "min_subjects": 5}


@pytest.fixture
def project(tmp_path):
    """Trials on five images, one of them a PNG in grey, and outputs/maps of them."""
    project = Project(tmp_path / "project")
    write_participants(project, COUNT, np.random.default_rng(0))
    folder = tmp_path / "images" / "below"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    images = read_images(project)
    for number, name in enumerate(images["image"]):
        shape = (SIDE, SIDE) if number == 4 else (SIDE, SIDE, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(
            folder / name, "PNG" if number == 4 else "JPEG"
        )
        images.loc[number, "sha256"] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    images["label"] = np.arange(COUNT, dtype=np.int32)
    write_images(project, images)
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text()) | {"human_maps": MAPS}
    (project.root / "params.yaml").write_text(yaml.safe_dump(params))
    make_again(project)
    return project


def make_again(project):
    settings = load_settings(project.root)
    make_human_maps(project, settings.human_maps, settings.seed, workers=1)


def write_images(project, images):
    pq.write_table(pa.Table.from_pandas(images, IMAGES_SCHEMA, preserve_index=False), project.participants / IMAGES)


def export(project, target, **options):
    settings = load_settings(project.root)
    return export_clickme(project, settings, target, project.root.parent / "images", "val", **options)


def expected_map(trials):
    grid = np.zeros((SIDE, SIDE))
    for x, y in zip(trials["x"], trials["y"], strict=True):
        np.add.at(grid, (y.astype(int), x.astype(int)), 1)
    blurred = gaussian_filter(grid, 1.6, radius=6)
    return (blurred - blurred.min()) / (blurred.max() - blurred.min())


def test_the_shards_are_imported_with_the_maps_of_the_trials(project, tmp_path):
    done = export(project, tmp_path / "out", shard_size=2, lossless=True)
    assert (done.shards, done.records, done.converted) == (3, COUNT, 1)
    other = Project(tmp_path / "other")
    write_classes(other.data / "classes.yaml", sample_classes())
    taken = import_clickme(other, [tmp_path / "out"], workers=1)
    assert (taken.ceiling_given, taken.ceiling_written) == (True, False)
    records = list(read_clickme(split_shards(other, "val"), 36))
    images = read_images(project)
    assert [record.label for record in records] == list(range(COUNT))
    assert [record.sha256 for record in records[:4]] == images["sha256"].tolist()[:4]  # bytes as they were
    for record, trials in zip(records, read_trials(project), strict=True):
        assert np.abs(record.heatmap / 255 - expected_map(trials)).max() <= 0.5 / 255 + 1e-6
    assert read_human_ceiling(other) == pytest.approx(done.human_ceiling, abs=5e-6)

    (other.data / "clickme" / "ceiling.yaml").write_text("human_ceiling: 0.5\n")
    with pytest.raises(InputError, match="has another human ceiling than"):
        import_clickme(other, [tmp_path / "out"], workers=1)
    import_clickme(other, [tmp_path / "out"], workers=1, replace=True)
    assert read_human_ceiling(other) == pytest.approx(done.human_ceiling, abs=5e-6)


def test_heatmaps_are_jpeg_as_clickmes_are(project, tmp_path):
    export(project, tmp_path / "out")
    records = list(read_clickme(sorted((tmp_path / "out").glob("*.tfrecords")), 36))
    for record, trials in zip(records, read_trials(project), strict=True):
        (tmp_path / "one.jpg").write_bytes(heatmap_jpeg(expected_map(trials)))
        assert np.abs(record.heatmap.astype(int) - np.asarray(Image.open(tmp_path / "one.jpg"))).max() <= 2


def refused(project, tmp_path, match, **options):
    with pytest.raises(InputError, match=match):
        export(project, tmp_path / "out", **options)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_an_unknown_class_is_refused(project, tmp_path):
    images = read_images(project)
    images.loc[2, "label"] = -1
    write_images(project, images)
    make_again(project)
    refused(
        project,
        tmp_path,
        r"002\.JPEG': its class is not known: .*data import classes.*wnid.*data import clicks --replace`",
    )


def test_another_image_of_the_name_is_refused(project, tmp_path):
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "images" / "below" / "003.JPEG")
    refused(project, tmp_path, r"003\.JPEG is another file than the image of the trials")


def test_a_missing_image_is_refused(project, tmp_path):
    (tmp_path / "images" / "below" / "001.JPEG").unlink()
    refused(project, tmp_path, r"001\.JPEG' is not in it or below")


@pytest.mark.parametrize("name", ["cleaning.json", "summary.json"])
def test_maps_that_are_damaged_or_missing_are_refused(project, tmp_path, name):
    path = project.human_maps / name
    path.write_text(path.read_text().replace("0", "1", 1))
    refused(project, tmp_path, rf"{name} is damaged, was edited.*make it again with `dvc repro -f maps`")
    path.unlink()
    refused(project, tmp_path, rf"{name} is missing: run `dvc repro maps` first")


def test_maps_of_other_settings_are_refused(project, tmp_path):
    params = yaml.safe_load((project.root / "params.yaml").read_text())
    params["human_maps"]["sigma"] = 2.0
    (project.root / "params.yaml").write_text(yaml.safe_dump(params))
    refused(project, tmp_path, r"of other settings than params\.yaml has: run `dvc repro maps`")


def test_maps_of_other_trials_are_refused(project, tmp_path):
    path = project.participants / TRIALS
    trials = pq.read_table(path)
    pq.write_table(
        trials.set_column(4, trials.schema.field("catch"), pa.array([0.5] * len(trials), pa.float32())), path
    )
    refused(project, tmp_path, r"of other trials than data/participants has: run `dvc repro maps`")


def test_a_folder_with_something_in_it_is_refused(project, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(InputError, match="is not an empty folder"):
        export(project, tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "mine"
