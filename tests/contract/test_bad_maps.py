"""Bad finished maps at the command line: one line that names the map and the fix, exit 2, and nothing half-written."""

import pickle
import re

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.bare_project import bare_project, plain_classes
from tests.pipeline.conftest import typed

PROGRESS = re.compile(r"importing: \d+/\d+ .*\n")
SMOOTH = np.add.outer(np.arange(20.0), np.arange(30.0))


@pytest.fixture
def root(tmp_path):
    """A project with two classes; images 1.png .. 3.png in n00000001, odd.png outside; maps of 1 and 2."""
    project = bare_project(tmp_path / "project", plain_classes("n00000001", "n00000002"))
    (tmp_path / "images" / "n00000001").mkdir(parents=True)
    (tmp_path / "maps").mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(tmp_path / "images" / "n00000001" / f"{number}.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "images" / "odd.png")
    for number in (1, 2):
        np.save(tmp_path / "maps" / f"{number}.npy", SMOOTH)
    return project.root


def saved(name, values):
    return lambda folder: np.save(folder / name, values, allow_pickle=True)


def written(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def picture(name, mode):
    pixels = np.stack([SMOOTH, SMOOTH[::-1], SMOOTH, SMOOTH], axis=-1).astype(np.uint8)
    return lambda folder: Image.fromarray(pixels).convert(mode).save(folder / name)


def hdf5(**datasets):
    def write(folder):
        with h5py.File(folder / "more.h5", "w") as file:
            for name, values in datasets.items():
                file[name] = values

    return write


def cut_hdf5(folder):
    hdf5(three=SMOOTH)(folder)
    (folder / "more.h5").write_bytes((folder / "more.h5").read_bytes()[:300])


def cut(folder):
    np.save(folder / "3.npy", SMOOTH)
    (folder / "3.npy").write_bytes((folder / "3.npy").read_bytes()[:-100])


def cut_archive(folder):
    np.savez(folder / "3.npz", SMOOTH)
    (folder / "3.npz").write_bytes((folder / "3.npz").read_bytes()[:-30])


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


def strangers(folder):
    for path in list(folder.iterdir()):
        path.rename(folder / f"other-{path.name}")


NAN = np.where(SMOOTH == 7, np.nan, SMOOTH)
BAD = {  # kind: (what is done to the folder of maps, what is told)
    "constant": (saved("3.npy", SMOOTH * 0 + 5), "3.npy is constant, so it ranks no pixel above another: remove"),
    "not finite": (saved("3.npy", NAN), "3.npy holds values that are not finite"),
    "complex": (saved("3.npy", SMOOTH * 1j), "3.npy holds items of type complex128, expected numbers"),
    "three channels": (saved("3.npy", np.zeros((20, 30, 3))), "3.npy is 20x30x3, expected one channel"),
    "one row": (saved("3.npy", np.arange(9)), "3.npy has 1 dimension, expected one channel, height x width"),
    "no pixels": (saved("3.npy", np.zeros((0, 5))), "3.npy is 0x5, expected one channel"),
    "objects": (
        saved("3.npy", np.array([[{}]])),
        "3.npy holds a pickle of objects, expected numbers: save it as numbers",
    ),
    "a pickle": (written("3.npy", pickle.dumps([SMOOTH])), "3.npy holds a pickle of objects"),
    "a number": (saved("3.npy", np.array(1.0)), "3.npy has 0 dimensions"),
    "noise": (written("3.npy", bytes(range(128, 200))), "3.npy cannot be read"),
    "cut short": (cut, "3.npy cannot be read"),
    "a text": (written("3.npy", b"hello world, no map"), "3.npy looks like text"),
    "an empty file": (written("3.npy", b""), "3.npy is empty"),
    "no PNG": (written("3.png", b"GIF89a......"), "3.png looks like a GIF image"),
    "a damaged PNG": (written("3.png", b"\x89PNG\r\n\x1a\n0000"), "3.png cannot be read"),
    "colours": (picture("3.png", "RGB"), "3.png is RGB, expected one grey channel"),
    "transparency": (picture("3.png", "RGBA"), "3.png is RGBA, expected one grey channel: convert it"),
    "a palette": (picture("3.png", "P"), "3.png is P, expected one grey channel"),
    "HDF5 without datasets": (hdf5(), "more.h5 holds no dataset: save one per image"),
    "HDF5 of text": (hdf5(**{"3": "words"}), "more.h5: 3 holds items of type |S5, expected numbers"),
    "HDF5 of a constant": (hdf5(**{"3": SMOOTH * 0}), "more.h5: 3 is constant"),
    "HDF5 cut short": (cut_hdf5, "more.h5 cannot be read"),
    "no HDF5": (written("more.h5", b"hello world, no map"), "more.h5 looks like text"),
    "archive cut short": (cut_archive, "3.npz cannot be read"),
    "two maps of one image": (hdf5(**{"1.JPEG": SMOOTH}), "1.npy and "),
    "no class": (saved("odd.npy", SMOOTH), "odd.png: its class is not known: give --labels FILE"),
    "no maps": (empty, "maps: no maps (.png, .npy, .npz, .h5, .hdf5) in it"),
    "other names": (strangers, "no image is called like its maps ('other-1.npy' ...)"),
}


def content(root):
    kept = [path for path in root.rglob("*") if path.name not in (".import.lock", "outputs", "clickme")]
    return {path: path.read_bytes() if path.is_file() else b"" for path in kept}


def command(root, split="test", folder="maps"):
    folders = [str(root.parent / folder), "--images", str(root.parent / "images")]
    return ["data", "import", "maps", *folders, "--split", split, "--workers", "1"]


def refused(root, *options, split="test"):
    before = content(root)
    ended = typed(root, *command(root, split), *options)
    error = PROGRESS.sub("", ended.stderr)
    assert (ended.returncode, ended.stdout) == (2, ""), error
    assert error.startswith("advalign: error: ")
    assert error.count("\n") == 1
    assert content(root) == before
    return error


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_map_is_refused_in_one_line(root, kind):
    change, told = BAD[kind]
    change(root.parent / "maps")
    assert told in refused(root)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--ceiling", "0"), "the human ceiling must lie in (0, 1], got 0"),
        (("--ceiling", "66"), "the human ceiling must lie in (0, 1], got 66"),
        (("--ceiling", "nan"), "the human ceiling must lie in (0, 1], got nan"),
        (("--labels", "missing.csv"), "missing.csv: cannot be read (No such file or directory): name an existing file"),
        (("--images", "/nope"), "/nope is not a folder: name the one that the images of the maps are in"),
    ],
)
def test_bad_options(root, options, told):
    assert told in refused(root, *options)


def test_labels_that_lack_an_image(root):
    (root.parent / "labels.csv").write_text("image,wnid\n1,n00000002\n")
    assert "2.png: its class is not known: add it to" in refused(root, "--labels", str(root.parent / "labels.csv"))


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        ("image;wnid\n1;n00000002\n", "semicolons"),
        ("ImageId\tPredictionString\n1\tn00000002 1 2 3 4\n", "tabs"),
        ("1.png|n00000002\n", "bars"),
    ],
)
def test_labels_with_other_separators(root, labels, word):
    (root.parent / "labels.csv").write_text(labels)
    line = refused(root, "--labels", str(root.parent / "labels.csv"))
    assert f"columns are separated by {word}, expected commas: save it with commas" in line


def test_a_folder_that_is_not_there(root):
    ended = typed(root, *command(root, folder="nope"))
    assert ended.returncode == 2
    assert ended.stderr.endswith(
        "nope does not exist: name an existing folder with maps, or one HDF5 file or archive\n"
    )


def test_it_is_said_which_ceiling_stays(root):
    given = typed(root, *command(root), "--ceiling", "0.62")
    assert given.returncode == 0, given.stderr
    assert "ceiling.yaml" not in given.stdout
    assert "\nceiling.yaml stays: human ceiling 0.62\n" in typed(root, *command(root, "val")).stdout


def test_a_ceiling_that_is_there_already_is_not_said_to_be_written(root):
    assert typed(root, *command(root), "--ceiling", "0.62").returncode == 0
    shards = root.parent / "shards"
    (root / "data" / "clickme").rename(shards)
    words = ["data", "import", "clickme", str(shards), "--workers", "1"]
    first, again = typed(root, *words), typed(root, *words)
    assert "\nceiling.yaml written: the human ceiling that came with the shards\n" in first.stdout, first.stderr
    assert again.returncode == 0, again.stderr
    assert "ceiling.yaml" not in again.stdout


def test_without_classes(root):
    (root / "data" / "classes.yaml").unlink()
    assert "data/classes.yaml is missing: import it first with `advalign data import classes`" in refused(root)
