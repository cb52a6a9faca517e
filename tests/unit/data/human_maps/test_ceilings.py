"""Ceilings, floors and bounds of simulated people whose agreement is known, and against independent computations."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).parent))
from populations import SIDE, clickers, fields, people

from advalign.data.human_maps import ceilings
from advalign.data.human_maps.curve import curves
from advalign.data.human_maps.sides import MEASURES, Sides, as_model, both_ways
from advalign.tensors.agreement import auc, clicked_pixels, emd, nss
from advalign.tensors.click_maps import Blur, click_maps
from advalign.tensors.ranks import rank_correlation


def estimate(maps, rng, splits=100, resamples=200):
    drawn = ceilings.random_halves(len(maps), splits, rng)
    return ceilings.ceiling(maps, ceilings.Halves.of(maps, drawn), drawn, resamples, rng)


def blurred(clicks):
    blur = Blur("gaussian", 13, 1.6)
    return click_maps(clicks, (SIDE, SIDE), SIDE, blur, (SIDE, SIDE), (SIDE, SIDE))


def test_measures_of_prepared_sides_are_those_of_the_maps():
    rng = np.random.default_rng(0)
    first, second = blurred(clickers(rng, fields(rng, 1)[0], 6)), blurred(clickers(rng, fields(rng, 1)[0], 6))
    found = as_model(Sides.of(first), Sides.of(second))
    flat, other = first.flatten(1), second.flatten(1)
    clicked = clicked_pixels(other)
    wanted = (rank_correlation(flat, other), auc(flat, clicked), nss(flat, clicked), emd(first, second))
    for measure, values in zip(MEASURES, wanted, strict=True):
        np.testing.assert_allclose(found[measure], values, atol=1e-5, err_msg=measure)
    back = as_model(Sides.of(second), Sides.of(first))
    both = both_ways(Sides.of(first), Sides.of(second), emd_first=2)
    np.testing.assert_allclose(both["auc"], (found["auc"] + back["auc"]) / 2)
    np.testing.assert_allclose(both["emd"], [*found["emd"][:2], *[np.nan] * 4])


def test_a_constant_map_agrees_with_nothing():
    flat, varied = torch.zeros(1, 8, 8), torch.arange(64.0).reshape(1, 8, 8)
    for pair in ((flat, varied), (varied, flat)):
        found = as_model(*map(Sides.of, pair))
        assert all(np.isnan(found[measure]).all() for measure in MEASURES)


def test_halves_are_random_and_of_half_the_participants():
    drawn = ceilings.random_halves(7, 4000, np.random.default_rng(0))
    assert (drawn.sum(1) == 3).all()
    assert np.abs(drawn.mean(0) - 3 / 7).max() < 4 * (3 / 7 * 4 / 7 / 4000) ** 0.5


@pytest.mark.parametrize("count", [6, 10, 20])
def test_the_ceiling_of_gaussian_fields_is_unbiased(count):
    """Against the agreement of independent groups of half the size, which is what a split half estimates.

    Spearman within 2 standard errors, the others within 3: nine comparisons are more than 2 off now and then.
    """
    rng = np.random.default_rng(count)
    differences = {"spearman": [], "auc": [], "nss": []}
    for _ in range(60):
        truth = fields(rng, 1)
        found = estimate(people(rng, truth, count, 0.3), rng, 30, 100)
        halves = [people(rng, truth, count // 2, 0.3).mean(0, keepdim=True) for _ in range(8)]
        independent = both_ways(*(Sides.of(torch.cat(part)) for part in (halves[::2], halves[1::2])))
        for measure, values in differences.items():
            values.append(found[f"{measure}_ceiling"] - independent[measure].mean())
    for measure, values in differences.items():
        most = (2 if measure == "spearman" else 3) * np.std(values, ddof=1) / len(values) ** 0.5
        assert abs(np.mean(values)) < most, measure


def test_spearman_brown_recovers_the_ceiling_of_the_full_number():
    rng = np.random.default_rng(3)
    differences = []
    for _ in range(60):
        truth = fields(rng, 1)
        corrected = ceilings.spearman_brown(estimate(people(rng, truth, 10, 0.3), rng, 30, 100)["spearman_ceiling"])
        full = [people(rng, truth, 10, 0.3).mean(0, keepdim=True) for _ in range(8)]
        pairs = (Sides.of(torch.cat(part)) for part in (full[::2], full[1::2]))
        differences.append(corrected - both_ways(*pairs)["spearman"].mean())
    assert abs(np.mean(differences)) < 2 * np.std(differences, ddof=1) / len(differences) ** 0.5


@pytest.mark.slow
def test_the_interval_covers_the_ceiling_of_all_possible_participants():
    rng = np.random.default_rng(1)
    truth = fields(rng, 1)[0]
    halves = [blurred(clickers(rng, truth, 10)).mean(0, keepdim=True) for _ in range(400)]
    expected = {
        m: v.mean() for m, v in both_ways(Sides.of(torch.cat(halves[::2])), Sides.of(torch.cat(halves[1::2]))).items()
    }
    found = [estimate(blurred(clickers(rng, truth, 20)), rng) for _ in range(60)]
    for measure, value in expected.items():
        low, high = (np.array([one[f"{measure}_ceiling_{end}"] for one in found]) for end in ("low", "high"))
        spread = np.std([one[f"{measure}_ceiling"] for one in found], ddof=1)
        assert np.sum((low <= value) & (value <= high)) >= 51, measure  # 95 % of 60 is 57; 51 is 3 SE lower
        assert 0.7 * spread < np.mean(high - low) / (2 * 1.96) < 1.5 * spread, measure


def test_bounds_are_those_of_nili_by_numpy():
    rng = np.random.default_rng(2)
    maps = blurred(clickers(rng, fields(rng, 1)[0], 7))
    flat = maps.flatten(1).double().numpy()
    lower = [spearmanr(one, np.delete(flat, place, 0).mean(0)).statistic for place, one in enumerate(flat)]
    upper = [spearmanr(one, flat.mean(0)).statistic for one in flat]
    columns, agreements = ceilings.bounds(maps)
    np.testing.assert_allclose(agreements, lower, atol=1e-4)  # float32 maps: sums round, and ranks of near ties differ
    np.testing.assert_allclose(ceilings.others_agreement(maps), agreements, atol=1e-4)
    assert columns["spearman_lower"] == pytest.approx(np.mean(lower), abs=1e-4)
    assert columns["spearman_upper"] == pytest.approx(np.mean(upper), abs=1e-4)
    assert columns["auc_lower"] < columns["auc_upper"]
    assert columns["emd_lower"] > columns["emd_upper"]  # a distance


def test_the_floor_is_the_agreement_with_another_image_half():
    rng = np.random.default_rng(4)
    sets = [blurred(clickers(rng, fields(rng, 1)[0], 8)) for _ in range(2)]
    drawn = [ceilings.random_halves(8, 20, rng) for _ in sets]
    one, other = (ceilings.Halves.of(maps, splits) for maps, splits in zip(sets, drawn, strict=True))
    first = [sets[0][split].mean(0).flatten().numpy() for split in drawn[0]]
    second = [sets[1][~split].mean(0).flatten().numpy() for split in drawn[1]]
    expected = np.mean([spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)])
    assert ceilings.floor(one, other)["spearman_floor"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("shared", [0.15, 0.3])
def test_ten_participants_predict_the_agreement_of_forty(shared):
    rng = np.random.default_rng(5)
    found = {measure: [] for measure in MEASURES}
    reached = []
    for _ in range(40):
        maps = people(rng, fields(rng, 1), 40, shared)
        reached.append(estimate(maps, rng, 20, 100)["spearman_ceiling"])
        for measure, values in ceilings.by_participants(maps[:10], rng).items():
            found[measure].append(values)
    curve = curves({m: np.array(v) for m, v in found.items()}, np.full(40, 10), seed=0)["spearman"]
    assert curve["participants"] == [2, 4, 6, 8, 10]
    forty = next(point for point in curve["extrapolated"] if point["participants"] == 40)
    assert forty["low"] < np.mean(reached) < forty["high"]
    assert forty["high"] - forty["low"] < 0.1


def test_a_curve_of_the_form_is_fitted_exactly():
    sizes = np.array(ceilings.SIZES[:5])
    spearman, ends = 1 / (1 + 3 / sizes**0.8), 2.0 / (1 + 4 / sizes)
    padding = [np.nan] * (len(ceilings.SIZES) - 5)
    values = {"spearman": spearman, "auc": (1 + spearman) / 2, "nss": ends, "emd": 0.4 * sizes**-0.5}
    curve = curves({m: np.array([[*v, *padding]] * 3) for m, v in values.items()}, np.full(3, 10), seed=0)
    assert curve["spearman"]["fit"] == pytest.approx({"L": 3.0, "B": 0.8})
    assert curve["auc"]["fit"] == pytest.approx({"L": 3.0, "B": 0.8})
    assert curve["nss"]["fit"] == pytest.approx({"A": 2.0, "L": 4.0})
    assert curve["emd"]["fit"] == pytest.approx({"L": 0.4, "B": 0.5})
    point = curve["spearman"]["extrapolated"][1]
    assert point == pytest.approx(
        {"participants": 20, **dict.fromkeys(("ceiling", "low", "high"), 1 / (1 + 3 / 20**0.8))}
    )


def test_the_curve_is_of_images_with_as_many_participants_as_half_of_them():
    values = np.full((4, len(ceilings.SIZES)), 0.5)
    values[0] = 0.9
    found = dict.fromkeys(MEASURES, values)
    curve = curves(found, np.array([5, 8, 8, 20]), seed=0)["spearman"]
    assert curve["participants"] == [2, 4, 6, 8]
    assert curve["ceiling"] == [0.5] * 4  # without the image that has 5
    assert curves(found, np.array([5]), seed=0) == {}
