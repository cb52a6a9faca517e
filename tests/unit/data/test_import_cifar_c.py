"""CIFAR-10-C's official arrays arrive as they are, or one line says why nothing did."""

import numpy as np
import pytest
import torch

from advalign.data.cifar import CifarImage, write_split
from advalign.data.classes import Classes, ClassInfo
from advalign.data.imports.cifar_c import import_cifar_c
from advalign.data.sets.cifar_c import CifarC
from advalign.errors import DataError
from advalign.tensors.corruptions.constants import CONDITIONS
from tests.bare_project import bare_project
from tests.conftest import write_cifar_c
from tests.pipeline.conftest import typed

CLASSES = Classes(tuple(ClassInfo(k, f"n0000000{k}", name, None, False) for k, name in enumerate("abc")))
LABELS = np.array([2, 0, 1, 1])
PIXELS = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)


@pytest.fixture
def project(tmp_path):
    project = bare_project(tmp_path / "project", CLASSES)
    (project.data / "cifar").mkdir()
    images = [CifarImage(k, label, PIXELS[k]) for k, label in enumerate(LABELS.tolist())]
    write_split(project.data / "cifar" / "test.parquet", images)
    return project


@pytest.fixture
def official(tmp_path):
    return write_cifar_c(tmp_path / "CIFAR-10-C", LABELS)


def test_the_set_reads_each_image_at_each_severity(project, official):
    done = import_cifar_c(project, official)
    assert (done.arrays, done.images, done.skipped) == (19, 4, 0)
    items = CifarC.open(project, CLASSES).items(1, 3, seed=0)
    assert items.extras["corrupted"].shape == (2, 95, 3, 32, 32)
    for place, (name, severity) in enumerate(CONDITIONS):
        array = np.load(official / f"{name}.npy")
        for member in range(2):
            wanted = array[(severity - 1) * 4 + 1 + member].transpose(2, 0, 1)  # severity 1 first, then all of 2, ...
            assert np.array_equal(items.extras["corrupted"][member, place], wanted), (name, severity)
    assert items.labels.tolist() == [0, 1]
    assert torch.equal(
        items.pixels(lambda _: torch.empty(0))[0] * 255, torch.tensor(PIXELS[1]).permute(2, 0, 1).float()
    )


def test_an_edited_array_is_another_set(project, official):
    import_cifar_c(project, official)
    before = CifarC.open(project, CLASSES).digest
    array = np.load(project.data / "cifar" / "corruptions" / "fog.npy")
    array[7, 3, 3, 0] ^= 1
    np.save(project.data / "cifar" / "corruptions" / "fog.npy", array)
    assert CifarC.open(project, CLASSES).digest != before


def test_again_skips_and_another_content_needs_replace(project, official):
    import_cifar_c(project, official)
    assert import_cifar_c(project, official).skipped == 20
    write_cifar_c(official, LABELS, seed=8)
    with pytest.raises(DataError, match=r"gaussian_noise.npy exists with other content: move it away"):
        import_cifar_c(project, official)
    assert import_cifar_c(project, official, replace=True).skipped == 1
    assert np.array_equal(
        np.load(project.data / "cifar" / "corruptions" / "frost.npy"), np.load(official / "frost.npy")
    )


BAD = {
    "missing array": (lambda f: (f / "fog.npy").unlink(), r"fog.npy is not in it, expected 19 arrays and labels.npy"),
    "no labels": (lambda f: (f / "labels.npy").unlink(), r"labels.npy is not in it"),
    "missing severity": (
        lambda f: np.save(f / "snow.npy", np.load(f / "snow.npy")[:16]),
        r"snow.npy: 16 images, which is 4 severities of 5, expected 20: 4 at each of 5 severities: fetch",
    ),
    "cut short": (
        lambda f: np.save(f / "snow.npy", np.load(f / "snow.npy")[:17]),
        r"snow.npy: 17 images, expected 20",
    ),
    "floats": (
        lambda f: np.save(f / "frost.npy", np.load(f / "frost.npy") / 255),
        r"frost.npy: float64 \(20, 32, 32, 3\), expected uint8 \(20, 32, 32, 3\)",
    ),
    "channels first": (
        lambda f: np.save(f / "frost.npy", np.load(f / "frost.npy").transpose(0, 3, 1, 2)),
        r"frost.npy: uint8 \(20, 3, 32, 32\), expected",
    ),
    "other labels": (
        lambda f: np.save(f / "labels.npy", np.roll(np.load(f / "labels.npy"), 1)),
        r"labels.npy: uint8 \(20,\) are not 5 times the 4 labels of data/cifar/test.parquet",
    ),
    "no array": (lambda f: (f / "contrast.npy").write_bytes(b"not an array"), r"contrast.npy is no array of numpy"),
    "objects": (
        lambda f: np.save(f / "contrast.npy", np.array([{}], dtype=object), allow_pickle=True),
        r"contrast.npy is no array of numpy",
    ),
    "archive": (
        lambda f: np.savez(f / "fog.npz", a=np.zeros(3)) or (f / "fog.npz").rename(f / "fog.npy"),
        r"fog.npy is an archive of arrays",
    ),
    "folder": (lambda f: (f / "fog.npy").unlink() or (f / "fog.npy").mkdir(), r"fog.npy"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_folders_are_refused_in_one_line(project, official, what):
    change, message = BAD[what]
    change(official)
    with pytest.raises(DataError, match=message) as told:
        import_cifar_c(project, official)
    assert "\n" not in str(told.value)
    assert not (project.data / "cifar" / "corruptions").exists()


def test_the_command_and_its_refusals(project, official, tmp_path):
    done = typed(project.root, "data", "import", "cifar-c", str(official))
    assert done.returncode == 0, done.stderr
    assert "19 arrays of 4 images at 5 severities in data/cifar/corruptions" in done.stdout
    refused = typed(project.root, "data", "import", "cifar-c", str(tmp_path / "nowhere"))
    assert refused.returncode == 2
    assert "is not a folder: name the one that holds the arrays" in refused.stderr
    (project.data / "cifar" / "test.parquet").unlink()
    refused = typed(project.root, "data", "import", "cifar-c", str(official))
    assert refused.returncode == 2
    assert "import CIFAR-10 first with `advalign data import cifar`" in refused.stderr
