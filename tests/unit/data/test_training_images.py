"""What is trained and watched on: ClickMe's records with their maps, ImageNet's files without, by number and value."""

import io
import os
import re
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from advalign.data import training_images as module
from advalign.data.batches import Share, TrainingData
from advalign.data.classes import read_classes
from advalign.data.clickme import read_clickme, split_shards
from advalign.data.tfrecord import encode_example, read_payloads, record_offsets, write_payloads
from advalign.data.training_images import data_identity, pictured_images, training_images, validation_images
from advalign.errors import DataError
from advalign.files import Project
from advalign.settings import TrainSettings
from advalign.tensors.heatmaps import training_maps

CLICKME = TrainSettings(size=64, batch_size=16)
IMAGENET = TrainSettings(size=64, batch_size=16, images="imagenet")
RECORDS = 144  # of the tiny sample's training split
WORKERS = pytest.mark.parametrize("workers", [0, 2])


def classes_of(project):
    return read_classes(project.data / "classes.yaml")


def opened(project, settings, **values):
    return training_images(project, classes_of(project), settings.model_copy(update=values))


def jpeg(pixels, mode=None):
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    image.convert(mode or image.mode).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def noise(seed, *shape):
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, *shape[2:]), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((shape[1], shape[0])))


@pytest.fixture(scope="module")
def imagenet(sample_root, tmp_path_factory):
    """The tiny project with two training images per class, of several sizes, every fourth grey. Shared: read it."""
    root = tmp_path_factory.mktemp("imagenet") / "project"
    shutil.copytree(sample_root, root)
    for index, entry in enumerate(read_classes(root / "data" / "classes.yaml").entries):
        folder = root / "data" / "imagenet" / "train" / entry.wnid
        folder.mkdir(parents=True)
        for copy in range(2):
            number = 2 * index + copy
            pixels = noise(number, 70 + copy, 90, 3) if number % 4 else noise(number, 80, 66)
            (folder / f"{entry.wnid}_{9 - copy}.JPEG").write_bytes(jpeg(pixels))
    return Project(root)


@pytest.fixture
def repairable(imagenet, tmp_path):
    """A copy of the project with training images that a test may break."""
    shutil.copytree(imagenet.root, tmp_path / "copy")
    return Project(tmp_path / "copy")


def files_of(project):
    return sorted((project.data / "imagenet" / "train").glob("*/*.JPEG"))


def tail(images):
    """The images that come from files."""
    return [images.read(number) for number in range(images.with_map, len(images))]


def test_the_clickme_split_is_there_by_value(project):
    images = opened(project, CLICKME)
    records = list(read_clickme(split_shards(project, "train"), 36))
    assert len(images) == images.with_map == len(records) == RECORDS
    for number in reversed(range(RECORDS)):
        found, expected = images.read(number), records[number]
        assert np.array_equal(found.image, expected.image)
        assert np.array_equal(found.heatmap, expected.heatmap)
        assert found.label == expected.label
    batches = list(TrainingData(images, CLICKME).all(Share()))
    assert torch.equal(
        torch.cat([batch.images for batch in batches]).permute(0, 2, 3, 1),
        torch.from_numpy(np.stack([record.image for record in records])).float() / 255,
    )
    assert torch.equal(
        torch.cat([batch.heatmaps for batch in batches]),
        torch.from_numpy(np.stack([record.heatmap for record in records])).float() / 255,
    )


def test_records_are_numbered_across_shards_also_past_an_empty_one(project, tmp_path):
    (whole,) = split_shards(project, "train")
    payloads, folder = list(read_payloads(whole)), tmp_path / "data" / "clickme"
    for shard, part in enumerate((payloads[:5], [], payloads[5:6], payloads[6:20], [])):
        write_payloads(folder / f"train-{shard:05d}.tfrecords", part)
    images, expected = training_images(Project(tmp_path), classes_of(project), CLICKME), opened(project, CLICKME)
    assert len(images) == 20
    for number in range(20):
        assert np.array_equal(images.read(number).image, expected.read(number).image)
        assert images.read(number).label == expected.read(number).label


def test_imagenets_folder_follows_clickmes_records_by_value(imagenet):
    images, records = opened(imagenet, IMAGENET), opened(imagenet, CLICKME)
    paths = files_of(imagenet)
    assert (images.with_map, len(images)) == (RECORDS, RECORDS + 72)
    for number in (0, 17, RECORDS - 1):
        assert np.array_equal(images.read(number).image, records.read(number).image)
        assert np.array_equal(images.read(number).heatmap, records.read(number).heatmap)
    wnids = [entry.wnid for entry in classes_of(imagenet).entries]
    grey = 0
    for path, sample in zip(paths, tail(images), strict=True):
        assert np.array_equal(sample.image, np.asarray(Image.open(path).convert("RGB")))
        assert sample.heatmap is None
        assert wnids[sample.label] == path.parent.name
        grey += Image.open(path).mode == "L"
    assert grey == 18


@WORKERS
def test_mixed_in_a_batch_each_image_keeps_its_label_and_its_token(imagenet, workers):
    settings = IMAGENET.model_copy(update={"workers": workers, "batch_size": 8, "shift": 0})
    images = opened(imagenet, settings)
    data = TrainingData(images, settings)
    plain = list(data.all(Share()))
    assert torch.cat([batch.has_heatmap for batch in plain]).tolist() == [True] * RECORDS + [False] * 72
    labels = torch.cat([batch.labels for batch in plain]).tolist()
    assert labels == [images.read(number).label for number in range(len(images))]
    pixels = torch.cat([batch.images for batch in plain])
    known = {
        view.numpy().tobytes(): (label, number < RECORDS)
        for number, label in enumerate(labels)
        for view in (pixels[number], pixels[number].flip(2))
    }
    mixed, seen = 0, Counter()
    for batch in data.epoch(0, 0, Share()):
        found = list(zip(batch.labels.tolist(), batch.has_heatmap.tolist(), strict=True))
        assert found == [known[image.numpy().tobytes()] for image in batch.images]
        assert not batch.heatmaps[~batch.has_heatmap].any()
        mixed += len(set(batch.has_heatmap.tolist())) == 2
        seen.update(found)
    assert mixed > 15
    assert seen == Counter((label, number < RECORDS) for number, label in enumerate(labels))  # 216 = 27 x 8


@pytest.mark.parametrize("blur", [False, True])
def test_imagenet_alone_is_a_set_without_maps(repairable, blur):
    shutil.rmtree(repairable.data / "clickme")
    images = opened(repairable, IMAGENET, blur_maps=blur)
    assert (images.with_map, len(images)) == (0, 72)
    for batch in TrainingData(images, IMAGENET).epoch(0, 0, Share()):
        assert not batch.has_heatmap.any()
        assert batch.heatmaps.shape == (16, 64, 64)


def test_hidden_files_are_no_images(repairable):
    (files_of(repairable)[0].parent / ".left.JPEG.tmp").write_bytes(b"half")
    assert len(opened(repairable, IMAGENET)) == RECORDS + 72


def test_a_class_without_an_image_is_named(repairable):
    folder = repairable.data / "imagenet/train"
    first = sorted(folder.iterdir())[0]
    for file in first.iterdir():
        file.unlink()
    (first / "notes.txt").write_text("no image")
    with pytest.raises(DataError) as caught:
        opened(repairable, IMAGENET)
    assert str(caught.value) == (
        f"{first} holds no image (*.JPEG): every class of data/classes.yaml needs its training images"
    )


def test_a_missing_folder_names_the_fix(project):
    line = (
        "data/imagenet/train is missing: `advalign data import imagenet DIR --split train` imports your copy; "
        "`--settings params` trains on ClickMe's images alone, as params.yaml says"
    )
    with pytest.raises(DataError, match=rf"\A{re.escape(line)}\Z"):
        opened(project, IMAGENET)


def test_a_missing_class_is_named(repairable):
    folder = repairable.data / "imagenet" / "train" / classes_of(repairable)[7].wnid
    shutil.rmtree(folder)
    line = f"{folder} is missing: every class of data/classes.yaml needs its training images"
    with pytest.raises(DataError, match=rf"\A{re.escape(line)}\Z"):
        opened(repairable, IMAGENET)


def refusal(project, settings, **values):
    """The line that a pass over the images ends in."""
    settings = settings.model_copy(update=values)
    with pytest.raises(DataError) as caught:
        list(TrainingData(opened(project, settings), settings).epoch(0, 0, Share()))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@WORKERS
def test_a_corrupt_image_file_is_one_line_that_names_it(repairable, workers):
    path = files_of(repairable)[20]
    whole = path.read_bytes()
    path.write_bytes(b"no image")
    assert refusal(repairable, IMAGENET, workers=workers, batch_size=8) == (
        f"{path} cannot be decoded: it looks like text ('no image' ...): perhaps a server's error in place of the "
        "file, fetch it again"
    )
    path.write_bytes(whole[: len(whole) // 2])
    assert refusal(repairable, IMAGENET, workers=workers, batch_size=8).startswith(f"{path} cannot be decoded: ")


def test_an_image_file_of_other_colours_or_that_is_gone_is_one_line_that_names_it(repairable):
    path = files_of(repairable)[20]
    path.write_bytes(jpeg(noise(1, 20, 20, 3), "CMYK"))
    assert refusal(repairable, IMAGENET, batch_size=8) == (
        f"{path} is CMYK, expected RGB or L: convert it before importing"
    )
    images = opened(repairable, IMAGENET)
    path.unlink()
    with pytest.raises(
        DataError, match=rf"\A{re.escape(str(path))}: cannot be read \(.+\): (put it back, or )?import it again\Z"
    ):
        images.read(RECORDS + 20)


@WORKERS
def test_a_corrupt_record_is_one_line_that_names_shard_and_record(repairable, workers):
    (shard,) = split_shards(repairable, "train")
    content = bytearray(shard.read_bytes())
    offset = record_offsets(shard)[9]
    content[offset + 100] ^= 1
    shard.write_bytes(bytes(content))
    line = f"{shard}: record 9 at byte {offset}: corrupt data (checksum differs); fetch the file again"
    assert refusal(repairable, CLICKME, workers=workers) == line


@pytest.fixture
def altered(project, tmp_path):
    """Write a training shard of another project from the sample's first records, changed by a function."""
    (shard,) = split_shards(project, "train")
    payloads = [payload for payload, _ in zip(read_payloads(shard), range(5), strict=False)]

    def write(change):
        write_payloads(tmp_path / "data" / "clickme" / "train-00000.tfrecords", change(payloads))
        return lambda **values: training_images(
            Project(tmp_path), classes_of(project), CLICKME.model_copy(update=values)
        )

    return write


def test_a_truncated_shard_is_found_before_the_training_begins(altered, tmp_path):
    read = altered(lambda payloads: payloads)
    shard = tmp_path / "data" / "clickme" / "train-00000.tfrecords"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"\A{re.escape(str(shard))}: record 4 at byte \d+: truncated"):
        read()


def test_a_shard_without_records_is_refused(altered):
    line = "data/ holds no image to train or to validate on: get the data with `dvc pull data.dvc`"
    with pytest.raises(DataError, match=rf"\A{re.escape(line)}\Z"):
        altered(lambda _: [])()


@pytest.mark.parametrize("label", [36, -1])
def test_labels_beyond_the_classes_are_refused(altered, label):
    odd = encode_example({"image": jpeg(noise(1, 9, 9, 3)), "heatmap": jpeg(noise(2, 9, 9)), "label": label})
    images = altered(lambda payloads: [*payloads[:2], odd])()
    assert images.read(1).image.shape == (64, 64, 3)
    with pytest.raises(DataError, match=rf"train-00000\.tfrecords: record 2: label {label} is outside 0 \.\. 35"):
        images.read(2)


def test_maps_are_blurred_as_training_maps_does_and_left_alone_otherwise(altered):
    plain = [noise(1, 64, 64), noise(2, 256, 256), noise(3, 60, 90)]
    records = [
        encode_example({"image": jpeg(noise(9, *one.shape, 3)), "heatmap": jpeg(one), "label": 1}) for one in plain
    ]
    read = altered(lambda _: records)
    raw, blurred = read(), read(blur_maps=True)
    for number, one in enumerate(plain):
        heatmap = np.asarray(Image.open(io.BytesIO(jpeg(one))))
        assert raw.read(number).heatmap.dtype == np.uint8
        assert np.array_equal(raw.read(number).heatmap, heatmap)
        assert np.array_equal(blurred.read(number).image, raw.read(number).image)
        small = training_maps(torch.from_numpy(heatmap.copy())[None] / 255, 64)
        expected = F.interpolate(small[None], size=one.shape, mode="bilinear")[0, 0]
        if one.shape[0] == one.shape[1]:
            assert torch.equal(expected, training_maps(torch.from_numpy(heatmap.copy())[None] / 255, one.shape[0])[0])
        assert blurred.read(number).heatmap.dtype == np.float32
        assert np.array_equal(blurred.read(number).heatmap, expected.numpy())
        assert not np.allclose(expected, heatmap / 255, atol=0.05)


def test_blurred_maps_reach_the_batch_at_its_size(project):
    settings = CLICKME.model_copy(update={"blur_maps": True})
    (raw,) = TrainingData(opened(project, CLICKME), CLICKME).all(Share())
    (blurred,) = TrainingData(opened(project, settings), settings).all(Share())
    assert torch.equal(blurred.images, raw.images)
    assert torch.equal(blurred.heatmaps, torch.cat([training_maps(one[None], 64) for one in raw.heatmaps]))
    assert torch.allclose(blurred.heatmaps, training_maps(raw.heatmaps, 64), atol=1e-6)


def test_the_identity_notices_a_byte_and_a_name_and_nothing_else(repairable):
    def identity(settings=IMAGENET):
        return data_identity(opened(repairable, settings))

    found = [identity()]
    assert identity() == found[0]
    assert identity(IMAGENET.model_copy(update={"blur_maps": True, "workers": 2})) == found[0]
    path, (shard,) = files_of(repairable)[3], split_shards(repairable, "train")
    os.utime(path, (1, 1))
    os.utime(shard, (1, 1))
    (repairable.data / "clickme" / "ceiling.yaml").write_text("human_ceiling: 0.5")
    (split_shards(repairable, "val")[0]).unlink()
    assert identity() == found[0]

    clickme = identity(CLICKME)
    time, content = path.stat().st_mtime_ns, path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(time, time))  # neither its size nor its time tells
    found.append(identity())
    path.rename(path.with_name("other.JPEG"))
    found.append(identity())
    path.with_name("other.JPEG").rename(path.parents[1] / classes_of(repairable)[30].wnid / "other.JPEG")
    found.append(identity())
    (path.parent / "another.JPEG").write_bytes(jpeg(noise(1, 20, 20, 3)))
    found.append(identity())
    assert identity(CLICKME) == clickme

    content = bytearray(shard.read_bytes())
    content[record_offsets(shard)[50] + 200] ^= 1
    shard.write_bytes(bytes(content))
    found.append(identity())
    assert len(set(found)) == len(found) == 6
    assert identity(CLICKME) not in {clickme, *found}


def test_accuracy_is_watched_on_clickmes_validation_split(project):
    images = validation_images(project, classes_of(project), CLICKME)
    records = list(read_clickme(split_shards(project, "val"), 36))
    assert len(images) == images.with_map == len(records)
    for number, record in enumerate(records):
        assert np.array_equal(images.read(number).image, record.image)
        assert images.read(number).label == record.label


def test_or_on_imagenets_validation_images_with_the_labels_of_the_table(imagenet):
    images = validation_images(imagenet, classes_of(imagenet), IMAGENET)
    rows = [row.split(",") for row in (imagenet.data / "imagenet" / "labels.csv").read_text().splitlines()[1:]]
    wnids = [entry.wnid for entry in classes_of(imagenet).entries]
    assert (len(images), images.with_map) == (len(rows), 0)
    for (name, wnid), sample in zip(sorted(rows), tail(images), strict=True):
        path = imagenet.data / "imagenet" / "val" / name
        assert np.array_equal(sample.image, np.asarray(Image.open(path).convert("RGB")))
        assert wnids[sample.label] == wnid
        assert sample.heatmap is None


def test_a_validation_image_that_is_missing_is_one_line_that_names_it(repairable):
    path = sorted((repairable.data / "imagenet" / "val").iterdir())[5]
    path.unlink()
    images = validation_images(repairable, classes_of(repairable), IMAGENET)
    for look in (data_identity, lambda images: images.read(5)):
        with pytest.raises(
            DataError, match=rf"\A{re.escape(str(path))}: cannot be read \(.+\): (put it back, or )?import it again\Z"
        ):
            look(images)


def test_saliency_is_pictured_on_images_that_are_not_trained_on(repairable):
    def pictured():
        return pictured_images(repairable, classes_of(repairable), CLICKME)

    for split in ("val", "test"):
        shards = split_shards(repairable, split)
        (record, *_) = read_clickme(shards, 36)
        assert pictured().shards == shards[:1]
        assert np.array_equal(pictured().read(0).heatmap, record.heatmap)
        for shard in shards:
            shard.unlink()
    assert pictured() is None


@pytest.fixture
def decoded(monkeypatch):
    """Counts what is decoded, by record or file."""
    counts = Counter()
    for name, where in (("decode_example", 1), ("decode_jpeg", 2)):
        original = getattr(module, name)

        def counted(*args, original=original, where=where):
            counts[args[where]] += 1
            return original(*args)

        monkeypatch.setattr(module, name, counted)
    return counts


def test_one_process_decodes_each_image_once_and_gives_the_same_again(imagenet, decoded):
    settings = IMAGENET.model_copy(update={"batch_size": 8})
    kept, fresh = opened(imagenet, settings), opened(imagenet, settings, workers=2)
    assert (kept.keep, fresh.keep) == (True, False)
    data = TrainingData(kept, settings)
    first = [[batch.images, batch.heatmaps] for epoch in (0, 1, 0) for batch in data.epoch(0, epoch, Share())]
    assert len(decoded) == RECORDS + 72
    assert set(decoded.values()) == {1}
    again = [
        [batch.images, batch.heatmaps]
        for epoch in (0, 1, 0)
        for batch in TrainingData(fresh, settings).epoch(0, epoch, Share())
    ]
    assert set(decoded.values()) == {4}
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
