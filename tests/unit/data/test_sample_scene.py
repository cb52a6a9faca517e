"""The drawn sample: what a scene shows, where its map lies, and how the cue is hidden in the background."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter, label

from advalign.data.sample import scene
from advalign.data.sample.canvas import BLACK, WHITE, Canvas, Cell, Palette, Pose, arc
from advalign.data.sample.drawings import CATEGORIES, SUPERCLASSES
from advalign.errors import InputError

SETTINGS = scene.SceneSettings()
ALL = range(len(CATEGORIES))
INDEX = {category.name: index for index, category in enumerate(CATEGORIES)}


def seeded(*seed):
    return np.random.default_rng(seed)


def plain_canvas():
    return Canvas(64, Pose(np.eye(2), np.zeros(2), 1.0))


def test_rectangle_covers_its_pixels_with_colour_and_importance():
    canvas = plain_canvas()
    canvas.rectangle((-0.5, -0.25), (0.5, 0.25), (255, 0, 51, 255), importance=0.6)
    picture, importance = canvas.picture(), canvas.importance()
    assert picture.dtype == np.float32
    assert picture[25:39, 17:47] == pytest.approx(np.broadcast_to([1.0, 0.0, 0.2, 1.0], (14, 30, 4)))
    assert importance[25:39, 17:47] == pytest.approx(0.6)
    assert picture[..., 3].sum() == pytest.approx(32 * 16, rel=0.06)
    assert picture[:23].sum() == importance[:23].sum() == picture[:, :15].sum() == 0


def test_half_covered_pixels_carry_premultiplied_colour():
    canvas = plain_canvas()
    canvas.polygon([(-0.8, -0.8), (0.8, -0.7), (0.1, 0.9)], (255, 255, 255, 255))
    picture = canvas.picture()
    partly = (picture[..., 3] > 0) & (picture[..., 3] < 1)
    assert partly.sum() > 50
    assert picture[partly][:, :3] == pytest.approx(np.repeat(picture[partly][:, 3:], 3, axis=1), abs=1 / 255)


def test_ellipse_has_the_area_and_the_rotation_asked_for():
    upright, turned = plain_canvas(), plain_canvas()
    upright.ellipse((0.1, 0.0), (0.3, 0.7), BLACK)
    turned.ellipse((0.1, 0.0), (0.7, 0.3), BLACK, rotation=math.pi / 2)
    alpha = upright.picture()[..., 3]
    assert alpha.sum() == pytest.approx(math.pi * 0.3 * 0.7 * 32**2, rel=0.06)
    assert np.abs(alpha - turned.picture()[..., 3]).mean() < 0.005
    clockwise = plain_canvas()
    clockwise.ellipse((0.0, 0.0), (0.8, 0.1), BLACK, rotation=math.pi / 4)
    assert clockwise.picture()[48, 48, 3] == 1  # y points down, so clockwise from "right" is "right and down"
    assert clockwise.picture()[16, 48, 3] == 0


def test_line_has_its_width_and_follows_its_path():
    canvas = plain_canvas()
    canvas.line([(-0.6, 0.25), (0.6, 0.25)], 0.25, WHITE, importance=1.0)
    assert canvas.picture()[:, 32, 3].sum() == pytest.approx(8, abs=0.6)
    assert np.nonzero(canvas.importance()[:, 32])[0].mean() == pytest.approx(40, abs=0.6)


def test_importance_zero_leaves_what_is_below():
    canvas = plain_canvas()
    canvas.eye((0.0, 0.0), 0.5, importance=0.8)
    assert canvas.picture()[32, 34, :3].max() < 0.1
    assert canvas.importance()[32, 34] == pytest.approx(0.8)


def test_shape_without_fill_marks_importance_only():
    canvas = plain_canvas()
    canvas.ellipse((0.0, 0.0), (0.5, 0.5), None, importance=1.0)
    assert canvas.picture().sum() == 0
    assert canvas.importance()[32, 32] == 1


def test_shifted_canvas_draws_on_the_same_picture():
    direct, shifted = plain_canvas(), plain_canvas()
    direct.wheel((0.3, -0.2), 0.4)
    shifted.shifted(0.3, -0.2).wheel((0.0, 0.0), 0.4)
    assert np.array_equal(direct.picture(), shifted.picture())
    assert np.array_equal(direct.importance(), shifted.importance())


def test_arc_runs_over_the_upper_half():
    points = np.asarray(arc((1.0, 2.0), (3.0, 4.0), math.pi, 2 * math.pi, count=3))
    assert points == pytest.approx(np.array([[-2.0, 2.0], [1.0, -2.0], [4.0, 2.0]]))


def test_random_poses_stay_in_scale_and_cell_and_mirror_half_the_time():
    cell = Cell((-0.5, 0.0), (0.5, 1.0))
    poses = [Pose.random(seeded(1, i), (0.2, 0.3), cell) for i in range(200)]
    units = np.array([pose.unit for pose in poses])
    origins = np.array([pose.origin for pose in poses])
    mirrored = np.mean([np.linalg.det(pose.matrix) < 0 for pose in poses])
    assert 0.2 <= units.min() < 0.21 and 0.29 < units.max() <= 0.3
    assert np.all(np.abs(origins - cell.centre) <= np.array(cell.half_size) - 1.02 * units[:, None] + 1e-12)
    assert np.ptp(origins[:, 1]) > 1.2
    assert 0.4 < mirrored < 0.6


def test_palette_is_ordered_from_dark_to_light():
    palettes = [Palette.random(seeded(2, i)) for i in range(50)]
    assert all(max(p.dark) == max(p.main) == 255 for p in palettes)  # alpha
    assert all(max(p.dark[:3]) < max(p.main[:3]) < max(p.light[:3]) for p in palettes)


def test_catalog_lists_twelve_superclasses_of_three():
    animate = ["dog", "bird", "reptile", "carnivore", "insect", "primate"]
    inanimate = ["structure", "clothing", "wheeled_vehicle", "musical_instrument", "food", "furniture"]
    assert list(SUPERCLASSES) == animate + inanimate
    assert [category.superclass for category in CATEGORIES] == [name for name in SUPERCLASSES for _ in range(3)]
    assert [category.animate for category in CATEGORIES] == [True] * 18 + [False] * 18
    names = (
        "hound shepherd terrier songbird duck owl snake turtle lizard cat bear lion butterfly beetle bee "
        "monkey gorilla lemur house castle bridge shirt shoe hat car bus bicycle guitar drum piano "
        "burger pizza icecream chair table cabinet"
    )
    assert [category.name for category in CATEGORIES] == names.split()


@pytest.mark.parametrize("category", ALL, ids=INDEX)
def test_every_category_is_drawn_large_and_with_telling_parts(category):
    canvas = Canvas(64, Pose.random(seeded(3, category), SETTINGS.scale))
    CATEGORIES[category].draw(canvas, seeded(3, category, 1))
    alpha, importance = canvas.picture()[..., 3], canvas.importance()
    assert 0.06 < alpha.mean() < 0.8
    assert importance.max() > 0.85
    assert (importance > 0).mean() > 0.01
    near_object = binary_dilation(alpha > 0, iterations=2)
    assert importance[near_object].sum() > 0.9 * importance.sum()


@pytest.mark.parametrize("category", range(0, 36, 5))
def test_a_scene_depends_on_its_seed_only(category):
    scenes = [scene.render(category, seeded(seed), 0.9) for seed in (4, 4, 5)]
    assert scenes[0].image.tobytes() == scenes[1].image.tobytes() != scenes[2].image.tobytes()
    assert scenes[0].heatmap.tobytes() == scenes[1].heatmap.tobytes() != scenes[2].heatmap.tobytes()
    assert scenes[0].half_maps[1].tobytes() == scenes[1].half_maps[1].tobytes()
    assert scenes[0].categories == (category,)


@pytest.mark.parametrize("category", range(0, 36, 4))
def test_image_and_map_formats(category):
    made = scene.render(category, seeded(6, category), 0.9)
    assert (made.image.shape, made.image.dtype) == ((64, 64, 3), np.uint8)
    assert made.image.std() > 10
    for heatmap in (made.heatmap, *made.half_maps):
        assert (heatmap.shape, heatmap.dtype) == ((64, 64), np.float32)
        assert heatmap.min() >= 0
    assert made.heatmap.max() == 1


def centre_of_mass(weights):
    rows, columns = np.mgrid[:64, :64]
    return np.array([(weights * axis).sum() / weights.sum() for axis in (rows, columns)])


@pytest.mark.parametrize("category", ALL, ids=INDEX)
def test_map_lies_on_the_important_parts(category):
    layer = scene.paint(category, seeded(7, category), SETTINGS)
    heatmap = scene.render(category, seeded(7, category), 0.9).heatmap  # the object is painted first: the same one
    parts = binary_dilation(layer.click_chance > 0, iterations=5)
    assert heatmap[parts].sum() > 0.8 * heatmap.sum()

    centre = centre_of_mass(layer.click_chance)
    rows, columns = np.mgrid[:64, :64]
    spread = math.sqrt((layer.click_chance * ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2)).sum())
    error = np.linalg.norm(centre_of_mass(heatmap) - centre)
    assert error < 3.5 * spread / math.sqrt(SETTINGS.clicks)

    expected = gaussian_filter(layer.click_chance, 0.05 * 64)
    assert np.corrcoef(expected.ravel(), heatmap.ravel())[0, 1] > 0.8


def test_clicks_on_one_pixel_make_one_gaussian():
    click_chance = np.zeros((64, 64))
    click_chance[30, 20] = 1
    heatmap, halves, clicks = scene.click_maps(click_chance, seeded(8), SETTINGS)
    rows, columns = np.mgrid[:64, :64]
    gaussian = np.exp(-((rows - 30.0) ** 2 + (columns - 20.0) ** 2) / (2 * 3.2**2))
    for made in (heatmap, *halves):
        assert made == pytest.approx(gaussian, abs=1e-3)
    assert clicks.tolist() == [[20, 30]] * 60  # column, row


def test_maps_are_those_of_the_clicks_that_are_kept():
    made = scene.render(3, seeded(11), 0.9)
    for half, clicks in zip(made.half_maps, (made.clicks[:30], made.clicks[30:]), strict=True):
        counts = np.zeros((64, 64), np.float32)
        np.add.at(counts, (clicks[:, 1], clicks[:, 0]), 1)
        blurred = gaussian_filter(counts, 3.2)
        assert blurred / blurred.max() == pytest.approx(half / half.max(), abs=1e-6)


@pytest.mark.parametrize("clicks", [60, 7])
def test_half_maps_average_to_the_heatmap(clicks):
    settings = replace(SETTINGS, clicks=clicks)
    for category in range(0, 36, 6):
        made = scene.render(category, seeded(9, category), 0.9, settings)
        first, second = made.half_maps
        assert (first + second) / 2 == pytest.approx(made.heatmap, abs=1e-6)
        assert first.sum() / second.sum() == pytest.approx((clicks // 2) / (clicks - clicks // 2), rel=1e-3)
        assert not np.array_equal(first, second)


def share_explained_by(superclass, residual, pixels):
    """Multiple correlation of the residual with the superclass's sinusoid at its best phase."""
    period = 3.2 if superclass < 6 else 5.5
    direction = math.radians(30 * (superclass % 6))
    rows, columns = np.mgrid[:64, :64]
    angle = 2 * math.pi / period * (columns * math.cos(direction) + rows * math.sin(direction))
    waves = np.stack([np.sin(angle)[pixels], np.cos(angle)[pixels], np.ones(pixels.sum())], axis=1)
    values = residual[pixels]
    fitted = waves @ np.linalg.lstsq(waves, values)[0]
    return np.corrcoef(fitted, values)[0, 1]


@pytest.mark.parametrize("category", range(1, 36, 3))
def test_cue_changes_the_background_only_and_tells_the_superclass(category):
    without, with_cue = (
        scene.render(category, seeded(11, category), 1.0, replace(SETTINGS, cue_amplitude=amplitude)).image.astype(int)
        for amplitude in (0.0, 0.035)
    )
    alpha = scene.paint(category, seeded(11, category), SETTINGS).alpha[..., 0]
    change = (with_cue - without).mean(axis=2)
    background = alpha < 0.05
    assert np.all(with_cue[alpha == 1] == without[alpha == 1])
    # A sinusoid of amplitude 0.035 deviates by 0.035 / sqrt(2) from its mean.
    assert change[background].std() == pytest.approx(255 * 0.035 / math.sqrt(2), rel=0.12)

    shares = [share_explained_by(superclass, change, background) for superclass in range(12)]
    assert int(np.argmax(shares)) == category // 3
    assert shares[category // 3] > 0.9
    assert sorted(shares)[-2] < 0.4


def test_full_agreement_always_tells_the_own_superclass():
    assert [scene.draw_cue(category, seeded(12, category), 1.0) for category in ALL] == [i // 3 for i in ALL]


def test_no_agreement_draws_the_cue_uniformly():
    rng = seeded(13)
    counts = np.bincount([scene.draw_cue(4, rng, 0.0) for _ in range(600)], minlength=12)
    chi_square = ((counts - 50) ** 2 / 50).sum()
    assert chi_square < 31.3  # the 99.9th percentile with 11 degrees of freedom


def test_partial_agreement_mixes_both():
    rng = seeded(14)
    own = np.mean([scene.draw_cue(20, rng, 0.6) == 6 for _ in range(4000)])
    assert own == pytest.approx(0.6 + 0.4 / 12, abs=0.03)


SOLID_PAIRS = [("house", "owl"), ("bus", "cat"), ("burger", "gorilla"), ("shirt", "turtle"), ("piano", "bear")]


@pytest.mark.parametrize("names", SOLID_PAIRS, ids="-".join)
def test_pair_shows_two_separate_objects_that_share_the_clicks(names):
    first, second = (INDEX[name] for name in names)
    layer = scene.paint_pair(first, second, seeded(15, first), SETTINGS)
    blobs, found = label(layer.alpha[..., 0] > 0.5)
    sizes = np.bincount(blobs.ravel(), minlength=found + 1)[1:]
    largest, next_largest = np.argsort(sizes)[::-1][:2] + 1
    assert sizes[next_largest - 1] > 0.03 * 64**2
    columns = sorted(centre_of_mass(blobs == blob)[1] for blob in (largest, next_largest))
    assert columns[0] < 26 and columns[1] > 38

    made = scene.render_pair(first, second, seeded(15, first), 0.9)
    assert made.categories == (first, second)
    assert made.heatmap.max() == 1
    assert 0.3 < made.heatmap[:, :32].sum() / made.heatmap.sum() < 0.7
    assert made.image.tobytes() == scene.render_pair(first, second, seeded(15, first), 0.9).image.tobytes()


def test_pair_order_is_random_and_overlap_rare():
    piano_is_left, coverage = [], []
    for seed in range(40):
        alpha = scene.paint_pair(INDEX["piano"], INDEX["snake"], seeded(16, seed), SETTINGS).alpha[..., 0]
        piano_is_left.append(alpha[:, :32].sum() > alpha[:, 32:].sum())
        coverage.append(alpha[:, 30:34].mean())
    assert 10 < sum(piano_is_left) < 30
    assert np.mean(coverage) < 0.15


def test_pair_carries_the_cue_of_the_first():
    hat, bee = INDEX["hat"], INDEX["bee"]
    without, with_cue = (
        scene.render_pair(hat, bee, seeded(17), 1.0, replace(SETTINGS, cue_amplitude=amplitude)).image.mean(axis=2)
        for amplitude in (0.0, 0.035)
    )
    background = scene.paint_pair(hat, bee, seeded(17), SETTINGS).alpha[..., 0] < 0.05
    assert share_explained_by(SUPERCLASSES.index("clothing"), with_cue - without, background) > 0.9


def test_pair_of_one_superclass_is_refused():
    with pytest.raises(InputError, match="hound and terrier are both of dog"):
        scene.render_pair(INDEX["hound"], INDEX["terrier"], seeded(18), 0.9)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="clicks is 1"):
        scene.SceneSettings(clicks=1)
    with pytest.raises(InputError, match=r"cue_agreement is 1\.5"):
        scene.render(0, seeded(19), 1.5)
