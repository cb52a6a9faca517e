"""ClickMe imports: what is read back equals what was written by an independent writer, and refusals change nothing."""

import csv
import errno
import fcntl
import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from advalign.data.classes import Classes, ClassInfo
from advalign.data.clickme import image_digests, read_clickme, read_human_ceiling
from advalign.data.imports import _sources
from advalign.data.imports.clickme import import_clickme
from advalign.data.tfrecord import read_payloads, write_payloads
from advalign.errors import DataError, InputError
from advalign.files import Project
from tests.bare_project import bare_project
from tests.conftest import REPOSITORY
from tests.foreign import drawn, encoded, example, raw, shard

RNG = np.random.default_rng(5)
CLASSES = Classes(
    tuple(ClassInfo(k, f"n{k:08d}", f"class {k}", ("dog", "bird", None)[k % 3], k % 2 == 0) for k in range(10))
)


def jpeg(label=3, seed=0, **replaced):
    image, heatmap = drawn(32, seed)
    return example(**{"image": encoded(image), "heatmap": encoded(heatmap), "label": label} | replaced)


@pytest.fixture
def project(tmp_path):
    return bare_project(tmp_path / "project", CLASSES)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def read_back(project, name):
    return list(read_clickme([project.data / "clickme" / name], len(CLASSES)))


def listing(project):
    return sorted(path.name for path in (project.data / "clickme").glob("*"))


def test_float32_256_is_read_back_exactly(project, source):
    image, heatmap = drawn(256)
    wave = np.where(image % 2 == 0, 0.25, -0.25) * ((image > 0) & (image < 255))  # rounds away
    other = drawn(256, 1)
    path = shard(
        source / "clickme_test.tfrecords",
        raw(image + wave, heatmap * 0.5 - 7, 4, click_count=31),
        raw(other[0] / 255, other[1] * 1e-6, 9, click_count=2),
    )
    done = import_clickme(project, [path], workers=1)
    first, second = read_back(project, "test-clickme_test.tfrecords")
    assert np.array_equal(first.image, image)
    assert np.array_equal(first.heatmap, heatmap)
    assert np.array_equal(second.image, other[0])
    assert np.array_equal(second.heatmap, other[1])
    assert (first.heatmap.min(), first.heatmap.max()) == (0, 255)
    assert (first.label, second.label) == (4, 9)
    assert (done.records, done.repeated, done.classes) == (2, 0, {4: 1, 9: 1})
    assert done.superclasses == {"bird": 1, "dog": 1}


def test_float32_224_without_click_count(project, source):
    image, heatmap = drawn(224)
    path = shard(source / "val.tfrecords", raw(image, heatmap / 255, 0), raw(image, 255.0 - heatmap, 1))
    done = import_clickme(project, [path], workers=1)
    first, second = read_back(project, "val-val.tfrecords")
    assert np.array_equal(first.image, image)
    assert np.array_equal(first.heatmap, heatmap)
    assert np.array_equal(second.heatmap, 255 - heatmap)
    assert done.shards[0].row.schema == "float32-224"
    assert done.repeated == 1


def test_a_map_of_any_range_spans_all_levels(project, source):
    image, _ = drawn(224)
    ramp = np.linspace(-2.5, 40.0, 224 * 224).reshape(224, 224)
    huge = np.where(ramp > 0, 3e38, -3e38)  # float32 could not hold the difference
    import_clickme(project, [shard(source / "test.tfrecords", raw(image, ramp, 0), raw(image, huge, 0))], workers=1)
    first, second = read_back(project, "test-test.tfrecords")
    assert np.array_equal(first.heatmap.ravel(), np.round(np.arange(224 * 224) / (224 * 224 - 1) * 255))
    assert np.array_equal(second.heatmap, np.where(ramp > 0, 255, 0))


def test_a_jpeg_shard_is_copied_as_it_is(project, source):
    path = shard(source / "test-00001.tfrecords", jpeg(3), jpeg(3, seed=1), jpeg(5))
    done = import_clickme(project, [path], workers=1)
    target = project.data / "clickme" / "test-00001.tfrecords"
    assert target.stat().st_nlink == path.stat().st_nlink == 1
    assert target.read_bytes() == path.read_bytes()
    assert [record.label for record in read_back(project, target.name)] == [3, 3, 5]
    assert (done.records, done.repeated, done.classes) == (3, 1, {3: 2, 5: 1})
    with (project.data / "clickme" / "imported.csv").open() as file:
        assert list(csv.DictReader(file)) == [
            {
                "file": target.name,
                "source": path.name,
                "source_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "schema": "jpeg",
                "records": "3",
            }
        ]
    assert done.ceiling_written
    assert read_human_ceiling(project) == 0.65753


def test_a_map_with_equal_corner_and_middle_is_not_constant(project, source):
    heatmap = np.zeros((32, 32), np.uint8)
    heatmap[8:14, 20:26] = 255
    path = shard(source / "test.tfrecords", jpeg(heatmap=encoded(heatmap, "PNG")))
    import_clickme(project, [path], workers=1)
    assert np.array_equal(read_back(project, "test-test.tfrecords")[0].heatmap, heatmap)


def test_an_edit_of_the_source_edits_no_data(project, source):
    path = shard(source / "test-00001.tfrecords", jpeg())
    import_clickme(project, [path], workers=1)
    target = project.data / "clickme" / path.name
    before = target.read_bytes()
    with path.open("r+b") as file:
        file.write(b"edited in place")
    assert target.read_bytes() == before
    assert path.read_bytes() != before


def test_a_link_is_made_where_it_is_asked_for(project, source):
    path = shard(source / "test-00001.tfrecords", jpeg())
    import_clickme(project, [path], workers=1, link=True)
    target = project.data / "clickme" / path.name
    assert target.samefile(path)
    before = target.stat().st_mtime_ns
    assert import_clickme(project, [path], workers=1, link=True).shards[0].skipped
    assert target.samefile(path)
    assert not import_clickme(project, [path], workers=1).shards[0].skipped  # a link of earlier becomes a copy
    assert not target.samefile(path)
    assert target.read_bytes() == path.read_bytes()
    assert path.stat().st_mtime_ns == before
    assert import_clickme(project, [path], workers=1).shards[0].skipped


def test_where_links_are_impossible_one_line_says_so(project, source, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    path = shard(source / "test-00001.tfrecords", jpeg())
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(DataError, match=r"cannot be hard-linked into data/ \(Invalid cross.*\): leave out --link"):
        import_clickme(project, [path], workers=1, link=True)
    assert not (project.data / "clickme" / path.name).exists()
    import_clickme(project, [path], workers=1)
    assert (project.data / "clickme" / path.name).read_bytes() == path.read_bytes()


def test_a_source_that_is_written_during_its_import_is_refused(project, source, monkeypatch):
    path = shard(source / "test-00001.tfrecords", jpeg())
    copyfileobj = shutil.copyfileobj

    def write_and_copy(*words):
        with path.open("ab") as file:
            file.write(b"more")
        copyfileobj(*words)

    monkeypatch.setattr(shutil, "copyfileobj", write_and_copy)
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: (_ for _ in ()).throw(OSError(errno.EOPNOTSUPP, "not supported")))
    with pytest.raises(DataError, match="it was changed while it was imported"):
        import_clickme(project, [path], workers=1)
    assert not list((project.data / "clickme").glob("*.tfrecords"))


def test_a_symbolic_link_brings_in_what_it_leads_to(project, source):
    real = shard(source / "object", jpeg())
    (source / "test-00001.tfrecords").symlink_to(real)
    target = project.data / "clickme" / "test-00001.tfrecords"
    for link in (False, True):
        import_clickme(project, [source / "test-00001.tfrecords"], workers=1, link=link, replace=True)
        assert not target.is_symlink()
        assert target.read_bytes() == real.read_bytes()


IMAGE, MAP = drawn(224)


def spoilt(array, value):
    changed = array.astype(np.float32)
    changed[100, 100] = value
    return changed


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (lambda: raw(spoilt(IMAGE, np.nan), MAP, 0), "image values span nan"),
        (lambda: raw(spoilt(IMAGE, np.inf), MAP, 0), r"image values span 0 \.\. inf"),
        (lambda: raw(spoilt(IMAGE, -1), MAP, 0), r"image values span -1 \.\. 255, expected 0 \.\. 255"),
        (lambda: raw(spoilt(IMAGE, 255.5), MAP, 0), r"span 0 \.\. 255\.5"),
        (lambda: raw(IMAGE, spoilt(MAP, np.nan), 0), "heatmap holds values that are not finite"),
        (lambda: raw(IMAGE, np.full((224, 224), 7.0), 0), "heatmap is constant"),
        (lambda: raw(IMAGE, MAP, 10), r"label 10 is outside 0 \.\. 9"),
        (lambda: raw(IMAGE, MAP, -1), r"label -1 is outside 0 \.\. 9"),
        (lambda: raw(IMAGE, MAP[:200], 0), "602112 bytes with a heatmap of 179200 are neither"),
        (lambda: example(image=IMAGE.tobytes(), label=0), "feature 'heatmap' is missing"),
        (lambda: raw(IMAGE, MAP, [3, 5]), "'label' has 2 values, expected one"),
        (lambda: jpeg(), "is in the schema jpeg, the records before in float32-224"),
    ],
)
def test_a_bad_raw_record_is_told_and_changes_nothing(project, source, payload, told):
    path = shard(source / "test.tfrecords", raw(IMAGE, MAP, 0), payload())
    refused(project, path, "record 1", told)


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (jpeg(image=encoded(drawn(32)[0], mode="CMYK")), "image is CMYK, expected RGB"),
        (jpeg(heatmap=encoded(drawn(32)[0])), "heatmap is RGB, expected L"),
        (jpeg(heatmap=encoded(drawn(64)[1])), "heatmap is 64x64, its image 32x32"),
        (jpeg(heatmap=encoded(np.full((32, 32), 9, np.uint8))), "heatmap is constant"),
        (jpeg(image=encoded(drawn(32)[0])[:-200]), "image cannot be decoded"),
        (jpeg(image=b"text"), "image cannot be decoded: 4 bytes"),
        (jpeg(label=10), r"label 10 is outside 0 \.\. 9"),
        (jpeg(label=[0, 0, 1, 0]), "'label' has 4 values, expected one: .* in place of a one-hot label"),
        (jpeg(image=[encoded(drawn(32)[0])] * 2), "'image' has 2 values, expected one: write one example per record"),
        (b"\xff\xff\xff", "not a tf.train.Example"),
    ],
)
def test_a_bad_jpeg_record_is_told_and_changes_nothing(project, source, payload, told):
    refused(project, shard(source / "test.tfrecords", jpeg(), payload), "record 1", told)


def test_a_flipped_bit_is_told_and_changes_nothing(project, source):
    path = shard(source / "test.tfrecords", jpeg(), jpeg())
    content = bytearray(path.read_bytes())
    content[-500] ^= 16
    path.write_bytes(content)
    refused(project, path, "record 1", "checksum differs")


def test_an_empty_shard_is_refused(project, source):
    refused(project, shard(source / "test.tfrecords"), "", "no records in it")


def test_other_features_may_have_several_values(project, source):
    path = shard(source / "test.tfrecords", jpeg(3, bounding_box=[1, 2, 3, 4], words=[b"a", b"b"]))
    assert import_clickme(project, [path], workers=1).classes == {3: 1}


def test_a_shard_that_was_laid_into_data_by_hand_is_refused_where_it_is_read_whole(source):
    listed = shard(source / "a.tfrecords", jpeg(label=[0, 1]))
    batch = shard(source / "b.tfrecords", jpeg(image=[b"a", b"b"]))
    for reader in (read_clickme([listed], 10), read_clickme([batch], 10), image_digests([batch])):
        with pytest.raises(DataError, match=r"record 0: feature '(label|image)' has 2 values, expected one"):
            next(reader)


def test_shards_without_label_0_are_suspected_to_count_from_1(project, source, capsys):
    import_clickme(project, [shard(source / "test-0.tfrecords", jpeg(2), jpeg(3))], workers=1)
    said = "ClickMe: no label is 0, and labels count from 0: 2 is n00000002 (class 2); if they count from 1 there"
    assert said in capsys.readouterr().err
    import_clickme(project, [shard(source / "test-1.tfrecords", jpeg(0), jpeg(3))], workers=1)
    assert "no label is 0" not in capsys.readouterr().err


def test_a_folders_packed_shard_is_not_left_out(project, source):
    shard(source / "test-0.tfrecords", jpeg())
    packed = source / "test-1.tfrecords.gz"
    packed.write_bytes(gzip.compress(shard(source / "x", jpeg()).read_bytes()))
    with pytest.raises(DataError, match=rf"{packed}: record 0 at byte 0: looks like gzip data: unpack it"):
        import_clickme(project, [source], workers=1)


def refused(project, path, record, told):
    """Refused on one line; what was in data/ is untouched."""
    target = project.data / "clickme" / "test-test.tfrecords"
    target.parent.mkdir()
    target.write_bytes(b"as it was")
    with pytest.raises(DataError, match=told) as caught:
        import_clickme(project, [path], workers=1, replace=True)
    assert str(caught.value).startswith(f"{path}: {record}")
    assert "\n" not in str(caught.value)
    assert target.read_bytes() == b"as it was"
    assert listing(project) == [target.name]


def save(path, image, heatmap, label):
    torch.save({"image": torch.from_numpy(image), "heatmap": torch.from_numpy(heatmap), "label": label}, path)


def test_samples_are_packed_in_sorted_order(project, source, monkeypatch):
    monkeypatch.setattr(_sources, "SAMPLES_PER_SHARD", 3)
    folder = source / "clickme_val"
    folder.mkdir()
    for number in reversed(range(7)):
        image, heatmap = drawn(16, number)
        turned = number % 2 == 0  # both orders of the axes
        save(
            folder / f"{number:03d}.pth",
            np.ascontiguousarray(image.transpose(2, 0, 1)) if turned else image,
            heatmap[None] if turned else heatmap,
            torch.tensor(number) if number == 5 else number,
        )
    done = import_clickme(project, [folder], workers=1)
    names = [f"val-clickme_val-{pack:05d}.tfrecords" for pack in range(3)]
    assert listing(project) == ["ceiling.yaml", "imported.csv", *names]
    records = [record for name in names for record in read_back(project, name)]
    assert [record.label for record in records] == list(range(7))
    for number, record in enumerate(records):
        assert np.array_equal(record.image, drawn(16, number)[0])
        assert np.array_equal(record.heatmap, drawn(16, number)[1])
    assert [one.row.records for one in done.shards] == [3, 3, 1]
    assert done.shards[0].row.source == "clickme_val/000.pth .. 002.pth"
    assert all(one.skipped for one in import_clickme(project, [folder], workers=1).shards)


def test_a_thousand_samples_make_a_shard():
    assert _sources.SAMPLES_PER_SHARD == 1000


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (Harmful(), "would run code when read, and is refused"),
        ([1, 2], "but a list"),
        ({"heatmap": torch.zeros(8, 8, dtype=torch.uint8), "label": 1}, "image is NoneType"),
        ({"image": torch.zeros(3, 8, 8), "heatmap": torch.zeros(8, 8), "label": 1}, "image is torch.float32"),
        (
            {"image": torch.zeros(3, 8, 8).byte(), "heatmap": torch.eye(9).byte(), "label": 1},
            "image is 8x8x3, heatmap 9x9",
        ),
        ({"image": torch.zeros(3, 8, 8).byte(), "heatmap": torch.eye(8).byte(), "label": "1"}, "label is str"),
        ({"image": torch.zeros(3, 8, 8).byte(), "heatmap": torch.eye(8).byte(), "label": 10}, "label 10 is outside"),
        ({"image": torch.zeros(3, 8, 8).byte(), "heatmap": torch.ones(8, 8).byte(), "label": 1}, "is constant"),
    ],
)
def test_a_bad_sample_is_told(project, source, content, told, monkeypatch):
    monkeypatch.chdir(source)
    torch.save(content, source / "val_1.pth")
    with pytest.raises(DataError, match=told) as caught:
        import_clickme(project, [source / "val_1.pth"], workers=1)
    assert str(caught.value).startswith(f"{source / 'val_1.pth'}: ")
    assert not (source / "executed").exists()
    assert listing(project) == []


def test_a_damaged_sample_is_told(project, source):
    save(source / "val_1.pth", *drawn(16), 1)
    (source / "val_1.pth").write_bytes((source / "val_1.pth").read_bytes()[:900])
    with pytest.raises(DataError, match=r"val_1\.pth: (cannot be read|damaged)"):
        import_clickme(project, [source], workers=1)


@pytest.mark.parametrize(
    ("name", "split", "target"),
    [
        ("clickme_test.tfrecords", None, "test-clickme_test.tfrecords"),
        ("test-00001.tfrecords", None, "test-00001.tfrecords"),
        ("Train.tfrecord", None, "train-Train.tfrecords"),
        ("a.val.2.tfrecords", None, "val-a.val.2.tfrecords"),
        ("part-7.tfrecords", "val", "val-part-7.tfrecords"),
        ("test-1.tfrecords", "val", "val-test-1.tfrecords"),
    ],
)
def test_the_split_is_told_by_name_or_option(project, source, name, split, target):
    import_clickme(project, [shard(source / name, jpeg())], split, workers=1)
    assert target in listing(project)


@pytest.mark.parametrize("name", ["latest.tfrecords", "valid.tfrecords", "retrain.tfrecords", "train_val.tfrecords"])
def test_a_name_that_tells_no_split_is_refused(project, source, name):
    with pytest.raises(InputError, match=r"does not contain one of train, val, test: give --split"):
        import_clickme(project, [shard(source / name, jpeg())])


def test_two_sources_of_one_file_are_refused_before_anything_is_written(project, source):
    one = shard(source / "a" / "test-1.tfrecords", jpeg())
    two = shard(source / "b" / "test-1.tfrecords", jpeg(seed=1))
    for sources in ([one, two], [one.parent, one]):
        with pytest.raises(InputError, match=r"would both become test-1\.tfrecords"):
            import_clickme(project, sources)
    assert not (project.data / "clickme").exists()


def test_sources_without_shards_are_told(project, source):
    with pytest.raises(DataError, match="is missing"):
        import_clickme(project, [source / "absent"])
    with pytest.raises(DataError, match=r"no \*\.tfrecords and no \*\.pth"):
        import_clickme(project, [source])


def test_classes_are_needed_first(tmp_path, source):
    with pytest.raises(DataError, match="advalign data import classes"):
        import_clickme(Project(tmp_path), [shard(source / "test.tfrecords", jpeg())])


def test_what_is_there_is_skipped_and_other_content_is_kept(project, source):
    path = shard(source / "test.tfrecords", raw(IMAGE, MAP, 2))
    target = project.data / "clickme" / "test-test.tfrecords"
    import_clickme(project, [path], workers=1)
    before = target.stat()
    again = import_clickme(project, [path], workers=1)
    assert again.shards[0].skipped
    assert (again.records, again.classes, again.ceiling_written) == (1, {2: 1}, False)
    assert (target.stat().st_ino, target.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    (project.data / "clickme" / "imported.csv").unlink()  # as if killed before the row was written
    assert not import_clickme(project, [path], workers=1).shards[0].skipped
    assert target.stat().st_ino == before.st_ino

    shard(path, raw(IMAGE, MAP, 3))
    with pytest.raises(DataError, match=r"imported from another test\.tfrecords.*--replace"):
        import_clickme(project, [path], workers=1)
    assert read_back(project, target.name)[0].label == 2
    import_clickme(project, [path], workers=1, replace=True)
    assert read_back(project, target.name)[0].label == 3

    target.unlink()
    import_clickme(project, [path], workers=1)
    assert read_back(project, target.name)[0].label == 3


def test_a_file_of_unknown_origin_is_kept(project, source):
    target = project.data / "clickme" / "test-1.tfrecords"
    target.parent.mkdir()
    target.write_bytes(b"mine")
    for payload in (jpeg(), raw(IMAGE, MAP, 2)):
        path = shard(source / "test-1.tfrecords", payload)
        with pytest.raises(DataError, match="exists with other content"):
            import_clickme(project, [path], workers=1)
        assert target.read_bytes() == b"mine"
        assert listing(project) == [target.name]


def test_a_linked_shard_is_replaced_never_written_into(project, source):
    path = shard(source / "test-1.tfrecords", jpeg())
    import_clickme(project, [path], workers=1)
    before = path.read_bytes()
    other = shard(source / "other" / "test-1.tfrecords", raw(IMAGE, MAP, 1))
    import_clickme(project, [other], workers=1, replace=True)
    assert path.read_bytes() == before
    assert read_back(project, "test-1.tfrecords")[0].label == 1


def test_a_broken_ledger_is_told(project, source):
    (project.data / "clickme").mkdir()
    (project.data / "clickme" / "imported.csv").write_text("file,records\n")
    with pytest.raises(DataError, match=r"imported\.csv: not a ledger of imports .*remove it"):
        import_clickme(project, [shard(source / "test.tfrecords", jpeg())], workers=1)


def contents(root):
    return {path.name: path.read_bytes() for path in sorted((root / "data" / "clickme").iterdir())}


def command(root, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1"}
    program = [sys.executable, "-m", "advalign.cli.main", "data", "import", *map(str, arguments)]
    return {"args": program, "cwd": root, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def test_killed_in_the_middle_it_goes_on_and_ends_the_same(tmp_path, project, source):
    for number in range(5):
        payloads = [raw(*drawn(224, 20 * number + k), k % 10) for k in range(20)]
        write_payloads(source / f"train-{number}.tfrecords", payloads)  # many megabytes: the fast writer
    calm = bare_project(tmp_path / "calm", CLASSES)
    workers = import_clickme(calm, [source], workers=2)
    assert workers.records == 100

    folder = project.data / "clickme"
    process = subprocess.Popen(**command(project.root, "clickme", source, "--workers", 1), start_new_session=True)
    ledger = folder / "imported.csv"  # a row in it, and the next shard begun
    while process.poll() is None and not (ledger.exists() and any(folder.glob("..train-*.tmp"))):
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finished = list(folder.glob("train-*.tfrecords"))
    assert 1 <= len(finished) < 5
    assert sum(len(list(read_payloads(path))) for path in finished) == 20 * len(finished)
    (folder / "..train-4.tfrecords.staged.tmp.7.tmp").write_bytes(b"leftover")

    done = subprocess.run(**command(project.root, "clickme", source, "--workers", 1, "--json"), check=True)
    report = json.loads(done.stdout)
    assert report["records"] == 100
    assert 1 <= sum(one["skipped"] for one in report["shards"]) <= len(finished)
    assert contents(project.root) == contents(calm.root)


def test_the_command_says_what_next_and_refuses_on_one_line(project, source):
    path = shard(source / "test-1.tfrecords", jpeg())
    done = subprocess.run(**command(project.root, "clickme", path), check=True, text=True)
    assert "1 records of 1 classes" in done.stdout
    assert "`dvc add data`" in done.stdout
    assert "`dvc push`" in done.stdout
    shard(path, jpeg(label=99))
    done = subprocess.run(**command(project.root, "clickme", path, "--replace"), check=False, text=True)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"advalign: error: {path}: record 0: label 99 is outside 0 .. 9 (data/classes.yaml): remove the record\n"
    )
    assert done.stdout == ""
