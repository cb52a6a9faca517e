"""Training batches: what one holds depends on (seed, epoch, number) alone, and every image comes at most once."""

import os
import random
import re
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advalign.data.augmentation import Sample
from advalign.data.batches import PLAIN_BATCH, Batch, Share, TrainingData
from advalign.data.centre_crop import centre_crop
from advalign.errors import AdvalignError, DataError, InputError
from advalign.settings import TrainSettings
from advalign.training.train import check_batch

QUICK = settings(max_examples=40, deadline=None)
WANTED = TrainSettings(size=8, batch_size=8, shift=2)
WORKERS = pytest.mark.parametrize("workers", [0, 2])


class Telling:
    """Random pixels: every image's three channels are its map, its label is its number; every third has no map."""

    def __init__(self, count=22, side=8, without=3, kind=np.uint8):
        self.maps = np.random.default_rng(1).integers(0, 256, (count, side, side), dtype=np.uint8)
        self.without, self.kind = without, kind

    def __len__(self):
        return len(self.maps)

    def has_map(self, number):
        return not self.without or number % self.without > 0

    def read(self, number):
        plain = self.maps[number]
        heatmap = plain if self.kind == np.uint8 else plain.astype(np.float32) / 255
        return Sample(np.stack([plain] * 3, -1), heatmap if self.has_map(number) else None, number)


def data_of(images, **values):
    return TrainingData(images, WANTED.model_copy(update=values))


def tensors(batch):
    return batch.images, batch.labels, batch.heatmaps, batch.has_heatmap


def as_bytes(batches):
    return [
        tuple((str(t.dtype), tuple(t.shape), t.contiguous().numpy().tobytes()) for t in tensors(b)) for b in batches
    ]


def joined(parts):
    return Batch(*(torch.cat(values) for values in zip(*map(tensors, parts), strict=True)))


def labels_of(batches):
    return [label for batch in batches for label in batch.labels.tolist()]


def global_states():
    return random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()


def rejoined(data, seed, epoch, ranks, accumulate, start=0):
    """The batches, put together from the parts that every process yields."""
    divided = replace(data, settings=data.settings.model_copy(update={"accumulate": accumulate}))
    of_rank = [list(divided.epoch(seed, epoch, Share(rank, ranks), start)) for rank in range(ranks)]
    part = data.settings.batch_size // ranks // accumulate
    assert {len(one) for parts in of_rank for one in parts} <= {part}
    assert [len(parts) for parts in of_rank] == [(data.batches - start) * accumulate] * ranks
    return [
        joined([one for parts in of_rank for one in parts[first : first + accumulate]])
        for first in range(0, (data.batches - start) * accumulate, accumulate)
    ]


@QUICK
@given(
    ranks=st.sampled_from([1, 2, 4]),
    accumulate=st.integers(1, 3),
    part=st.integers(1, 3),
    count=st.integers(1, 60),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 300),
    draw=st.data(),
)
def test_a_batch_is_the_same_however_it_is_divided_and_wherever_one_begins(
    ranks, accumulate, part, count, seed, epoch, draw
):
    data = data_of(Telling(count), batch_size=ranks * accumulate * part)
    start = draw.draw(st.integers(0, data.batches))
    batches = list(data.epoch(seed, epoch, Share()))
    assert as_bytes(rejoined(data, seed, epoch, ranks, accumulate, start)) == as_bytes(batches[start:])


@pytest.mark.parametrize("augmentation", ["shift", "crop"])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_a_batch_is_the_same_whoever_decodes(augmentation, kind):
    data = data_of(Telling(kind=kind), augmentation=augmentation, color_jitter=0.4)
    helped = replace(data, settings=data.settings.model_copy(update={"workers": 2}))
    batches = as_bytes(data.epoch(3, 5, Share()))
    assert as_bytes(helped.epoch(3, 5, Share())) == batches
    assert as_bytes(rejoined(helped, 3, 5, ranks=2, accumulate=2, start=1)) == batches[1:]
    assert as_bytes(helped.all(Share(1, 2))) == as_bytes(data.all(Share(1, 2)))


@WORKERS
@pytest.mark.parametrize("augmentation", ["shift", "crop"])
def test_the_global_random_states_have_no_part_in_it_and_stay_as_they_were(augmentation, workers):
    data = data_of(Telling(), augmentation=augmentation, color_jitter=0.4, three_augment=True, workers=workers)
    found = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = global_states()
        found.append(as_bytes(data.epoch(3, 5, Share())) + as_bytes(data.all(Share())))
        assert global_states() == before
    assert found[0] == found[1]


def test_another_epoch_or_seed_gives_another_order_and_other_shifts():
    data = data_of(Telling(), batch_size=11)
    streams = [(seed, epoch) for seed in (0, 1) for epoch in range(4)]
    assert len({tuple(labels_of(data.epoch(seed, epoch, Share()))) for seed, epoch in streams}) == len(streams)
    for augmentation in ("shift", "crop"):
        one = data_of(Telling(1, without=0), batch_size=1, shift=3, augmentation=augmentation)
        assert len({as_bytes(one.epoch(0, epoch, Share()))[0] for epoch in range(20)}) > 10


@pytest.mark.parametrize("augmentation", ["shift", "crop"])
def test_every_batch_of_an_epoch_is_changed_in_its_own_way(augmentation):
    class Alike(Telling):
        def read(self, number):
            return super().read(1)

    data = data_of(Alike(40), batch_size=2, augmentation=augmentation)
    assert len(set(as_bytes(data.epoch(0, 0, Share())))) > 14


@QUICK
@given(count=st.integers(1, 60), size=st.integers(1, 12), ranks=st.sampled_from([1, 2, 4]), seed=st.integers(0, 9))
def test_every_image_at_most_once_per_epoch_and_nothing_lost_but_the_last_partial_batch(count, size, ranks, seed):
    data = data_of(Telling(count), batch_size=size * ranks)
    labels = [label for rank in range(ranks) for label in labels_of(data.epoch(seed, 1, Share(rank, ranks)))]
    assert data.batches == count // (size * ranks)
    assert len(labels) == len(set(labels)) == data.batches * size * ranks
    assert set(labels) <= set(range(count))


def test_what_is_left_out_differs_between_epochs():
    data = data_of(Telling())
    left_out = {frozenset(range(22)) - frozenset(labels_of(data.epoch(0, epoch, Share()))) for epoch in range(4)}
    assert len(left_out) == 4
    assert {len(numbers) for numbers in left_out} == {6}


def shifted(plain, down, right):
    """Content moved down and right, edges repeated: padded and cut."""
    height, width = plain.shape
    padded = np.pad(plain, 3, mode="edge")
    return padded[3 - down :, 3 - right :][:height, :width]


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_a_shuffled_batch_holds_the_images_and_maps_of_its_labels_all_shifted_alike(kind):
    images = Telling(kind=kind)
    data = data_of(images)
    for batch in data.epoch(0, 0, Share()):
        assert batch.images.dtype == batch.heatmaps.dtype == torch.float32
        assert batch.has_heatmap.tolist() == [images.has_map(label) for label in batch.labels.tolist()]
        assert torch.equal(batch.images[:, 0], batch.images[:, 1])
        assert torch.equal(batch.images[:, 0], batch.images[:, 2])
        assert torch.equal(batch.images[:, 0][batch.has_heatmap], batch.heatmaps[batch.has_heatmap])
        pixels = (batch.images[:, 0] * 255).round().byte().numpy()
        plain = [images.maps[label] for label in batch.labels.tolist()]
        explained = [
            (down, right)
            for down in range(-3, 4)
            for right in range(-3, 4)
            if all(
                any(np.array_equal(after, shifted(one, down, right)) for one in (before, before[:, ::-1]))
                for before, after in zip(plain, pixels, strict=True)
            )
        ]
        assert len(explained) == 1
        assert max(map(abs, explained[0])) <= 2


@QUICK
@given(count=st.integers(1, 30), ranks=st.integers(1, 6))
def test_all_covers_each_image_once_in_order_unchanged(count, ranks):
    images = Telling(count)
    shares = [list(data_of(images).all(Share(rank, ranks))) for rank in range(ranks)]
    for rank, batches in enumerate(shares):
        assert labels_of(batches) == list(range(rank, count, ranks))
        for batch in batches:
            numbers = batch.labels.tolist()
            expected = torch.from_numpy(images.maps[numbers]).float() / 255
            assert torch.equal(batch.images, expected[:, None].expand(-1, 3, -1, -1))
            assert batch.has_heatmap.tolist() == [images.has_map(number) for number in numbers]
            assert torch.equal(batch.heatmaps[batch.has_heatmap], expected[batch.has_heatmap])
    assert sorted(label for batches in shares for label in labels_of(batches)) == list(range(count))


@WORKERS
def test_the_last_partial_batch_of_all_is_there(workers):
    data = data_of(Telling(2 * PLAIN_BATCH + 5), workers=workers)
    assert [len(batch) for batch in data.all(Share())] == [PLAIN_BATCH, PLAIN_BATCH, 5]
    assert labels_of(data.all(Share())) == list(range(2 * PLAIN_BATCH + 5))


@WORKERS
def test_a_single_image_is_seen_by_one_process_and_the_others_have_nothing_to_do(workers):
    data = data_of(Telling(1), batch_size=1, workers=workers)
    assert [labels_of(data.all(Share(rank, 4))) for rank in range(4)] == [[0], [], [], []]
    assert labels_of(data.epoch(0, 0, Share())) == [0]
    assert list(data.epoch(0, 0, Share(), start=1)) == []


def test_all_brings_images_and_maps_to_size_by_the_centre_crop():
    images = Telling(5, side=40, without=0)
    (batch,) = data_of(images, size=24, crop=0.75).all(Share())
    for number in range(5):
        expected = torch.from_numpy(centre_crop(images.maps[number], 24, 0.75).copy()).float() / 255
        assert torch.equal(batch.heatmaps[number], expected)
        assert torch.equal(batch.images[number], expected.expand(3, -1, -1))


@pytest.mark.parametrize("augmentation", ["shift", "crop"])
def test_images_of_several_sizes_make_one_batch(augmentation):
    class Several(Telling):
        def read(self, number):
            sample = super().read(number)
            heatmap = None if sample.heatmap is None else sample.heatmap[number:]
            return Sample(sample.image[number:], heatmap, number)

    data = data_of(Several(6, side=20), batch_size=6, augmentation=augmentation)
    for batch in (*data.epoch(0, 0, Share()), *data.all(Share())):
        assert batch.images.shape == (6, 3, 8, 8)
        assert batch.heatmaps.shape == (6, 8, 8)


@pytest.mark.parametrize(("without", "kind"), [(1, np.uint8), (2, np.uint8), (2, np.float32), (0, np.float32)])
def test_the_token_says_which_images_have_a_map(without, kind):
    data = data_of(Telling(8, without=without, kind=kind))
    (plain,), (shuffled,) = data.all(Share()), data.epoch(0, 0, Share())
    assert plain.labels.tolist() == list(range(8))
    for batch in (plain, shuffled):
        expected = [without == 0 or label % without > 0 for label in batch.labels.tolist()]
        assert batch.has_heatmap.dtype == torch.bool
        assert batch.labels.dtype == torch.int64
        assert batch.has_heatmap.tolist() == expected
        assert not batch.heatmaps[~batch.has_heatmap].any()
        assert batch.heatmaps.shape == (8, 8, 8)


def test_the_target_is_the_mixture_where_there_is_one():
    (batch,) = data_of(Telling(8)).all(Share())
    assert batch.target is batch.labels
    mixture = torch.full((8, 8), 1 / 8)
    assert replace(batch, mixture=mixture).target is mixture
    assert len(batch) == 8


class Failing(Telling):
    """One image cannot be read; one takes its process with it; one meets a fault of ours."""

    def __init__(self, how):
        super().__init__(16)
        self.how = how

    def read(self, number):
        if number == 11:
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise DataError("a.JPEG cannot be decoded") if self.how == "corrupt" else RuntimeError("a fault")
        return super().read(number)


@WORKERS
@pytest.mark.parametrize("which", ["epoch", "all"])
def test_an_image_that_cannot_be_read_is_one_line(workers, which):
    data = data_of(Failing("corrupt"), workers=workers)
    with pytest.raises(DataError, match=r"\Aa\.JPEG cannot be decoded\Z"):
        list(data.epoch(0, 0, Share()) if which == "epoch" else data.all(Share()))


def test_a_process_that_was_killed_is_one_line():
    data = data_of(Failing("killed"), workers=2)
    line = r"\Aa process that decodes images ended \(DataLoader worker \(pid.*\): lower train\.workers\Z"
    with pytest.raises(AdvalignError, match=line) as caught:
        list(data.epoch(0, 0, Share()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])  # torch waits 5 s for the other one
def test_a_fault_of_ours_keeps_its_traceback(workers):
    with pytest.raises(RuntimeError, match="a fault"):
        list(data_of(Failing("fault"), workers=workers).epoch(0, 0, Share()))


@pytest.mark.parametrize(
    ("values", "images", "ranks", "line"),
    [
        ({"batch_size": 9}, 8, 1, "train.batch_size 9 is larger than the 8 training images: lower it"),
        (
            {"batch_size": 6},
            8,
            4,
            "train.batch_size 6 cannot be divided by 4 processes x 1 parts (train.accumulate): choose a multiple",
        ),
        (
            {"batch_size": 8, "accumulate": 3},
            8,
            2,
            "train.batch_size 8 cannot be divided by 2 processes x 3 parts (train.accumulate): choose a multiple",
        ),
        (
            {"batch_size": 12, "accumulate": 2, "mixup": 0.2},
            12,
            2,
            "mixup and cutmix pair images: 12 / 4 parts leaves an odd number in each: change batch_size",
        ),
        (
            {"batch_size": 3, "cutmix": 1.0},
            12,
            1,
            "mixup and cutmix pair images: 3 / 1 parts leaves an odd number in each: change batch_size",
        ),
    ],
)
def test_a_batch_that_cannot_be_served_is_refused(values, images, ranks, line):
    with pytest.raises(InputError, match=rf"\A{re.escape(line)}\Z"):
        check_batch(WANTED.model_copy(update=values), images, ranks)


@pytest.mark.parametrize(
    ("values", "images", "ranks"),
    [
        ({}, 8, 1),
        ({"accumulate": 2}, 9, 4),
        ({"accumulate": 2, "mixup": 0.2, "cutmix": 1.0}, 8, 2),
        ({"batch_size": 3}, 3, 3),
    ],
)
def test_a_batch_that_can_be_served_is_not(values, images, ranks):
    check_batch(WANTED.model_copy(update=values), images, ranks)


@pytest.mark.parametrize("augmentation", ["shift", "crop"])
def test_a_batch_lies_in_memory_as_usual(augmentation):
    """Another layout is summed in another order, and a training amplifies that to other weights."""
    for batch in data_of(Telling(), augmentation=augmentation, size=64).epoch(0, 0, Share()):
        assert batch.images.is_contiguous()
        assert batch.heatmaps.is_contiguous()
