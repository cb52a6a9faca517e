"""Import of finished maps: every format gives the same shard, which is read like ClickMe's own."""

import io
import shutil
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
from PIL import Image

from advalign.data.classes import read_classes
from advalign.data.clickme import read_clickme, read_human_ceiling, split_shards
from advalign.data.imports import maps
from advalign.data.imports.maps import import_maps
from advalign.data.tfrecord import read_examples
from advalign.errors import DataError
from advalign.files import sha256
from tests.bare_project import bare_project, plain_classes
from tests.conftest import REPOSITORY
from tests.pipeline.conftest import typed

REAL = REPOSITORY.parent / "shared/reference/real/clickme"
WNIDS = ("n00000001", "n00000002")
RNG = np.random.default_rng(4)
SMOOTH = np.add.outer(np.arange(20.0), np.arange(30.0) * 2)  # of the size of the images
SHAPES = {"a": SMOOTH, "b": SMOOTH[::-1], "c": SMOOTH[:, ::-1]}


@pytest.fixture
def project(tmp_path):
    return bare_project(tmp_path / "project", plain_classes(*WNIDS))


@pytest.fixture
def images(tmp_path):
    """a: JPEG in RGB; b: PNG; c: grey JPEG; unseen: no map."""
    for number, (name, mode) in enumerate([("a.JPEG", "RGB"), ("b.png", "RGB"), ("c.jpg", "L"), ("unseen.png", "RGB")]):
        folder = tmp_path / "images" / WNIDS[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / name)
    return tmp_path / "images"


def records(project, split="test"):
    return list(read_clickme(split_shards(project, split), 2))


def scaled(values):
    return np.rint(255 * (values - values.min()) / (values.max() - values.min()))


def as_png(folder):
    for name, values in SHAPES.items():
        Image.fromarray(scaled(values).astype(np.uint8)).save(folder / f"{name}.png")


def as_png_16(folder):
    for name, values in SHAPES.items():
        Image.fromarray((values * 700).astype(np.uint16)).save(folder / f"{name}.png")


def as_npy(folder):
    for name, values in SHAPES.items():
        np.save(folder / f"{name}.npy", (values - 1000)[None].astype(np.float32))


def as_npz(folder):
    for name, values in SHAPES.items():
        np.savez_compressed(folder / f"{name}.npz", map=values[..., None] * 1e30)


def as_one_npz(folder):
    np.savez(folder / "all.npz", **SHAPES)


def as_hdf5(folder):
    with h5py.File(folder / "all.h5", "w") as file:
        for name, values in SHAPES.items():
            file[f"n00000001/{name}.JPEG"] = values


@pytest.mark.parametrize(
    "write", [as_png, as_png_16, as_npy, as_npz, as_one_npz, as_hdf5], ids=lambda one: one.__name__
)
def test_every_format_gives_the_same_shard(project, images, tmp_path, write):
    (tmp_path / "maps").mkdir()
    write(tmp_path / "maps")
    done = import_maps(project, tmp_path / "maps", images, "test", ceiling=0.6, workers=1)
    assert done.as_json() == {
        "split": "test", "shards": 1, "records": 3, "classes": {0: 2, 1: 1}, "converted": 2, "stretched": 0,
        "missing_images": 0, "missing": (), "ceiling": 0.6, "skipped": False,
    }  # fmt: skip
    found = records(project)
    assert [record.source for record in found] == [f"test-maps-00000.tfrecords:{k}" for k in range(3)]
    for record, (name, values), label in zip(found, SHAPES.items(), [0, 1, 0], strict=True):
        assert np.abs(record.heatmap - scaled(values)).max() <= (0 if write is not as_png_16 else 1), name
        assert record.label == label
    assert found[0].sha256 == sha256(images / WNIDS[0] / "a.JPEG")
    (_, second, _) = read_examples(project.data / "clickme" / "test-maps-00000.tfrecords")
    assert Image.open(io.BytesIO(second["image"])).format == "JPEG"
    original = np.asarray(Image.open(images / WNIDS[1] / "b.png"), float)
    assert np.abs(found[1].image - original).mean() < 4  # of noise, at quality 95
    assert found[2].image.shape == (20, 30, 3)
    assert read_human_ceiling(project) == 0.6


def test_maps_of_any_size_are_resized_and_stretched_ones_counted(project, images, tmp_path):
    (tmp_path / "maps").mkdir()
    wide = np.add.outer(np.zeros(200), np.linspace(0, 1, 300))
    np.save(tmp_path / "maps" / "a.npy", wide)
    np.save(tmp_path / "maps" / "b.npy", np.add.outer(np.zeros(10), np.linspace(5, 6, 10)))
    done = import_maps(project, tmp_path / "maps", images, "val", workers=1)
    assert (done.stretched, done.ceiling) == (1, None)
    for record in records(project, "val"):
        assert record.heatmap.shape == (20, 30)
        assert np.abs(record.heatmap[0].astype(float) - np.linspace(0, 255, 30)).max() < 15
        assert (record.heatmap == record.heatmap[0]).all()


def test_labels_come_from_a_table_if_there_is_one(project, images, tmp_path):
    (tmp_path / "maps").mkdir()
    as_npy(tmp_path / "maps")
    (tmp_path / "labels.csv").write_text(f"image,wnid\na,{WNIDS[1]}\nb.png,{WNIDS[1]}\nc,{WNIDS[0]}\n")
    import_maps(project, tmp_path / "maps", images, "test", labels=tmp_path / "labels.csv", workers=1)
    assert [record.label for record in records(project)] == [1, 1, 0]


def test_the_same_again_writes_nothing_and_fewer_need_replace(project, images, tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "PER_SHARD", 1)
    (tmp_path / "maps").mkdir()
    as_npy(tmp_path / "maps")
    shutil.copy(tmp_path / "maps" / "a.npy", tmp_path / "maps" / "gone.npy")
    options = {"images": images, "split": "test", "workers": 1}
    done = import_maps(project, tmp_path / "maps", **options, ceiling=0.7)
    assert (done.shards, done.missing_images, done.missing, done.skipped) == (3, 1, ("gone.npy",), False)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (project.data / "clickme").iterdir()}
    assert import_maps(project, tmp_path / "maps", **options).skipped
    (tmp_path / "maps" / "c.npy").unlink()
    with pytest.raises(DataError, match=r"test-maps-00002.tfrecords is of an earlier import of maps: move it away"):
        import_maps(project, tmp_path / "maps", **options)
    with pytest.raises(DataError, match=r"ceiling.yaml exists with other content: move it away, or give --replace"):
        import_maps(project, tmp_path / "maps", **{**options, "split": "val"}, ceiling=0.5)
    assert before == {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (project.data / "clickme").iterdir()
    }
    assert not import_maps(project, tmp_path / "maps", **options, replace=True).skipped
    assert len(records(project)) == 2
    assert import_maps(project, tmp_path / "maps", **options).ceiling == 0.7


KILLED = """
import os, signal, sys
from pathlib import Path
from advalign.data.imports import maps
from advalign.files import Project
maps.PER_SHARD, moves = 1, 0
def dying_replace(self, target, replace=Path.replace):
    global moves
    done = replace(self, target)
    moves += "maps-" in str(self) and str(target).endswith(".tfrecords")
    if moves == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
Path.replace = dying_replace
root, folder, images = map(Path, sys.argv[1:])
maps.import_maps(Project(root), folder, images, "test", workers=1)
"""


@pytest.mark.slow
def test_a_killed_import_leaves_whole_shards_and_runs_again(project, images, tmp_path, monkeypatch):
    (tmp_path / "maps").mkdir()
    as_npy(tmp_path / "maps")
    arguments = [project.root, tmp_path / "maps", images]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, cwd=REPOSITORY)
    assert ended.returncode == -signal.SIGKILL
    assert len(records(project)) == 2
    monkeypatch.setattr(maps, "PER_SHARD", 1)
    assert not import_maps(project, tmp_path / "maps", images, "test", workers=1).skipped
    names = sorted(path.name for path in (project.data / "clickme").iterdir())
    assert names == [f"test-maps-{number:05d}.tfrecords" for number in range(3)]
    assert len(records(project)) == 3


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/reference/real: real human maps")
def test_five_real_maps(project, tmp_path):
    (tmp_path / "maps").mkdir()
    (tmp_path / WNIDS[0]).mkdir()
    for number in range(5):
        shutil.copy(REAL / f"clickme_{number}.png", tmp_path / "maps" / f"img_{number}.png")
        shutil.copy(REAL / f"img_{number}.png", tmp_path / WNIDS[0])
    words = ["data", "import", "maps", str(tmp_path / "maps"), "--images", str(tmp_path / WNIDS[0]), "--split", "test"]
    ended = typed(project.root, *words, "--workers", "1")
    assert ended.returncode == 0, ended.stderr
    assert "5 maps of 1 classes in 1 shards data/clickme/test-maps-*: 5 images were encoded as JPEG" in ended.stdout
    assert "data/clickme/ceiling.yaml is missing: give --ceiling" in ended.stdout
    for number, record in enumerate(records(project)):
        own = np.asarray(Image.open(REAL / f"clickme_{number}.png"), float)
        assert own.shape == (396, 396)
        assert record.heatmap.shape == record.image.shape[:2] == (398, 398)
        resized = np.asarray(Image.fromarray(own.astype(np.float32)).resize((398, 398), Image.Resampling.BILINEAR))
        assert np.abs(record.heatmap - scaled(resized)).max() <= 1
        original = np.asarray(Image.open(REAL / f"img_{number}.png"), float)
        assert np.abs(record.image - original).mean() < 3
    assert read_classes(project.data / "classes.yaml")[0].wnid == WNIDS[0]
