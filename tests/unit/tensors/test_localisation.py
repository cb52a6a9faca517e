"""Scores of maps against masks, on maps made by hand."""

import math

import numpy as np
import pytest
import torch

from advalign.tensors.localisation import (
    at_resolution,
    centred,
    discs,
    expected_overlap,
    hits,
    overlap,
    salient_pixels,
    top,
)

SIDE = 20
SALIENT = 120  # 30 % of 400


def block(rows, columns):
    """A mask with the pixels of some rows and columns."""
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    mask[:, slice(*rows), slice(*columns)] = True
    return mask


def test_thirty_percent_are_salient():
    assert salient_pixels(SIDE, SIDE) == SALIENT
    assert int(top(torch.rand(3, SIDE, SIDE)).sum()) == 3 * SALIENT
    ramp = torch.arange(400.0).reshape(1, SIDE, SIDE)
    assert torch.equal(top(ramp)[0], torch.arange(400).reshape(SIDE, SIDE) >= 280)


def test_a_perfect_map_scores_one_where_the_mask_has_its_area():
    mask = block((0, 6), (0, 20))
    assert overlap(mask.float(), mask).tolist() == [1.0]
    assert hits(mask.float(), mask).tolist() == [1.0]


def test_a_perfect_map_of_another_area_scores_the_ratio_of_the_areas():
    small, large = block((5, 11), (5, 15)), block((0, 15), (0, 20))  # 60 and 300 pixels
    assert overlap(small.float(), small).item() == pytest.approx(60 / 120)
    assert overlap(large.float(), large).item() == pytest.approx(120 / 300)


def test_a_map_beside_the_mask_scores_zero():
    mask = block((0, 6), (0, 20))
    assert overlap(-mask.float(), mask).tolist() == [0.0]
    assert hits(-mask.float(), mask).tolist() == [0.0]


def test_the_scale_and_the_sign_of_a_map_do_not_matter_to_its_order():
    maps, mask = torch.rand(1, SIDE, SIDE), block((3, 12), (4, 16))
    assert overlap(maps, mask) == overlap(7 * maps - 100, mask)


def test_a_disc_is_centred_and_has_the_masks_area():
    masks = torch.cat([block((0, 6), (0, 20)), block((0, 2), (0, 3))])
    found = discs(masks)
    assert found.sum((1, 2)).tolist() == [120, 6]
    distance = -centred(SIDE, SIDE)[0]
    for disc in found:
        assert distance[disc].max() <= distance[~disc].min()
    assert overlap(centred(SIDE, SIDE), found[:1]).tolist() == [1.0]


@pytest.mark.parametrize(
    ("rows", "columns"), [((0, 6), (0, 20)), ((0, 1), (0, 1)), ((0, 20), (0, 19)), ((4, 16), (2, 9))]
)
def test_chance_is_the_mean_over_random_maps(rows, columns):
    mask = block(rows, columns)
    rng = torch.Generator().manual_seed(0)
    scores = overlap(torch.rand(4000, SIDE, SIDE, generator=rng), mask.expand(4000, -1, -1))
    error = float(scores.std()) / math.sqrt(4000)
    assert expected_overlap(mask).item() == pytest.approx(float(scores.mean()), abs=4 * error + 1e-12)


def test_chance_by_hand():
    """Of 10 pixels 3 are salient and 2 are the mask: 0, 1 or 2 of them in common."""
    mask = torch.tensor([[[1, 1, 0, 0, 0, 0, 0, 0, 0, 0]]]).bool()
    ways = [math.comb(2, both) * math.comb(8, 3 - both) / math.comb(10, 3) for both in range(3)]
    assert expected_overlap(mask).item() == pytest.approx(ways[1] * 1 / 4 + ways[2] * 2 / 3, abs=1e-14)


def test_the_ceiling_at_full_resolution_is_the_mask_itself():
    mask = block((3, 12), (4, 16))
    assert torch.equal(at_resolution(mask, (SIDE, SIDE)), mask.float())


def test_the_ceiling_of_a_coarse_grid_by_value():
    """20 pixels through 4 cells: means of 5x5 pixels, then bilinear between the cells' centres, in NumPy."""
    mask = block((5, 10), (5, 15))
    cells = mask[0].numpy().reshape(4, 5, 4, 5).mean((1, 3))
    assert cells.sum() == 2  # two cells are full
    at = np.clip((np.arange(SIDE) + 0.5) / 5 - 0.5, 0, 3)
    low = np.minimum(at.astype(int), 2)
    weights = np.zeros((SIDE, 4))
    weights[np.arange(SIDE), low] = 1 - (at - low)
    weights[np.arange(SIDE), low + 1] += at - low
    np.testing.assert_allclose(at_resolution(mask, (4, 4))[0].numpy(), weights @ cells @ weights.T, atol=1e-6)


def test_a_coarser_grid_allows_less():
    mask = block((3, 11), (4, 19))  # 120 pixels that no grid fits
    ceilings = [overlap(at_resolution(mask, (side, side)), mask).item() for side in (20, 10, 4, 2)]
    assert ceilings[0] == 1
    assert ceilings == sorted(ceilings, reverse=True)
    assert ceilings[-1] < 0.7
