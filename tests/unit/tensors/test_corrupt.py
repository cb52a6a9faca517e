"""The corruptions by value: against a computation image by image, and what the authors' script does unintendedly."""

from concurrent.futures import ProcessPoolExecutor
from functools import cache
from hashlib import sha256

import numpy as np
import pytest

from advalign.data.sample.cifar_world import WorldSettings, images_of
from advalign.errors import InputError
from advalign.tensors.corruptions import blur, frost_pictures, liquid, weather
from advalign.tensors.corruptions.apply import corrupt, corrupted
from advalign.tensors.corruptions.constants import (
    BENCHMARK,
    CONDITIONS,
    CONSTANTS,
    EXTRA,
    FAMILIES,
    NAMES,
    SEVERITIES,
    SIDE,
)
from advalign.tensors.corruptions.draws import Draws
from benchmarks import _corruptions_by_image as by_image

EXACT = (
    "defocus_blur", "zoom_blur", "gaussian_blur", "brightness", "contrast", "pixelate", "jpeg_compression", "saturate",
)  # fmt: skip
"""Corruptions without random numbers."""
TOLERANCES = {  # of PSNR in dB, of the mean in levels, and of the variance relative to itself
    **dict.fromkeys(("gaussian_noise", "shot_noise", "speckle_noise", "glass_blur"), (0.15, 0.4, 0.02)),
    "impulse_noise": (0.3, 0.4, 0.02),
    **dict.fromkeys(("motion_blur", "elastic_transform"), (0.6, 0.5, 0.04)),
    "snow": (0.6, 1.5, 0.04),
    **dict.fromkeys(("frost", "fog"), (1.0, 6.0, 0.08)),  # a draw decides a whole image; by value below
    "spatter": (0.6, 0.6, 0.02),
}
OF_WATER = ("spatter", 1), ("spatter", 2), ("spatter", 3)
BY_OPENCV = {1: (30.2, 134.9), 2: (25.9, 136.7), 3: (22.4, 141.1)}
"""Severity of spatter -> PSNR and mean of 24 drawn images, measured with OpenCV 5.0 (`by_image.water_by_opencv`)."""


@cache
def images():
    return np.stack([one.pixels for one in images_of("test", WorldSettings(scale=0.01))])


def told(found, clean):
    """PSNR, mean and variance, averaged over the images."""
    squares = np.square(found.astype(float) - clean).reshape(len(found), -1).mean(1)
    psnr = 10 * np.log10(255**2 / np.maximum(squares, 1e-3))
    return np.array([psnr.mean(), found.mean(), found.astype(float).reshape(len(found), -1).var(1).mean()])


def test_constants_by_value():
    assert len(NAMES) == 19
    assert len(BENCHMARK) == 15
    assert len(CONDITIONS) == 95
    assert set(EXTRA) == {"speckle_noise", "gaussian_blur", "spatter", "saturate"}
    assert sorted(name for members in FAMILIES.values() for name in members) == sorted(NAMES)
    assert {family: sum(name in BENCHMARK for name in members) for family, members in FAMILIES.items()} == {
        "noise": 3, "blur": 4, "weather": 4, "digital": 4,
    }  # fmt: skip
    assert [len(values) for values in CONSTANTS.values()] == [5] * 19
    assert CONSTANTS["jpeg_compression"] == (80, 65, 58, 50, 40)
    assert CONSTANTS["shot_noise"] == (500, 250, 100, 75, 50)
    assert CONSTANTS["snow"][4] == (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)
    assert CONSTANTS["spatter"][3] == (0.65, 0.1, 0.7, 0.69, 0.6, 1)
    plain = repr(
        sorted((name, [tuple(np.ravel(one).astype(float).tolist()) for one in CONSTANTS[name]]) for name in NAMES)
    )
    assert sha256(plain.encode()).hexdigest()[:16] == "4f7609dd0e2e10bf", "the constants were changed"


@pytest.mark.parametrize("name", EXACT)
def test_without_chance_as_image_by_image(name):
    generator = np.random.default_rng(0)
    for severity in SEVERITIES:
        found = corrupt(images(), name, severity).astype(int)
        wanted = np.stack([by_image.corrupted_one(one, name, severity, generator) for one in images()])
        assert np.abs(found - wanted).max() <= 1, severity  # fractions are cut off, so rounding moves a level
        assert (found != wanted).mean() < 0.2, severity
        assert told(found, images()) == pytest.approx(told(wanted, images()), rel=4e-3)


@pytest.mark.parametrize("name", TOLERANCES)
def test_with_chance_psnr_mean_and_variance_as_image_by_image(name):
    generator = np.random.default_rng(1)
    for severity in SEVERITIES:
        if (name, severity) in OF_WATER:
            continue
        wanted = np.stack([by_image.corrupted_one(one, name, severity, generator) for one in images()])
        found = np.mean([told(corrupt(images(), name, severity, seed), images()) for seed in range(2)], 0)
        off = np.abs(found - told(wanted, images())) / (1, 1, found[2])
        assert (off <= TOLERANCES[name]).all(), (severity, off)


@pytest.mark.parametrize("severity", BY_OPENCV)
def test_water_as_opencv_draws_it(severity):
    psnr, mean = BY_OPENCV[severity]
    found = told(corrupt(images()[:24], "spatter", severity), images()[:24])
    assert found[:2] == pytest.approx([psnr, mean], abs=0.6)


def test_edges_and_water_pixel_by_pixel_as_opencv():
    cv2 = pytest.importorskip("cv2")
    fields = weather.smoothed(0.65 + 0.1 * Draws(images(), "edges").normal(SIDE, SIDE), 0.8)
    drops = np.where(fields < 0.7, np.float32(0), fields)
    thickness = (255 * drops).astype(np.uint8)
    edges = np.stack([cv2.Canny(one, 50, 150) > 0 for one in thickness])
    assert edges.any()
    assert np.array_equal(liquid.canny(thickness), edges)
    wanted = np.stack([by_image.water_by_opencv(one) for one in drops])
    assert np.abs(liquid.water(drops) - wanted).mean() < 0.02


def test_edges_of_a_square_are_its_outline():
    field = np.zeros((1, 12, 12), np.uint8)
    field[0, 3:9, 3:9] = 200
    found = liquid.canny(field)[0]
    assert found[4:8, 4:8].sum() == 0
    assert found.any(1).nonzero()[0].tolist() == found.any(0).nonzero()[0].tolist()
    assert not found[:2].any()
    assert found[5].sum() == 2
    assert not liquid.canny(np.full((1, 8, 8), 90, np.uint8)).any()


def test_no_liquid_is_no_water():
    assert not liquid.water(np.zeros((2, SIDE, SIDE), np.float32)).any()


def test_alone_or_together_in_any_order_and_with_any_number_of_workers():
    """Whatever is corrupted beside it, an image's corrupted versions are the same bytes."""
    some = images()[:12]
    whole = corrupted(some, seed=3)
    order = np.random.default_rng(0).permutation(len(some))
    assert np.array_equal(corrupted(some[order], seed=3), whole[order])
    assert np.array_equal(corrupted(some[5:6], seed=3), whole[5:6])
    with ProcessPoolExecutor(4) as pool:
        parts = list(pool.map(corrupted, np.split(some, 4), [3] * 4))
    assert np.array_equal(np.concatenate(parts), whole)


def test_seed_severity_and_corruption_draw_afresh():
    one = images()[:1]
    grey = np.full_like(one, 128)
    noise = [
        corrupt(grey, name, severity, seed).astype(int) - 128
        for name, severity, seed in (("gaussian_noise", 1, 0), ("gaussian_noise", 1, 1), ("gaussian_noise", 2, 0))
    ]
    for place in (1, 2):
        assert abs(np.corrcoef(noise[0].ravel(), noise[place].ravel())[0, 1]) < 0.08
    other = corrupt(one, "gaussian_noise", 1).astype(int) - one
    assert abs(np.corrcoef(noise[0].ravel(), other.ravel())[0, 1]) < 0.08, "another image has other noise"


def test_glass_copies_from_above_and_the_left_where_the_script_means_to_exchange():
    """At severity 1 nothing is smoothed, so pixels that carry their place say where they came from."""
    places = np.zeros((64, SIDE, SIDE, 3), np.uint8)
    places[..., 0], places[..., 1] = np.mgrid[:SIDE, :SIDE]
    places[..., 2] = np.arange(64)[:, None, None]  # 64 images
    down, right = np.mgrid[:SIDE, :SIDE]

    def moves(as_meant):
        found = corrupt(places, "glass_blur", 1, 0, as_meant).astype(int)
        lists = [np.sort(one[..., 0] * SIDE + one[..., 1], axis=None) for one in found]
        return found[..., 0] - down, found[..., 1] - right, [np.array_equal(one, np.arange(SIDE**2)) for one in lists]

    by_rows, by_columns, permuted = moves(as_meant=False)
    assert {*np.unique(by_rows)} == {*np.unique(by_columns)} == {-1, 0}
    assert not any(permuted)
    assert by_rows[:, 2:, 2:].mean() == pytest.approx(-0.5, abs=0.01)
    assert not by_rows[:, :2].any()
    by_rows, by_columns, permuted = moves(as_meant=True)
    assert all(permuted)
    assert by_rows.min() == -1
    assert by_rows.max() > 1, "a pixel that went up is exchanged again"
    assert by_columns.min() < 0 < by_columns.max()


def test_exchanges_one_after_the_other():
    """The vectorised exchanges are those of a loop over pixels with the same random numbers."""
    draws = [Draws(images()[:3], "glass", as_meant=True) for _ in "ab"]
    found = blur._exchanged(3, 1, draws[0])
    moves = draws[1].integers(-1, 2, 900, 2)
    for member in range(3):
        order, step = np.arange(SIDE**2), 0
        for row in range(30, 0, -1):
            for column in range(30, 0, -1):
                here, there = (
                    row * SIDE + column,
                    (row + moves[member, step, 0]) * SIDE + column + moves[member, step, 1],
                )
                order[here], order[there] = order[there], order[here]
                step += 1
        assert np.array_equal(found[member], order)


def test_the_script_never_shows_the_sixth_picture_of_frost():
    pictures = frost_pictures.frost_pictures()
    black = np.zeros((400, SIDE, SIDE, 3), np.uint8)
    black[:, 0, 0, 0], black[:, 0, 0, 1] = np.arange(400) % 250, np.arange(400) // 250  # each draws for itself

    def picked(as_meant):
        draws = Draws(black, "0/frost/2")
        chosen, top, left = draws.integers(0, 6 if as_meant else 5), draws.integers(0, 88), draws.integers(0, 128)
        for place, image in enumerate(corrupt(black, "frost", 2, 0, as_meant)):
            part = pictures[chosen[place], top[place] : top[place] + SIDE, left[place] : left[place] + SIDE]
            wanted = black[place] + np.float32(0.3) * part
            assert np.array_equal(image, np.minimum(wanted, 255).astype(np.uint8))
        return {*chosen.tolist()}

    assert picked(as_meant=False) == {0, 1, 2, 3, 4}
    assert picked(as_meant=True) == {0, 1, 2, 3, 4, 5}
    assert len({one.tobytes() for one in pictures}) == 6


def test_elastic_at_severity_1_is_affine():
    """A linear ramp stays linear inside; at severity 2 it does not."""
    ramp = np.repeat(np.arange(64, 192, 4, dtype=np.uint8)[None, :, None, None], SIDE, 2).repeat(3, 3)
    curved = []
    for severity in (1, 2):
        inside = corrupt(ramp, "elastic_transform", severity)[0, 6:-6, 6:-6, 0].astype(float)
        curved.append(np.abs(np.diff(inside, 2, axis=0)).mean())
    assert curved[0] < 1, "fractions are cut off"
    assert curved[1] > 2 * curved[0]


def test_fog_is_the_fractal_of_a_loop_over_pixels():
    class Numbers:
        def __init__(self, drawn):
            self.drawn = iter(drawn.tolist())

        def uniform(self, low, high):
            return high * next(self.drawn)

    few = images()[:3]
    drawn = Draws(few, "fog").uniform(-1, 1, SIDE**2 - 1)
    for place, field in enumerate(weather.plasma(1.75, Draws(few, "fog"))):
        assert field == pytest.approx(by_image._plasma(1.75, Numbers(drawn[place])), abs=1e-5)


def test_grey_pixels_turn_reddish_where_saturation_is_added():
    grey = np.full((1, SIDE, SIDE, 3), 200, np.uint8)
    assert corrupt(grey, "saturate", 5)[0, 0, 0].tolist() == [200, 160, 160]
    assert corrupt(grey, "saturate", 3)[0, 0, 0].tolist() == [200, 200, 200]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((1, 32, 32, 3), np.uint8), "gausian_noise", 1), "unknown corruption 'gausian_noise'"),
        ((np.zeros((1, 32, 32, 3), np.uint8), "fog", 6), "severity is 6, expected 1, 2, 3, 4 or 5"),
        ((np.zeros((1, 64, 64, 3), np.uint8), "fog", 1), r"images are uint8 \(1, 64, 64, 3\), expected uint8 \(N, 32"),
        ((np.zeros((1, 32, 32, 3), np.float32), "fog", 1), "images are float32"),
    ],
)
def test_what_cannot_be_corrupted_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        corrupt(*arguments)
