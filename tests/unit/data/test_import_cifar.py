"""Imports of 32x32 images: every pixel and label arrives as it was, or one line says why nothing did."""

import io
import json
import os
import pickle
import re
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from advalign.data.cifar import CifarImage, read_split, write_split
from advalign.data.classes import Classes, ClassInfo, read_classes, write_classes
from advalign.data.imports._batches import read_batch
from advalign.data.imports.cifar import Masks, import_cifar
from advalign.errors import DataError, InputError
from tests.bare_project import bare_project
from tests.conftest import REFERENCE, REPOSITORY
from tests.pipeline.conftest import typed

NAMES = ("airplane", "automobile", "bird")
CLASSES = Classes(tuple(ClassInfo(k, f"n0000000{k}", name, None, k == 2) for k, name in enumerate(NAMES)))
RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
LABELS = [0, 1, 2, 2, 1, 0, 1, 1, 0, 2, 2, 0]
PICTURE = Image.fromarray(IMAGES[0])


@pytest.fixture
def project(tmp_path):
    return bare_project(tmp_path / "project", CLASSES)


def as_python_2(values):
    """Pickle as Python 2 wrote the official files: protocol 2, texts and array bytes as its 8-bit strings."""

    class Python2(pickle._Pickler):
        def save_str(self, text):
            self._short(text.encode("latin1"), text)

        def save_bytes(self, content):
            self._short(content, content)

        def _short(self, content, remembered):
            size = len(content)
            head = (
                pickle.SHORT_BINSTRING + bytes([size]) if size < 256 else pickle.BINSTRING + size.to_bytes(4, "little")
            )
            self.write(head + content)
            self.memoize(remembered)

        dispatch: ClassVar[dict] = {**pickle._Pickler.dispatch, str: save_str, bytes: save_bytes}

    buffer = io.BytesIO()
    Python2(buffer, protocol=2).dump(values)
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def batch(rows, number=1, of=2, kind="training", **changed):
    data = IMAGES[rows].transpose(0, 3, 1, 2).reshape(-1, 3072)
    names = [f"image_{row}.png" for row in range(len(data))]
    return {
        "batch_label": f"{kind} batch {number} of {of}",
        "labels": LABELS[rows],
        "data": data.copy(),
        "filenames": names,
    } | changed


PICKLED = {
    "python 2": as_python_2,
    "protocol 2": lambda values: pickle.dumps(values, protocol=2),
    "protocol 4, bytes as keys": lambda values: pickle.dumps({k.encode(): v for k, v in values.items()}, protocol=4),
}


@pytest.fixture
def official(tmp_path):
    """A folder like cifar-10-batches-py, of eight training and four test images."""
    return official_in(tmp_path / "cifar-10-batches-py", as_python_2)


def official_in(folder, dumps):
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(dumps(batch(slice(0, 4), 1)))
    (folder / "data_batch_2").write_bytes(dumps(batch(slice(4, 8), 2)))
    (folder / "test_batch").write_bytes(dumps(batch(slice(8, 12), 1, 1, "testing")))
    (folder / "batches.meta").write_bytes(dumps({"label_names": list(NAMES), "num_vis": 3072}))
    (folder / "readme.html").write_text("<a href>")
    return folder


def held(project, split):
    return read_split(project.data / "cifar" / f"{split}.parquet", len(CLASSES))


def pixels(found):
    return (found.pixels(0, len(found)) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def content(project):
    return {path.name: path.read_bytes() for path in sorted((project.data / "cifar").glob("*"))}


@pytest.mark.parametrize("dumps", PICKLED.values(), ids=PICKLED)
def test_batches_arrive_pixel_by_pixel_in_the_official_order(project, tmp_path, dumps):
    done = import_cifar(project, [official_in(tmp_path / "batches", dumps)])
    for split, rows in (("train", slice(0, 8)), ("test", slice(8, 12))):
        found = held(project, split)
        assert np.array_equal(pixels(found), IMAGES[rows])
        assert found.table["label"].tolist() == LABELS[rows]
        assert found.table["index"].tolist() == list(range(len(LABELS[rows])))
        assert not found.table["lossy"].any()
    assert [(one.split, one.images, one.skipped) for one in done.splits] == [("train", 8, False), ("test", 4, False)]
    assert done.splits[1].classes == {0: 2, 2: 2}


def test_python_2_pickles_are_like_the_official_ones(official):
    """They begin as data_batch_1 of CIFAR-10 begins, and numpy reads them."""
    whole = (official / "data_batch_1").read_bytes()
    assert whole.startswith(b"\x80\x02}q")
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in whole
    assert b"_codecs" not in whole
    plain = pickle.loads(whole.replace(b"cnumpy.core.", b"cnumpy._core."), encoding="latin1")  # noqa: S301
    assert np.array_equal(plain["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), IMAGES[:4])


def test_a_second_import_changes_nothing_and_says_so(project, official):
    import_cifar(project, [official])
    before = content(project)
    assert all(one.skipped for one in import_cifar(project, [official]).splits)
    assert content(project) == before
    assert all(one.skipped for one in import_cifar(project, [official], split="test").splits)


def test_other_content_is_replaced_on_request_only_and_then_both_splits(project, official):
    import_cifar(project, [official])
    before = content(project)
    (official / "data_batch_2").write_bytes(as_python_2(batch(slice(3, 7), 2)))
    with pytest.raises(DataError, match=r"train\.parquet exists with other content: move it away, or give --replace"):
        import_cifar(project, [official])
    (official / "test_batch").write_bytes(as_python_2(batch(slice(7, 11), 1, 1, "testing")))
    with pytest.raises(DataError, match="give --replace"):
        import_cifar(project, [official])
    assert content(project) == before
    import_cifar(project, [official], replace=True)
    assert np.array_equal(pixels(held(project, "test")), IMAGES[7:11])


def test_a_split_that_is_refused_keeps_the_other_one_out(project, official):
    import_cifar(project, [official], split="train")
    before = content(project)
    (official / "data_batch_2").write_bytes(as_python_2(batch(slice(3, 7), 2)))
    with pytest.raises(DataError, match=r"train\.parquet exists with other content"):
        import_cifar(project, [official])
    assert content(project) == before


class Harmful:
    """Writes a file when it is unpickled by plain pickle."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def refused(project, sources, told, **options):
    before = content(project)
    with pytest.raises(InputError, match=told) as caught:
        import_cifar(project, sources, **options)
    assert "\n" not in str(caught.value)
    assert content(project) == before


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(project, official, tmp_path):
    target = tmp_path / "made"
    (official / "test_batch").write_bytes(as_python_2(batch(slice(8, 12), 1, 1, filenames=[Harmful(str(target))])))
    refused(project, [official], r"test_batch names '\w+\.mkdir', which no batch of CIFAR needs: it may run code")
    assert not target.exists()
    assert not (project.data / "cifar").exists()


def damaged():
    sound, objects = as_python_2(batch(slice(8, 12), 1, 1, "testing")), np.array([None, 1], object)
    yield "cut short", sound[:-700], "is damaged, or no pickle"
    yield "empty", b"", "is empty"
    yield "packed", b"\x1f\x8b\x08\x00" + sound, "looks like gzip data: unpack it"
    yield "web page", b"<html><body>login</body></html>", "looks like a web page"
    yield "a list", as_python_2([1, 2]), "holds a list, expected a dictionary"
    yield "objects in the array", as_python_2(batch(slice(8, 12), data=objects)), "data is no array of N x 3072 bytes"
    wide = as_python_2(batch(slice(8, 12), 1, 1, data=np.zeros((4, 3073), np.uint8)))
    yield "another width", wide, "no array of N x 3072 bytes"
    yield "a label too few", as_python_2(batch(slice(8, 12), 1, 1, labels=[0, 1, 2])), "4 images and 3 labels"
    yield (
        "a label of no class",
        as_python_2(batch(slice(8, 12), 1, 1, labels=[0, 1, 2, 3])),
        "image 3: label 3 is none of",
    )
    yield "true as a label", as_python_2(batch(slice(8, 12), 1, 1, labels=[0, 1, 2, True])), "list of integers"
    fine = as_python_2(batch(slice(8, 12), 1, 1, labels=None, fine_labels=[0, 1, 2, 0]))
    yield "no labels", fine, "labels is NoneType, expected a list of integers"
    yield "another batch", as_python_2(batch(slice(8, 12), 2, 5)), "says that it is batch 2 of 5, expected 1 of 1"
    yield "no batch label", as_python_2(batch(slice(8, 12), batch_label="x")), "batch_label is 'x', expected"


@pytest.mark.parametrize(("content_", "told"), [one[1:] for one in damaged()], ids=[one[0] for one in damaged()])
def test_a_damaged_batch_is_named_and_no_split_is_written(project, official, content_, told):
    (official / "test_batch").write_bytes(content_)
    refused(project, [official], f"^[^\n]*{re.escape(str(official / 'test_batch'))}.*{told}")
    assert not (project.data / "cifar").exists()


def test_no_flipped_bit_raises_anything_but_one_line(official):
    sound = (official / "data_batch_1").read_bytes()
    rng, kept = np.random.default_rng(0), 0
    for place in [*range(300), *rng.integers(300, len(sound), 100)]:
        damaged_one = bytearray(sound)
        damaged_one[place] ^= 1 << int(rng.integers(8))
        (official / "data_batch_1").write_bytes(damaged_one)
        try:
            read_batch(official / "data_batch_1")
            kept += 1
        except DataError as error:
            assert "\n" not in str(error)
    assert 0 < kept < 400  # a flipped pixel is a sound file


def test_a_batch_that_is_missing_or_misnamed_is_noticed(project, official):
    (official / "data_batch_1").rename(official / "elsewhere")
    refused(project, [official], "data_batch_2 says that it is batch 2 of 2, expected 1 of 1: fetch all batches")
    (official / "data_batch_2").rename(official / "data_batch_1")
    (official / "elsewhere").rename(official / "data_batch_2")
    refused(project, [official], "data_batch_1 says that it is batch 2 of 2, expected 1 of 2")


def test_other_classes_than_those_of_the_project_are_refused(project, official):
    (official / "batches.meta").write_bytes(as_python_2({"label_names": ["cat", "dog", "ship"]}))
    refused(project, [official], r"classes are 'cat, dog, ship', data/classes.yaml has 'airplane, automobile, bird'")


def sheet(path, rows, mode="RGB"):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(IMAGES[rows].reshape(-1, 1024, 3)).convert(mode).save(path)
    return path


@pytest.mark.parametrize("text", [json.dumps(LABELS[:10]), "\n".join(map(str, LABELS[:10]))])
def test_sheets_are_read_row_by_row_in_the_order_of_their_numbers(project, tmp_path, text):
    sheets = [sheet(tmp_path / f"data_batch_{k}.png", rows) for k, rows in ((10, slice(8, 10)), (2, slice(0, 8)))]
    (tmp_path / "labels.json").write_text(text)
    import_cifar(project, sheets, split="train", labels=tmp_path / "labels.json")
    found = held(project, "train")
    assert np.array_equal(pixels(found), IMAGES[:10])
    assert found.table["label"].tolist() == LABELS[:10]


@pytest.mark.parametrize(
    ("mode", "text", "options", "told"),
    [
        ("RGB", "[0, 1, 2]", {}, "has 3 labels for 4 rows in 1 sheets"),
        ("RGB", "[0, 1, 2, 3]", {}, "entry 3: label 3 is none of 0 .. 2"),
        ("RGB", "0\n1\n2\nbird", {}, "entry 3: label 'bird' is none of"),
        ("RGB", "[0, 1, 2, [1]]", {}, r"entry 3: label \[1\] is none of"),
        ("RGBA", "[0, 1, 2, 1]", {}, r"is a PNG \(RGBA\) of 1024x4, expected a PNG in RGB"),
        ("RGB", "[0, 1, 2, 1]", {"split": None}, "sheets may be train or test images: give --split"),
        ("RGB", "[0, 1, 2, 1]", {"labels": None}, "PNG sheets have no labels: give --labels FILE"),
    ],
)
def test_bad_sheets(project, tmp_path, mode, text, options, told):
    path = sheet(tmp_path / "sheets" / "test.png", slice(0, 4), mode)
    (tmp_path / "labels.json").write_text(text)
    refused(project, [path], told, **({"split": "test", "labels": tmp_path / "labels.json"} | options))


def folders(root, kind="PNG", called="{}_{}.png"):
    for row, label in enumerate(LABELS):
        folder = root / NAMES[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[row]).save(folder / called.format(100 - row, NAMES[label]), kind)
    return root


def test_folders_of_classes_are_ordered_by_the_numbers_in_their_names(project, tmp_path):
    done = import_cifar(project, [folders(tmp_path / "images")], split="test")
    found = held(project, "test")
    assert found.table["index"].tolist() == list(range(89, 101))
    assert np.array_equal(pixels(found), IMAGES[::-1])
    assert found.table["label"].tolist() == LABELS[::-1]
    assert done.lossy == 0


def test_jpeg_images_are_tagged_and_it_is_said(project, tmp_path):
    root = folders(tmp_path / "images" / "test", "JPEG", "{}.jpg")
    Image.fromarray(IMAGES[0]).save(root / "bird" / "7.png")
    done = typed(project.root, "data", "import", "cifar", str(tmp_path / "images"))
    assert done.returncode == 0, done.stderr
    assert "12 images are JPEG, and are tagged lossy: their pixels are not the official ones" in done.stderr
    found = held(project, "test")
    assert found.table["lossy"].tolist() == [False] + [True] * 12  # 7.png is first
    with Image.open(root / "automobile" / "99.jpg") as image:
        row = found.table["index"].tolist().index(99)
        assert np.array_equal(pixels(found)[row], np.asarray(image))


def test_train_and_test_folders_are_both_imported(project, tmp_path):
    folders(tmp_path / "images" / "train")
    folders(tmp_path / "images" / "test", called="a{}_{}.png")  # no numbers: class by class
    done = import_cifar(project, [tmp_path / "images"])
    assert [one.split for one in done.splits] == ["train", "test"]
    assert held(project, "test").table["label"].tolist() == sorted(LABELS)
    assert held(project, "test").table["index"].tolist() == list(range(12))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda root: Image.fromarray(IMAGES[0]).resize((64, 64)).save(root / "bird" / "x.png"),
            "RGB of 64x64, expected",
        ),
        (
            lambda root: Image.fromarray(IMAGES[0]).convert("L").save(root / "bird" / "x.png"),
            "is L of 32x32, expected RGB",
        ),
        (lambda root: (root / "bird" / "x.png").write_bytes(b"no image"), "x.png cannot be decoded"),
        (lambda root: (root / "ostrich").mkdir(), "no class 'ostrich' in data/classes.yaml"),
    ],
)
def test_bad_folders(project, tmp_path, spoil, told):
    root = folders(tmp_path / "images")
    spoil(root)
    refused(project, [root], told, split="test")


def mask(folder, index, values):
    folder.mkdir(exist_ok=True)
    Image.fromarray(values).save(folder / f"{index}.png")


def test_masks_of_users_arrive_and_those_of_a_model_are_named_so(project, official, tmp_path):
    square = np.zeros((32, 32), np.uint8)
    square[4:9, 7:20] = 255
    mask(tmp_path / "masks", "0003", square)
    for source in ("user", "own-cam"):
        masks = Masks(tmp_path / "masks", source)
        import_cifar(project, [official], split="test", masks=masks, replace=True)
        found = held(project, "test")
        assert found.table["mask_source"].tolist() == ["", "", "", source]
        assert np.array_equal(found.masks(0, 4)[3].numpy(), square == 255)
        assert not found.masks(0, 3).any()
        assert found.has_fair_mask.tolist() == [False] * 3 + [source == "user"]


@pytest.mark.parametrize(
    ("index", "values", "told"),
    [
        ("4", np.eye(32, dtype=np.uint8) * 255, "no image has the index '4'"),
        ("cat", np.eye(32, dtype=np.uint8) * 255, "no image has the index 'cat'"),
        ("1", np.eye(32, dtype=np.uint8) * 200, "has the value 200, expected 0 and 255 only"),
        ("1", np.zeros((32, 32), np.uint8), "is the same everywhere"),
        ("1", np.eye(16, dtype=np.uint8) * 255, "is L of 16x16, expected L of 32x32"),
    ],
)
def test_bad_masks(project, official, tmp_path, index, values, told):
    mask(tmp_path / "masks", index, values)
    refused(project, [official], told, split="test", masks=Masks(tmp_path / "masks", "user"))


def test_masks_need_one_split(project, official, tmp_path):
    mask(tmp_path / "masks", "1", np.eye(32, dtype=np.uint8) * 255)
    refused(project, [official], "--masks are of one split", masks=Masks(tmp_path / "masks", "user"))


def test_what_is_no_source_is_refused(project, official, tmp_path):
    refused(project, [official / "test_batch"], "name PNG sheets, or one folder")
    refused(project, [tmp_path / "absent"], "absent cannot be read")
    refused(project, [official], "--labels is for PNG sheets", labels=tmp_path / "x")
    (tmp_path / "nothing").mkdir()
    refused(project, [tmp_path / "nothing"], "no batches, no PNG sheets, no folders of images", split="test")
    (official / "test_batch").unlink()
    refused(project, [official], "has no test images: give --split train", split="test")


def test_bad_input_at_the_command_line_is_one_line(project, official):
    (official / "test_batch").write_bytes(b"no pickle")
    done = typed(project.root, "data", "import", "cifar", str(official))
    assert done.returncode == 2
    told = [line for line in done.stderr.splitlines() if not line.startswith("importing")]
    assert len(told) == 1
    assert told[0].startswith(f"advalign: error: {official / 'test_batch'} looks like text ('no pickle' ...): perhaps")


def test_the_table_of_cifar_10s_classes_is_in_the_official_order():
    table = read_classes(REPOSITORY / "registry" / "cifar10.yaml")
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    assert [entry.name for entry in table.entries] == names.split()
    assert table.decision_of_class == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]


@pytest.mark.skipif(not (REFERENCE / "cifar").is_dir(), reason="the real images are not here")
def test_real_images_arrive_without_loss(project, tmp_path):
    with np.load(REFERENCE / "cifar" / "first1000_test_images.npz") as real:
        images, labels = real["images"], real["labels"].tolist()
    write_classes(project.data / "classes.yaml", read_classes(REPOSITORY / "registry" / "cifar10.yaml"))
    (tmp_path / "real").mkdir()
    content_ = {
        "batch_label": "testing batch 1 of 1", "labels": labels, "data": images.reshape(-1, 3072), "filenames": [],
    }  # fmt: skip
    (tmp_path / "real" / "test_batch").write_bytes(as_python_2(content_))
    import_cifar(project, [tmp_path / "real"])
    found = read_split(project.data / "cifar" / "test.parquet", 10)
    assert torch.equal((found.pixels(0, 1000) * 255).round().byte(), torch.from_numpy(images))
    assert found.table["label"].tolist() == labels


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"label": 3}, "row 1: label is 3, expected 0 .. 2"),
        ({"index": 0}, "row 1: index is 0, expected distinct, from 0"),
        ({"mask_source": "user"}, "row 1: mask_source is user, expected null exactly where mask is"),
        ({"mask_source": "guess", "mask": IMAGES[0, ..., 0] > 9}, "mask_source is guess, expected one of generator"),
        ({"cue": 7}, "cue is 7.0, expected null or 0 .. 2"),
    ],
)
def test_a_file_with_values_that_cannot_be_is_refused(tmp_path, change, told):
    rows = [{"index": k, "label": LABELS[k], "pixels": IMAGES[k]} for k in range(2)]
    write_split(tmp_path / "test.parquet", [CifarImage(**rows[0]), CifarImage(**(rows[1] | change))])
    with pytest.raises(DataError, match=re.escape(told)):
        read_split(tmp_path / "test.parquet", 3)


def test_a_file_of_another_schema_is_refused(tmp_path):
    import pandas as pd

    pd.DataFrame({"image": [b"x"], "label": [0]}).to_parquet(tmp_path / "test.parquet")
    with pytest.raises(DataError, match="columns are 'image binary, label int64', expected index int64, label int64"):
        read_split(tmp_path / "test.parquet", 3)
    (tmp_path / "test.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"looks like a Git LFS pointer"):
        read_split(tmp_path / "test.parquet", 3)
