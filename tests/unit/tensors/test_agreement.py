"""AUC, NSS and the earth mover's distance against brute force, linear programming, closed forms and values by hand."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from advalign.tensors.agreement import EMD_GRID, auc, clicked_pixels, emd, nss

RNG = np.random.default_rng(0)


def brute_auc(scores, clicked):
    wins = [(a > b) + 0.5 * (a == b) for a in scores[clicked] for b in scores[~clicked]]
    return np.mean(wins)


def linear_programme(first, second):
    """Earth mover's distance of grids (G, G) as a transport plan that linprog finds, in shares of the side."""
    grid = len(first)
    places = [((row + 0.5) / grid, (column + 0.5) / grid) for row in range(grid) for column in range(grid)]
    cost = [np.hypot(a[0] - b[0], a[1] - b[1]) for a in places for b in places]
    cells = grid * grid
    sent = np.kron(np.eye(cells), np.ones(cells))
    received = np.kron(np.ones(cells), np.eye(cells))
    masses = np.concatenate([(first / first.sum()).ravel(), (second / second.sum()).ravel()])
    return linprog(cost, A_eq=np.vstack([sent, received])[:-1], b_eq=masses[:-1], method="highs").fun


def test_auc_is_the_share_of_pairs_that_are_in_order():
    scores = RNG.integers(0, 6, (5, 40)).astype(np.float32)
    clicked = RNG.random((5, 40)) < 0.2
    expected = [brute_auc(row, mask) for row, mask in zip(scores, clicked, strict=True)]
    found = auc(torch.from_numpy(scores), torch.from_numpy(clicked))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_auc_by_hand():
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0]]).repeat(3, 1)
    clicked = torch.tensor([[False, False, True, True], [True, True, False, False], [True, False, False, True]])
    assert auc(scores, clicked).tolist() == [1.0, 0.0, 0.5]


def test_nss_is_the_mean_z_score_of_clicked_pixels():
    scores = RNG.random((4, 60))
    clicked = RNG.random((4, 60)) < 0.1
    z = (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)
    expected = [row[mask].mean() for row, mask in zip(z, clicked, strict=True)]
    np.testing.assert_allclose(nss(torch.from_numpy(scores), torch.from_numpy(clicked)), expected, atol=1e-12)


def test_auc_ignores_the_scale_and_nss_ignores_its_unit():
    scores, clicked = torch.rand(3, 50, dtype=torch.float64), torch.rand(3, 50) < 0.3
    torch.testing.assert_close(auc(scores.exp(), clicked), auc(scores, clicked))
    torch.testing.assert_close(nss(7 * scores - 3, clicked), nss(scores, clicked))


def test_the_clicked_pixels_are_the_top_tenth_and_ties_go_by_position():
    maps = torch.tensor([[0.0, 3.0, 1.0, 3.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0]]).repeat(1, 2)
    assert clicked_pixels(maps).nonzero()[:, 1].tolist() == [1, 3]
    assert not clicked_pixels(torch.ones(1, 20)).any()
    assert clicked_pixels(torch.tensor([[0.0, 1.0, 0.5]])).tolist() == [[False, True, False]]


@pytest.mark.parametrize("grid", [2, 4, EMD_GRID])
def test_earth_movers_distance_is_the_optimum_of_the_linear_programme(grid):
    first, second = RNG.random((3, grid, grid)) ** 3, RNG.random((3, grid, grid)) ** 3
    found = emd(torch.from_numpy(first), torch.from_numpy(second), grid)
    expected = [linear_programme(a, b) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_earth_movers_distance_along_a_line_is_the_area_between_cumulative_sums():
    first, second = np.zeros((2, 1, 8, 8))
    first[0, 3], second[0, 3] = RNG.random(8), RNG.random(8)
    sums = [np.cumsum(row / row.sum()) for row in (first[0, 3], second[0, 3])]
    expected = np.abs(sums[0] - sums[1]).sum() / 8
    assert emd(torch.from_numpy(first), torch.from_numpy(second)).item() == pytest.approx(expected, abs=1e-9)


def test_earth_movers_distance_of_points_is_their_distance():
    first, second = torch.zeros(2, 64, 64), torch.zeros(2, 64, 64)
    first[:, 0:8, 0:8] = 1  # the cell in the corner, of 8 pixels a side
    second[0, 24:32, 32:40], second[1, 56:, 56:] = 1, 5
    expected = [0.125 * 5, 2**0.5 * 7 / 8]
    assert emd(first, second).tolist() == pytest.approx(expected, abs=1e-9)
    assert emd(first, 3 * first).tolist() == [0.0, 0.0]


def test_what_is_undefined_is_nan():
    flat, varied = torch.ones(1, 64), torch.arange(64.0)[None]
    some, none = varied > 60, varied > 100
    for measure in (auc, nss):
        assert measure(flat, some).isnan().all()
        assert measure(varied, none).isnan().all()
    assert auc(varied, ~none).isnan().all()
    for constant in (torch.zeros(1, 8, 8), torch.ones(1, 8, 8)):
        assert emd(constant, varied.reshape(1, 8, 8)).isnan().all()
        assert emd(varied.reshape(1, 8, 8), constant).isnan().all()
