"""Rank correlation: parity with scipy to 1e-12, ties included, and what is undefined stays undefined."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from advalign.tensors.ranks import average_ranks, correlation, partial_correlation, rank_correlation

QUICK = settings(max_examples=80, deadline=None)
SHAPES = st.tuples(st.integers(1, 4), st.integers(2, 40))


def scipy_rho(first, second):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return np.array([stats.spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)])


def pairs(elements):
    return SHAPES.flatmap(
        lambda shape: st.tuples(
            hnp.arrays(np.float32, shape, elements=elements), hnp.arrays(np.float32, shape, elements=elements)
        )
    )


TIED = st.sampled_from([0.0, -0.0, 0.5, 1.0])
FREE = st.floats(-1e6, 1e6, width=32)


def test_ranks_by_hand():
    found = average_ranks(torch.tensor([[30.0, 10.0, 20.0, 10.0, 30.0, 30.0], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]))
    assert found.dtype == torch.float64
    assert found.tolist() == [[5.0, 1.5, 3.0, 1.5, 5.0, 5.0], [3.5] * 6]


@QUICK
@given(pairs(TIED | FREE))
def test_ranks_agree_with_scipy_exactly(both):
    for values in both:
        assert np.array_equal(average_ranks(torch.from_numpy(values)).numpy(), stats.rankdata(values, axis=-1))


def test_ranks_of_any_leading_shape_and_of_bytes():
    values = torch.randint(0, 5, (2, 3, 50), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert np.array_equal(average_ranks(values).numpy(), stats.rankdata(values.numpy(), axis=-1))


def test_rank_correlation_by_hand():
    first = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]] * 3)
    second = torch.tensor([[1.0, 4.0, 9.0, 16.0, 25.0], [5.0, 4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 5.0, 4.0]])
    assert rank_correlation(first, second).tolist() == pytest.approx([1.0, -1.0, 1 - 6 * 2 / (5 * 24)], abs=1e-15)
    # with ties: ranks (1.5, 1.5, 3, 4) and (1, 2, 3, 4) have covariance 4.5 and squares 4.5 and 5
    tied = rank_correlation(torch.tensor([0.0, 0.0, 1.0, 2.0]), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert float(tied) == pytest.approx(4.5 / np.sqrt(4.5 * 5), abs=1e-15)


@QUICK
@given(pairs(FREE))
def test_rank_correlation_agrees_with_scipy(both):
    found = rank_correlation(*map(torch.from_numpy, both)).numpy()
    np.testing.assert_allclose(found, scipy_rho(*both), rtol=0, atol=1e-12, equal_nan=True)


@QUICK
@given(pairs(TIED))
def test_rank_correlation_agrees_with_scipy_under_heavy_ties(both):
    found = rank_correlation(*map(torch.from_numpy, both)).numpy()
    np.testing.assert_allclose(found, scipy_rho(*both), rtol=0, atol=1e-12, equal_nan=True)


def test_rank_correlation_agrees_with_scipy_on_maps_of_the_real_size():
    rng = np.random.default_rng(0)
    human = np.round(rng.random((2, 224 * 224)) ** 4 * 255).astype(np.float32)  # most pixels tie, as in ClickMe
    found = rng.normal(size=human.shape).astype(np.float32)
    found[:, : len(found[0]) // 2] = 0
    actual = rank_correlation(torch.from_numpy(found), torch.from_numpy(human)).numpy()
    np.testing.assert_allclose(actual, scipy_rho(found, human), rtol=0, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e30, -7.7])
@pytest.mark.parametrize("count", [3, 7, 64 * 64, 10007])
def test_a_constant_side_has_no_rank_correlation(value, count):
    varied = torch.rand(count, generator=torch.Generator().manual_seed(count))
    constant = torch.full((count,), value)
    assert rank_correlation(constant, varied).isnan()
    assert rank_correlation(varied, constant).isnan()
    assert rank_correlation(constant, constant).isnan()
    assert partial_rank_correlation(constant, varied, varied.flip(0)).isnan()


def test_one_constant_map_does_not_spoil_its_neighbours():
    first = torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]])
    found = rank_correlation(first, torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 9.0]]))
    assert found[0].isnan()
    assert float(found[1]) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("value", [0.1, 1 / 3])
def test_pearson_of_a_constant_side_is_undefined_as_documented(value):
    varied = torch.rand(10007, generator=torch.Generator().manual_seed(1))
    assert correlation(torch.full((10007,), value), varied).isnan()


@QUICK
@given(pairs(st.integers(-20, 20)))
def test_pearson_agrees_with_numpy(both):
    both = [values.astype(np.float64) for values in both]
    found = correlation(*map(torch.from_numpy, both)).numpy()
    for row, (first, second) in enumerate(zip(*both, strict=True)):
        if np.ptp(first) == 0 or np.ptp(second) == 0:
            assert np.isnan(found[row])
        else:
            assert found[row] == pytest.approx(np.corrcoef(first, second)[0, 1], abs=1e-12)


@QUICK
@given(pairs(TIED | FREE))
def test_rank_correlation_is_symmetric_bounded_and_blind_to_monotone_change(both):
    first, second = map(torch.from_numpy, both)
    found = rank_correlation(first, second)
    torch.testing.assert_close(rank_correlation(second, first), found, rtol=0, atol=1e-15, equal_nan=True)
    torch.testing.assert_close(rank_correlation(first.double() * 8, second), found, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(rank_correlation(-first, second), -found, rtol=0, atol=1e-12, equal_nan=True)
    assert (found[~found.isnan()].abs() <= 1 + 1e-12).all()


def partial_rank_correlation(*maps):
    return partial_correlation(*(average_ranks(values) for values in maps))


def residual(values, given):
    """What a straight line in the ranks of `given` leaves of the ranks of `values`."""
    ranks, line = stats.rankdata(values), np.column_stack([np.ones(len(given)), stats.rankdata(given)])
    return ranks - line @ np.linalg.lstsq(line, ranks, rcond=None)[0]


@pytest.mark.parametrize("levels", [2, 3, 10, 10**6])
def test_partial_correlation_is_that_of_the_residuals(levels):
    rng = np.random.default_rng(levels)
    given = rng.integers(0, levels, (5, 200))
    first = given * 0.7 + rng.integers(0, levels, (5, 200))
    second = rng.integers(0, levels, (5, 200)) - given * 0.2
    found = partial_rank_correlation(*(torch.from_numpy(v.astype(np.float64)) for v in (first, second, given)))
    expected = [np.corrcoef(residual(a, c), residual(b, c))[0, 1] for a, b, c in zip(first, second, given, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


def test_partial_correlation_by_hand_and_one_reference_for_all_maps():
    first = torch.tensor([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]])
    second = torch.tensor([[1.0, 3.0, 2.0, 4.0], [1.0, 3.0, 2.0, 4.0]])
    given = torch.tensor([2.0, 1.0, 4.0, 3.0])
    # rho: first-second 0.8, first-given 0.6, second-given 0: 0.8 / sqrt(0.64)
    assert partial_rank_correlation(first, second, given).tolist() == pytest.approx([1.0, -1.0], abs=1e-12)
    uncorrelated = torch.tensor([2.0, 4.0, 1.0, 3.0])  # rho with first 0, with second -0.4
    found = partial_rank_correlation(first[:1], second[:1], uncorrelated)
    rho = [float(rank_correlation(a, b)) for a, b in ((first[0], uncorrelated), (second[0], uncorrelated))]
    assert float(found) == pytest.approx((0.8 - rho[0] * rho[1]) / np.sqrt((1 - rho[0] ** 2) * (1 - rho[1] ** 2)))
