"""Augmentation: image and map are moved together, by the position's draw alone; colours are changed of images only."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps

from advalign.data.augmentation import Crop, Pad, Sample, Shift, create_augmentation
from advalign.data.centre_crop import centre_crop
from advalign.settings import TrainSettings

QUICK = settings(max_examples=60, deadline=None)
CROPPED = TrainSettings(size=48, augmentation="crop")
SIZES = [(256, 256), (180, 300), (300, 120), (40, 50)]
DRAWS = [torch.tensor([seed]) for seed in (0, 1, 2, 3, 77, 2**31 - 1)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def picture(height, width):
    """Smooth, so that float32 maps are not resized beyond what bytes hold."""
    return np.asarray(Image.fromarray(noise(height, width)).filter(ImageFilter.GaussianBlur(3)))


def telling(height, width):
    """An image whose red channel is its map; green and blue are other functions of it."""
    heatmap = picture(height, width)
    return Sample(np.stack([heatmap, heatmap // 2, 255 - heatmap], -1), heatmap, 5)


def crop(**values):
    return Crop(CROPPED.model_copy(update=values))


def global_states():
    return random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()


def test_the_settings_choose():
    assert create_augmentation(TrainSettings(size=32, shift=3)) == Shift(32, 3)
    assert create_augmentation(TrainSettings(size=32, augmentation="pad", flip=False)) == Pad(32, 4, flip=False)
    assert isinstance(create_augmentation(CROPPED), Crop)


def padded_and_cut(pixels, mirrored, top, left, margin=9):
    """The shift by other means: mirror, repeat the edges outwards, cut a window that lies off the centre."""
    height, width = pixels.shape[:2]
    mirror = pixels[:, ::-1] if mirrored else pixels
    padded = np.pad(mirror, [(margin, margin)] * 2 + [(0, 0)] * (pixels.ndim - 2), mode="edge")
    return padded[margin + top : margin + top + height, margin + left : margin + left + width]


@QUICK
@given(
    mirrored=st.booleans(),
    top=st.integers(-9, 9),
    left=st.integers(-9, 9),
    kind=st.sampled_from([np.uint8, np.float32, None]),
)
def test_shift_against_padding_and_cutting(mirrored, top, left, kind):
    image, heatmap = noise(8, 8, 3), None if kind is None else noise(8, 8).astype(kind)
    found = Shift(8, 9)(Sample(image, heatmap, 5), torch.tensor([mirrored, top, left]))
    assert found.label == 5
    assert found.image.dtype == np.uint8
    assert np.array_equal(found.image, padded_and_cut(image, mirrored, top, left))
    if kind is None:
        assert found.heatmap is None
    else:
        assert found.heatmap.dtype == kind
        assert np.array_equal(found.heatmap, padded_and_cut(heatmap, mirrored, top, left))


def test_shift_brings_an_image_of_another_size_to_the_networks_first():
    image, heatmap = noise(30, 50, 3), noise(30, 50)
    found = Shift(16, 2)(Sample(image, heatmap, 0), torch.tensor([1, -2, 1]))
    assert np.array_equal(found.image, padded_and_cut(centre_crop(image, 16, 1.0), 1, -2, 1))
    assert np.array_equal(found.heatmap, padded_and_cut(centre_crop(heatmap, 16, 1.0), 1, -2, 1))


def test_shift_draws_one_shift_per_batch_in_reach_and_mirrors_half_of_the_images():
    draws = Shift(8, 2).draws(300, 4, generator()).reshape(300, 4, 3)
    assert torch.equal(draws[:, :, 1:], draws[:, :1, 1:].expand(-1, 4, -1))
    assert {tuple(shift) for shift in draws[:, 0, 1:].tolist()} == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}
    assert set(draws[..., 0].unique().tolist()) == {0, 1}
    assert 500 < int(draws[..., 0].sum()) < 700
    assert 0 < int((draws[:, 0, 0] != draws[:, 1, 0]).sum()) < 300  # image by image, not batch by batch


def test_without_shift_images_are_mirrored_only():
    draws = Shift(8, 0).draws(50, 4, generator())
    assert not draws[:, 1:].any()
    assert 70 < int(draws[:, 0].sum()) < 130
    image = noise(8, 8, 3)
    for draw in draws[:20]:
        found = Shift(8, 0)(Sample(image, None, 0), draw).image
        assert np.array_equal(found, image[:, ::-1] if draw[0] else image)


@QUICK
@given(mirrored=st.booleans(), top=st.integers(-3, 3), left=st.integers(-3, 3), mapped=st.booleans())
def test_pad_fills_with_black(mirrored, top, left, mapped):
    """By hand, pixel by pixel: what lies outside of the mirrored image is 0, of image and map alike."""
    image, heatmap = noise(8, 8, 3), noise(8, 8) if mapped else None
    found = Pad(8, 3)(Sample(image, heatmap, 5), torch.tensor([mirrored, top, left]))
    for pixels, moved in ((image, found.image), (heatmap, found.heatmap)):
        if pixels is None:
            assert moved is None
            continue
        assert moved.shape == pixels.shape
        mirror = pixels[:, ::-1] if mirrored else pixels
        for row in range(8):
            for column in range(8):
                inside = 0 <= row + top < 8 and 0 <= column + left < 8
                assert np.array_equal(
                    moved[row, column], mirror[row + top, column + left] if inside else 0 * mirror[0, 0]
                )


def test_pad_draws_a_shift_for_each_image():
    draws = Pad(8, 2).draws(300, 4, generator()).reshape(300, 4, 3)
    assert {tuple(shift) for shift in draws[..., 1:].flatten(0, 1).tolist()} == {
        (y, x) for y in range(-2, 3) for x in range(-2, 3)
    }
    assert (draws[:, 0, 1:] != draws[:, 1, 1:]).any(1).double().mean() > 0.9  # alike in 1 of 25
    assert 500 < int(draws[..., 0].sum()) < 700


@pytest.mark.parametrize("kind", [Shift, Pad])
def test_without_flip_nothing_is_mirrored(kind):
    draws = kind(8, 2, flip=False).draws(50, 4, generator())
    assert not draws[:, 0].any()
    assert draws[:, 1:].any()


def test_without_flip_crops_are_not_mirrored():
    """An image whose left is dark and right is bright keeps that order in every crop."""
    ramp = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[None], 64, 0)
    sample = Sample(np.stack([ramp] * 3, -1), ramp, 0)
    rises = {flip: [] for flip in (True, False)}
    for flip, found in rises.items():
        augmentation = crop(flip=flip)
        for seed in range(20):
            image = augmentation(sample, torch.tensor([seed])).image[:, :, 0].astype(int)
            found.append(image[:, -1].mean() > image[:, 0].mean())
    assert all(rises[False])
    assert 0 < sum(rises[True]) < 20


@pytest.mark.parametrize("augmentation", [Shift(48, 2), Pad(48, 2), crop()])
def test_draws_are_the_generators_and_the_first_batches_do_not_depend_on_how_many_follow(augmentation):
    draws = augmentation.draws(7, 4, generator(3))
    assert draws.dtype == torch.int64
    assert len(draws) == 28
    assert torch.equal(augmentation.draws(7, 4, generator(3)), draws)
    assert torch.equal(augmentation.draws(2, 4, generator(3)), draws[:8])
    assert not torch.equal(augmentation.draws(7, 4, generator(4)), draws)
    assert augmentation.draws(0, 4, generator(3)).shape == (0, draws.shape[1])


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_crop_moves_image_and_map_alike(height, width):
    sample, augmentation = telling(height, width), crop()
    prepared = Sample(sample.image, (sample.heatmap / 255).astype(np.float32), 5)
    for draw in DRAWS:
        found, smooth = augmentation(sample, draw), augmentation(prepared, draw)
        assert found.image.shape == (48, 48, 3)
        assert found.image.dtype == found.heatmap.dtype == np.uint8
        assert found.label == smooth.label == 5
        assert np.array_equal(found.image[..., 0], found.heatmap)
        assert smooth.heatmap.dtype == np.float32
        assert smooth.heatmap.shape == (48, 48)
        assert np.array_equal(smooth.image, found.image)
        assert np.abs(smooth.heatmap * 255 - found.image[..., 0]).max() < 2  # Pillow rounds bytes twice


def test_crop_does_to_an_image_without_a_map_what_it_does_to_one_with():
    sample, augmentation = telling(180, 300), crop(color_jitter=0.4)
    for draw in DRAWS:
        alone = augmentation(Sample(sample.image, None, 5), draw)
        assert alone.heatmap is None
        assert np.array_equal(alone.image, augmentation(sample, draw).image)


@pytest.mark.parametrize("smallest", [0.08, 0.5])
def test_crop_cuts_as_much_as_the_settings_say_and_mirrors_half(smallest):
    """Red counts rows and green counts columns, so that the cut can be read off the result."""
    side, size = 255, 64
    rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    image = np.stack([rows, columns, rows * 0], -1).astype(np.uint8)
    augmentation = crop(size=size, smallest_crop=smallest)
    areas, ratios, mirrored = [], [], 0
    for seed in range(300):
        found = augmentation(Sample(image, None, 0), torch.tensor([seed])).image.astype(float)
        inner = slice(4, -4)  # at the rim the filter sees no more than the cut
        height = np.polyfit(np.arange(size)[inner], found[inner, size // 2, 0], 1)[0] * size
        width = np.polyfit(np.arange(size)[inner], found[size // 2, inner, 1], 1)[0] * size
        mirrored += width < 0
        areas.append(height * abs(width) / side**2)
        ratios.append(abs(width) / height)
    assert smallest * 0.95 < min(areas) < smallest + 0.1
    assert 0.85 < max(areas) < 1.02
    assert 0.74 < min(ratios) < 0.8
    assert 1.25 < max(ratios) < 1.36
    assert 120 < mirrored < 180


def test_the_whole_of_a_square_image_is_kept_where_no_smaller_crop_is_allowed():
    sample, augmentation = telling(48, 48), crop(smallest_crop=1.0)
    seen = set()
    for seed in range(40):
        found = augmentation(sample, torch.tensor([seed]))
        mirrored = not np.array_equal(found.image, sample.image)
        way = slice(None, None, -1 if mirrored else 1)
        assert np.array_equal(found.image, sample.image[:, way])
        assert np.array_equal(found.heatmap, sample.heatmap[:, way])
        seen.add(mirrored)
    assert seen == {False, True}


RECOLOURED = [{"color_jitter": 0.4}, {"three_augment": True}, {"color_jitter": 0.4, "three_augment": True}]


@pytest.mark.parametrize("values", RECOLOURED)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_colours_are_changed_of_the_image_and_never_of_the_map(values, kind):
    sample = telling(180, 300)
    sample = Sample(sample.image, sample.heatmap.astype(kind), 5)
    for draw in DRAWS:
        plain, coloured = crop()(sample, draw), crop(**values)(sample, draw)
        assert np.array_equal(coloured.heatmap, plain.heatmap)
        assert coloured.image.shape == plain.image.shape
        assert coloured.image.dtype == np.uint8
        assert not np.array_equal(coloured.image, plain.image)


def test_three_augment_is_grey_or_solarised_or_blurred():
    sample = telling(180, 300)
    counts = dict.fromkeys(("grey", "solarised", "blurred"), 0)
    for seed in range(60):
        draw = torch.tensor([seed])
        moved = Image.fromarray(crop()(sample, draw).image)
        found = crop(three_augment=True)(sample, draw).image
        if np.array_equal(found, np.asarray(moved.convert("L").convert("RGB"))):
            counts["grey"] += 1
        elif np.array_equal(found, np.asarray(ImageOps.solarize(moved, 128))):
            counts["solarised"] += 1
        else:
            blurs = [moved.filter(ImageFilter.GaussianBlur(tenths / 10)) for tenths in range(1, 21)]
            assert min(np.abs(np.asarray(blur, int) - found).max() for blur in blurs) <= 8
            counts["blurred"] += 1
    assert min(counts.values()) > 8


@pytest.mark.parametrize("values", [{}, *RECOLOURED])
def test_the_same_draw_gives_the_same_bytes_another_draw_others(values):
    sample, augmentation = telling(180, 300), crop(**values)
    first = [augmentation(sample, draw) for draw in DRAWS]
    random.seed(5)
    torch.manual_seed(5)
    again = [crop(**values)(sample, draw) for draw in reversed(DRAWS)][::-1]
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.heatmap, other.heatmap)
    assert len({one.image.tobytes() for one in first}) == len({one.heatmap.tobytes() for one in first}) == len(DRAWS)


@pytest.mark.parametrize("values", [{}, *RECOLOURED])
def test_the_global_random_states_are_as_before(values):
    np.random.normal()  # numpy keeps the second of two normal numbers, which is part of its state
    before, numpys = global_states(), np.random.get_state()[2:]
    for draw in DRAWS:
        crop(**values)(telling(40, 50), draw)
    assert global_states() == before
    assert np.random.get_state()[2:] == numpys


def test_the_global_random_states_are_as_before_also_after_a_failure():
    before = global_states()
    with pytest.raises(TypeError):
        crop()(Sample(np.zeros((4, 4, 3), complex), None, 0), DRAWS[0])
    assert global_states() == before
