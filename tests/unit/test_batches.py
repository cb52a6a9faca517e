"""Training batches: repeatable to the byte, images and maps moved together, nothing lost but the last partial batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advalign.data.batches import Batch, TrainingData, augment, load_training_data
from advalign.data.clickme import read_clickme, split_shards
from advalign.data.tfrecord import read_payloads, write_payloads
from advalign.errors import DataError
from advalign.files import Project
from advalign.tensors.heatmaps import training_maps


def telling_data(count=22, side=8):
    """Every image's three channels are its own map, and its first pixel tells its label."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, 1, side, side), generator=generator, dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(count, dtype=torch.uint8)
    return TrainingData(pixels.expand(-1, 3, -1, -1).contiguous(), pixels[:, 0].float() / 255, torch.arange(count))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(data):
    (batch,) = data.all(len(data))
    return batch


def as_bytes(batches):
    return [b"".join(t.numpy().tobytes() for t in (b.images, b.labels, b.heatmaps, b.has_heatmap)) for b in batches]


def test_all_gives_every_sample_once_in_order_unchanged():
    data = telling_data()
    batches = list(data.all(8))
    assert [len(batch) for batch in batches] == [8, 8, 6]
    assert torch.cat([batch.labels for batch in batches]).tolist() == list(range(22))
    images = torch.cat([batch.images for batch in batches])
    assert images.dtype == torch.float32
    assert torch.equal(images, data.pixels.float() / 255)
    assert torch.equal(torch.cat([batch.heatmaps for batch in batches]), data.heatmaps)
    assert all(batch.has_heatmap.all() and batch.has_heatmap.dtype == torch.bool for batch in batches)


def test_same_seed_and_epoch_give_the_same_bytes():
    data = telling_data()
    first = as_bytes(data.epoch(8, 2, seed=3, epoch=5))
    torch.manual_seed(99)  # the global stream has no part in it
    assert as_bytes(data.epoch(8, 2, seed=3, epoch=5)) == first


def test_another_epoch_or_seed_gives_another_order_and_other_shifts():
    data = telling_data()
    streams = [(seed, epoch) for seed in (0, 1) for epoch in range(4)]
    orders = [tuple(torch.cat([b.labels for b in data.epoch(11, 2, seed, epoch)]).tolist()) for seed, epoch in streams]
    assert len(set(orders)) == len(streams)
    one = TrainingData(data.pixels[:1], data.heatmaps[:1], data.labels[:1])
    assert len({as_bytes(one.epoch(1, 3, 0, epoch))[0] for epoch in range(20)}) > 10


def test_the_last_partial_batch_is_left_out_and_differs_between_epochs():
    data = telling_data()
    left_out = set()
    assert data.batches(8) == 2
    for epoch in range(4):
        batches = list(data.epoch(8, 0, 0, epoch))
        labels = torch.cat([batch.labels for batch in batches]).tolist()
        assert [len(batch) for batch in batches] == [8, 8]
        assert len(set(labels)) == 16
        left_out.add(frozenset(range(22)) - frozenset(labels))
    assert len(left_out) == 4
    whole = torch.cat([batch.labels for batch in data.epoch(11, 0, 0, 0)])
    assert sorted(whole.tolist()) == list(range(22))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), shift=st.integers(0, 4))
def test_augment_moves_image_and_map_together_and_keeps_labels(seed, shift):
    batch = batch_of(telling_data())
    found = augment(batch, shift, generator(seed))
    assert found.images.shape == batch.images.shape
    for channel in range(3):
        assert torch.equal(found.images[:, channel], found.heatmaps)
    assert torch.equal(found.labels, batch.labels)
    assert torch.equal(found.has_heatmap, batch.has_heatmap)


def test_without_shift_every_image_is_itself_or_its_mirror():
    batch = batch_of(telling_data(200))
    found = augment(batch, 0, generator())
    same = (found.images == batch.images).flatten(1).all(1)
    mirrored = (found.images == batch.images.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 70 < int(mirrored.sum()) < 130


def shifted(plain, down, right):
    """Numpy's own: content moved down and right, edges repeated."""
    height, width = plain.shape[-2:]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return plain[..., rows[:, None], columns[None, :]]


def test_a_batch_is_shifted_as_one_by_up_to_the_given_pixels_with_edges_repeated():
    batch = batch_of(telling_data(6))
    plain = batch.images.numpy()
    seen = set()
    for seed in range(200):
        found = augment(batch, 2, generator(seed)).images.numpy()
        matches = [
            (down, right)
            for down in range(-3, 4)
            for right in range(-3, 4)
            if all(
                np.array_equal(after, shifted(before, down, right))
                or np.array_equal(after, shifted(before[..., ::-1], down, right))
                for before, after in zip(plain, found, strict=True)
            )
        ]
        assert len(matches) == 1, f"seed {seed}: one shift explains the whole batch"
        seen |= set(matches)
    assert seen == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def test_labels_stay_with_their_images_through_an_epoch():
    data = telling_data()
    for batch in data.epoch(8, 0, 0, 0):
        corners = torch.stack([batch.images[:, 0, 0, 0], batch.images[:, 0, 0, -1]], 1) * 255
        for label, corner in zip(batch.labels.tolist(), corners.round().int().tolist(), strict=True):
            assert label in corner


def test_to_moves_all_four_tensors():
    batch = batch_of(telling_data(2))
    moved = batch.to(torch.device("meta"))
    assert isinstance(moved, Batch)
    assert {t.device.type for t in (moved.images, moved.labels, moved.heatmaps, moved.has_heatmap)} == {"meta"}
    assert len(moved) == 2


def test_a_split_is_loaded_by_value(project):
    data = load_training_data(project, "train", 36, blur_maps=False)
    records = list(read_clickme(split_shards(project, "train"), 36))
    assert len(data) == len(records) == 144
    assert data.pixels.shape == (144, 3, 64, 64)
    assert data.pixels.dtype == torch.uint8
    for position, item in enumerate(records):
        assert np.array_equal(data.pixels[position].permute(1, 2, 0).numpy(), item.image)
        assert np.array_equal(data.heatmaps[position].numpy(), item.heatmap.astype(np.float32) / 255)
        assert data.labels[position] == item.label
    blurred = load_training_data(project, "train", 36, blur_maps=True)
    assert torch.equal(blurred.pixels, data.pixels)
    assert torch.equal(blurred.heatmaps, training_maps(data.heatmaps, 64))


@pytest.fixture
def broken(project, tmp_path):
    """Write a training shard of another project from the sample's first records, changed by a function."""
    (payloads_of,) = split_shards(project, "train")
    payloads = [payload for payload, _ in zip(read_payloads(payloads_of), range(5), strict=False)]

    def write(change):
        write_payloads(tmp_path / "data" / "clickme" / "train-00000.tfrecords", change(payloads))
        return Project(tmp_path)

    return write


def test_images_of_several_sizes_are_refused_by_name(broken):
    from advalign.data.sample.generate import _jpeg
    from advalign.data.tfrecord import encode_example

    wide, narrow = np.zeros((64, 72, 3), np.uint8), np.zeros((64, 72), np.uint8)
    odd = encode_example({"image": _jpeg(wide, 90), "heatmap": _jpeg(narrow, 90), "label": 0})
    with pytest.raises(DataError, match=r"train-00000\.tfrecords:2: image of another size .*\(64, 72\)"):
        load_training_data(broken(lambda payloads: [*payloads[:2], odd, *payloads[2:]]), "train", 36, False)


def test_a_shard_without_records_is_refused(broken):
    with pytest.raises(DataError, match="train"):
        load_training_data(broken(lambda _: []), "train", 36, False)


def test_labels_beyond_the_classes_are_refused(broken):
    with pytest.raises(DataError, match=r"record 0: label \d+ is outside 0 \.\. 0"):
        load_training_data(broken(lambda payloads: payloads), "train", 1, False)
