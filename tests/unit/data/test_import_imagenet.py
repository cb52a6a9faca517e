"""Imports of ImageNet images and of the table of classes: the same bytes arrive with the right labels, or nothing."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from advalign.data.classes import Classes, ClassInfo, read_classes, write_classes
from advalign.data.imports.classes import import_classes
from advalign.data.imports.imagenet import import_imagenet
from advalign.errors import DataError, InputError
from advalign.files import Project
from tests.bare_project import bare_project
from tests.conftest import REPOSITORY
from tests.pipeline.conftest import run, typed

WNIDS = ("n01440764", "n02099601", "n04285008")
CLASSES = Classes(
    tuple(ClassInfo(k, wnid, f"class {k}", ("dog", None, "wheel")[k], k < 2) for k, wnid in enumerate(WNIDS))
)
TENCH, DOG, CAR = WNIDS
BUSY = np.kron(np.random.default_rng(2).integers(0, 256, (4, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8)


def encoded(number=0, kind="JPEG", mode="RGB", pixels=BUSY):
    buffer = io.BytesIO()
    Image.fromarray(np.roll(pixels, number, axis=1)).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def name(number):
    return f"ILSVRC2012_val_{number:08d}.JPEG"


@pytest.fixture
def project(tmp_path):
    return bare_project(tmp_path / "project", CLASSES)


@pytest.fixture
def images(tmp_path):
    """Three validation images, flat, the second grey."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (1, 2, 3):
        (folder / name(number)).write_bytes(encoded(number, mode="L" if number == 2 else "RGB"))
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(f"image,wnid\n{name(2)},{DOG}\n{name(1)},{CAR}\n{name(3)},{CAR}\n")
    return path


TABLE = f"image,wnid\n{name(1)},{CAR}\n{name(2)},{DOG}\n{name(3)},{CAR}\n"


def table(project):
    return (project.data / "imagenet" / "labels.csv").read_text()


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_flat_images_are_copied_and_labelled(project, images, labels, workers):
    done = import_imagenet(project, images, labels, workers=workers)
    val = project.data / "imagenet" / "val"
    assert listing(val) == [name(1), name(2), name(3)]
    assert all((val / name(k)).read_bytes() == (images / name(k)).read_bytes() for k in (1, 2, 3))
    assert not any((val / name(k)).samefile(images / name(k)) for k in (1, 2, 3))
    assert table(project) == TABLE
    assert (done.images, done.converted, done.skipped) == (3, 0, 0)
    assert done.classes == {1: 1, 2: 2}
    assert done.superclasses == {"wheel": 2}
    assert import_imagenet(project, images, labels, workers=1).skipped == 3


@pytest.mark.slow
@pytest.mark.parametrize(("link", "cache"), [(False, "copy"), (False, "hardlink"), (True, "copy")])
def test_what_was_imported_is_as_before_when_dvc_tracks_the_data(project, images, labels, link, cache):
    before = {file: (file.read_bytes(), file.stat().st_mode, file.stat().st_ino) for file in images.iterdir()}
    command = ("data", "import", "imagenet", str(images), "--labels", str(labels), "--workers", "1")
    done = typed(project.root, *command, *(["--link"] if link else []))
    assert done.returncode == 0, done.stderr
    assert ("`dvc add` replaces the links by copies" in done.stdout) == link
    for words in (("init", "--no-scm", "-q"), ("config", "cache.type", cache), ("add", "-q", "data")):
        assert run(project.root, "dvc", *words).returncode == 0
    assert {file: (file.read_bytes(), file.stat().st_mode, file.stat().st_ino) for file in images.iterdir()} == before
    val = project.data / "imagenet" / "val"
    assert not any((val / name(k)).samefile(images / name(k)) for k in (1, 2, 3))


def test_images_are_linked_on_request_and_links_of_earlier_imports_become_copies(project, images, labels):
    val = project.data / "imagenet" / "val"
    assert import_imagenet(project, images, labels, workers=1, link=True).skipped == 0
    assert all((val / name(k)).samefile(images / name(k)) for k in (1, 2, 3))
    assert import_imagenet(project, images, labels, workers=1, link=True).skipped == 3
    assert import_imagenet(project, images, labels, workers=1).skipped == 0
    assert not any((val / name(k)).samefile(images / name(k)) for k in (1, 2, 3))
    assert all((val / name(k)).read_bytes() == (images / name(k)).read_bytes() for k in (1, 2, 3))
    assert import_imagenet(project, images, labels, workers=1).skipped == 3


@pytest.mark.parametrize(
    "text",
    [
        f"ImageId,PredictionString\n{name(3)[:-5]},{CAR} 85 1 499 272 {DOG} 1 2 3 4 \n{name(1)[:-5]},{CAR} 0 0 9 9\n"
        f"{name(2)[:-5]},{DOG} 1 1 5 5\n",
        f"{name(1)} 2\n{name(2)} 1\n{name(3)} 2\n",
        f'"image","wnid"\n"{name(1)}","{CAR}"\n"{name(2)}","{DOG}"\n"{name(3)}","{CAR}"\n',
        f'\ufeff" image", wnid ,,\r\n{name(1)},{CAR},,\r\n{name(2)},{DOG},,\r\n{name(3)}, {CAR} ,,\r\n',
        f'"ImageId","PredictionString",\n{name(1)[:-5]},{CAR} 1 2 3 4,\n{name(2)[:-5]},{DOG},\n{name(3)[:-5]},{CAR},\n',
        f"\ufeffval/{name(1)} 2\nval/{name(2)} 1\nval/{name(3)} 2\n",
        f"{name(1)[:-5]}.jpeg 2\r\n{name(2)} 1\r\n\r\n{name(3)} 2",
    ],
)
def test_other_label_formats_give_the_same(project, images, labels, text):
    labels.write_text(text, encoding="utf-8")
    import_imagenet(project, images, labels, workers=1)
    assert table(project) == TABLE


def test_names_in_a_list_may_hold_spaces(project, images, labels):
    (images / name(3)).rename(images / "a car.JPEG")
    labels.write_text(f"{name(1)} 0\n{name(2)}\t1\nval/a car.JPEG  2\n")
    import_imagenet(project, images, labels, workers=1)
    assert table(project) == f"image,wnid\n{name(1)},{TENCH}\n{name(2)},{DOG}\na car.JPEG,{CAR}\n"


def test_a_list_without_label_0_is_suspected_to_count_from_1(project, images, labels, capsys):
    labels.write_text(f"{name(1)} 1\n{name(2)} 2\n{name(3)} 2\n")
    import_imagenet(project, images, labels, workers=1)
    said = f"{labels}: no label is 0, and labels count from 0: 1 is {DOG} (class 1); if they count from 1 there, "
    assert f"{said}subtract 1 from each" in capsys.readouterr().err
    labels.write_text(f"{name(1)} 0\n{name(2)} 2\n{name(3)} 2\n")
    import_imagenet(project, images, labels, workers=1, replace=True)
    assert "no label is 0" not in capsys.readouterr().err


def test_folders_named_by_wnid_are_labels(project, images):
    for number, wnid in ((1, CAR), (2, DOG), (3, CAR)):
        (images / wnid).mkdir(exist_ok=True)
        (images / name(number)).rename(images / wnid / name(number))
    import_imagenet(project, images, workers=1)
    assert listing(project.data / "imagenet" / "val") == [name(1), name(2), name(3)]
    assert table(project) == TABLE


def test_labels_and_folders_that_disagree_are_told(project, images, labels):
    (images / TENCH).mkdir()
    for number in (1, 2, 3):
        (images / name(number)).rename(images / TENCH / name(number))
    refused(project, images, labels, rf"{name(1)} is {CAR}, but is in {TENCH}")


def test_training_images_keep_their_folders(project, images):
    for number, wnid, called in ((1, CAR, "a.JPEG"), (2, DOG, "a.JPEG"), (3, CAR, "b.jpg")):
        (images / wnid).mkdir(exist_ok=True)
        (images / name(number)).rename(images / wnid / called)
    done = import_imagenet(project, images, split="train", workers=1)
    train = project.data / "imagenet" / "train"
    assert listing(train) == [DOG, CAR]
    assert (train / CAR / "b.jpg").read_bytes() == (images / CAR / "b.jpg").read_bytes()
    assert (train / DOG / "a.JPEG").read_bytes() == (images / DOG / "a.JPEG").read_bytes()
    assert done.classes == {1: 1, 2: 2}
    assert listing(project.data / "imagenet") == ["train"]


def refused(project, images, labels, told, **options):
    with pytest.raises(InputError, match=told) as caught:
        import_imagenet(project, images, labels, **({"workers": 1} | options))
    assert "\n" not in str(caught.value)
    assert not (project.data / "imagenet" / "labels.csv").exists()


CMYK = encoded(mode="CMYK")
SIXTEEN = io.BytesIO()
Image.fromarray((np.arange(1200).reshape(30, 40) * 50).astype(np.uint16)).save(SIXTEEN, "PNG")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (CMYK, "is CMYK, expected 8-bit JPEG in RGB or grey.*--convert"),
        (encoded(kind="PNG"), r"is a PNG \(RGB\), expected 8-bit JPEG"),
        (SIXTEEN.getvalue(), r"is a PNG \(I;16\), expected 8-bit JPEG"),
        (encoded()[:-300], r"cannot be decoded \(.*\): fetch it again"),
        (b"<html>404</html>", "cannot be decoded: it looks like a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "cannot be decoded: it looks like a Git LFS pointer.*git lfs pull",
        ),
        (b"RIFF1234WEBP", "cannot be decoded: it looks like a WebP image .*: convert it"),
        (b"\x01\x02", "cannot be decoded: it is neither JPEG nor PNG"),
        (b"", "cannot be decoded"),
    ],
)
def test_a_bad_image_is_named(project, images, labels, content, told):
    (images / name(2)).write_bytes(content)
    refused(project, images, labels, rf"^{images / name(2)} {told}")
    assert listing(project.data / "imagenet" / "val") == [name(1)]


def test_conversion_gives_rgb_jpeg_and_counts(project, images, labels):
    (images / name(1)).write_bytes(CMYK)
    (images / name(2)).write_bytes(SIXTEEN.getvalue())
    (images / name(3)).unlink()
    (images / name(3)).with_suffix(".PNG").write_bytes(encoded(kind="PNG", mode="RGBA"))
    done = import_imagenet(project, images, labels, convert=True, workers=1)
    assert (done.images, done.converted) == (3, 3)
    opened = [Image.open(project.data / "imagenet" / "val" / name(k)) for k in (1, 2, 3)]
    assert [(image.format, image.mode) for image in opened] == [("JPEG", "RGB")] * 3
    wanted = Image.open(io.BytesIO(CMYK)).convert("RGB")
    assert np.abs(np.asarray(opened[0]).astype(int) - np.asarray(wanted)).mean() < 2
    upper = np.arange(1200).reshape(30, 40) * 50 // 256
    assert np.abs(np.asarray(opened[1])[..., 0].astype(int) - upper).mean() < 2
    assert np.abs(np.asarray(opened[2]).astype(int) - BUSY).mean() < 2
    assert table(project) == TABLE
    before = [(project.data / "imagenet" / "val" / name(k)).stat().st_ino for k in (1, 2, 3)]
    import_imagenet(project, images, labels, convert=True, workers=1)
    assert [(project.data / "imagenet" / "val" / name(k)).stat().st_ino for k in (1, 2, 3)] == before
    assert (images / name(1)).read_bytes() == CMYK


def test_what_cannot_be_decoded_is_not_converted(project, images, labels):
    (images / name(2)).write_bytes(b"text")
    refused(project, images, labels, "cannot be decoded", convert=True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TABLE + f"{name(4)},{DOG}\n{name(5)},{DOG}\n", rf"{name(4)[:-5]} has no image in .* \(2 such\)"),
        (f"image,wnid\n{name(3)},{CAR}\n", rf"{name(1)} has no label in .* \(2 such\)"),
        (TABLE.replace(DOG, "n00000000"), rf"line 3: unknown wnid 'n00000000' for {name(2)!r}"),
        (TABLE + f"{name(1)},{CAR}\n", f"line 5: {name(1)!r} is in two lines"),
        (TABLE + f"{name(4)}\n", "line 5: 1 cells, the header has 2: fix that line"),
        (f"{name(1)} 3\n", r"line 1: label 3 is outside 0 \.\. 2"),
        (f"{name(1)} -1\n", "line 1: .* is no label"),
        ("490\n361\n", "line 1: '490' is no label, expected image,wnid"),
        ("", "no labels in it"),
        (TABLE.replace(DOG, f"{DOG} {CAR}"), f"line 3: expected image,wnid; got '{name(2)},{DOG} {CAR}': fix it"),
        (TABLE.replace("wnid", "class"), "line 1: 'image,class' is no header, expected image,wnid"),
        (TABLE.replace("wnid\n", "wnid,\n"), "line 2: 2 cells, the header has 3: fix that line"),
        ("<!DOCTYPE html>\n<p>sign in, please\n", "looks like a web page"),
        ("version https://git-lfs.github.com/spec/v1\n", "looks like a Git LFS pointer"),
    ],
)
def test_labels_that_do_not_fit_are_told_before_anything_is_brought_in(project, images, labels, text, told):
    labels.write_text(text)
    refused(project, images, labels, told)
    assert not (project.data / "imagenet").exists()


def test_wrong_calls_are_told(project, images, labels, tmp_path):
    refused(project, images, None, "is flat, so its images have no class: give --labels FILE")
    refused(project, images / "absent", labels, "is not a folder")
    refused(project, images, labels, "--labels is for the validation images", split="train")
    refused(project, images, tmp_path / "absent.csv", "absent.csv: cannot be read")
    (images / name(1)).with_suffix(".jpg").write_bytes(encoded())
    refused(project, images, labels, "differ only in the suffix")
    folders = tmp_path / "folders"
    (folders / "n99999999").mkdir(parents=True)
    refused(project, folders, None, "unknown wnid 'n99999999'")
    (folders / "n99999999").rmdir()
    refused(project, folders, None, "no images")
    for wnid in (DOG, CAR):
        (folders / wnid).mkdir()
        (folders / wnid / name(1)).write_bytes(encoded())
    refused(project, folders, None, f"{name(1)[:-5]} is in 2 folders")
    (project.data / "classes.yaml").unlink()
    refused(project, images, labels, "advalign data import classes")


def test_other_content_is_kept_unless_replaced(project, images, labels):
    import_imagenet(project, images, labels, workers=1)
    val = project.data / "imagenet" / "val"
    old = (val / name(1)).read_bytes()
    (images / name(1)).unlink()
    (images / name(1)).write_bytes(encoded(17))
    with pytest.raises(DataError, match=f"{name(1)} exists with other content"):
        import_imagenet(project, images, labels, workers=1)
    assert (val / name(1)).read_bytes() == old
    import_imagenet(project, images, labels, workers=1, replace=True)
    assert (val / name(1)).read_bytes() == encoded(17)
    labels.write_text(TABLE.replace(DOG, TENCH))
    with pytest.raises(DataError, match=rf"labels\.csv says {DOG} of {name(2)}, not {TENCH}"):
        import_imagenet(project, images, labels, workers=1)
    assert table(project) == TABLE


def test_a_second_import_adds_and_labels_of_other_classes_stay_apart(project, images, labels, tmp_path):
    import_imagenet(project, images, labels, workers=1)
    more = tmp_path / "more"
    (more / TENCH).mkdir(parents=True)
    (more / TENCH / "extra.jpg").write_bytes(encoded(9))
    import_imagenet(project, more, workers=1)
    assert table(project) == TABLE + f"extra.jpg,{TENCH}\n"
    (project.data / "imagenet" / "labels.csv").write_text("image,wnid\nother.JPEG,n90000001\n")
    with pytest.raises(DataError, match="of another set of classes"):
        import_imagenet(project, images, labels, workers=1)


def test_images_already_in_place_are_verified(project, labels, images):
    val = project.data / "imagenet" / "val"
    val.parent.mkdir()
    images.rename(val)
    import_imagenet(project, val, labels, workers=1)
    assert table(project) == TABLE
    (val / name(2)).write_bytes(b"text")
    with pytest.raises(DataError, match="cannot be decoded"):
        import_imagenet(project, val, labels, workers=1)


def test_killed_in_the_middle_it_goes_on(project, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    pixels = np.kron(np.random.default_rng(0).integers(0, 256, (60, 60, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    wanted = {}
    for number in range(1, 161):
        wanted[name(number)] = encoded(number, pixels=pixels)
        (folder / name(number)).write_bytes(wanted[name(number)])
    labels = tmp_path / "val.txt"
    labels.write_text("".join(f"{name(number)} {number % 3}\n" for number in range(1, 161)))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1"}
    program = [sys.executable, "-m", "advalign.cli.main", "data", "import", "imagenet", folder, "--labels", labels]
    program += ["--workers", "1", "--json"]
    val = project.data / "imagenet" / "val"
    process = subprocess.Popen(program, cwd=project.root, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None and len(list(val.glob("ILSVRC*"))) <= 20:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 20 < len(listing(val)) < 160
    assert listing(project.data / "imagenet") == ["val"]
    (val / f".{name(160)}.7.tmp").write_bytes(b"leftover")
    done = subprocess.run(program, cwd=project.root, env=environment, check=True, stdout=subprocess.PIPE)
    assert 20 < json.loads(done.stdout)["skipped"] < 160
    assert {path.name: path.read_bytes() for path in val.iterdir()} == wanted
    assert table(project) == "image,wnid\n" + "".join(f"{name(k)},{WNIDS[k % 3]}\n" for k in range(1, 161))


def test_classes_are_copied_once_they_read_as_such(tmp_path):
    project = Project(tmp_path / "project")
    (tmp_path / "mine.yaml").write_text("# mine\n0: {wnid: n1, name: a, superclass: dog, animate: true}\n")
    assert len(import_classes(project, tmp_path / "mine.yaml")) == 1
    assert (project.data / "classes.yaml").read_bytes() == (tmp_path / "mine.yaml").read_bytes()
    import_classes(project, tmp_path / "mine.yaml")
    write_classes(tmp_path / "other.yaml", CLASSES)
    with pytest.raises(DataError, match="move data/ away first, or give --replace"):
        import_classes(project, tmp_path / "other.yaml")
    assert len(read_classes(project.data / "classes.yaml")) == 1
    import_classes(project, tmp_path / "other.yaml", replace=True)
    assert read_classes(project.data / "classes.yaml") == CLASSES
    (tmp_path / "other.yaml").write_text("0: [1]")
    with pytest.raises(DataError, match=r"other.yaml: line 1: \[1\] is not a class: write"):
        import_classes(project, tmp_path / "other.yaml", replace=True)
    assert read_classes(project.data / "classes.yaml") == CLASSES
    with pytest.raises(DataError, match=r"registry/imagenet\.yaml is missing"):
        import_classes(project)


@pytest.mark.skipif(not (REPOSITORY / "registry" / "imagenet.yaml").is_file(), reason="no registry/imagenet.yaml")
def test_the_projects_own_classes_are_those_of_imagenet(tmp_path):
    (tmp_path / "registry").symlink_to(REPOSITORY / "registry")
    classes = import_classes(Project(tmp_path))
    assert len(classes) == 1000
    assert [entry.wnid for entry in classes.entries] == sorted(entry.wnid for entry in classes.entries)
    assert (classes[0].wnid, classes[999].wnid) == ("n01440764", "n15075141")
    assert sum(classes.decision_of_class) == 398
