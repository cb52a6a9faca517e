"""The statistics of guided models, against closed forms and counts."""

import itertools

import numpy as np
import pytest
from scipy import stats

from advalign.analysis.guidance.statistics import hierarchical_difference, partial_rank_correlation, trend
from advalign.errors import InputError


def test_pages_p_is_counted_over_all_orderings() -> None:
    values = np.array([[0.1, 0.3, 0.2], [0.5, 0.7, 0.9], [0.2, 0.4, 0.3]])
    found = trend(values)
    places = np.arange(1, 4)
    observed = sum(float(stats.rankdata(row) @ places) for row in values)
    orders = [np.array(order) @ places for order in itertools.permutations((1, 2, 3))]
    counted = [sum(three) >= observed for three in itertools.product(orders, repeat=3)]
    assert found.statistic == observed
    assert found.p == pytest.approx(np.mean(counted))
    assert found.exact


def test_five_seeds_in_order_over_three_areas() -> None:
    found = trend(np.tile([0.6, 0.8, 0.9], (5, 1)) + np.arange(5)[:, None])
    assert found.p == pytest.approx(6.0**-5)
    assert found.p_falling == pytest.approx(1.0)


def test_a_block_without_an_area_is_left_out() -> None:
    assert trend([[1, 2, 3], [1, np.nan, 3], [1, 2, 3]]).blocks == 2


@pytest.mark.parametrize(
    ("values", "note"),
    [([[1, 2], [1, 2]], "2 areas, a trend needs 3"), ([[1, 2, 3]], "1 blocks of seed and subject, a trend needs 2")],
)
def test_a_trend_that_cannot_be_tested(values: list[list[float]], note: str) -> None:
    found = trend(values)
    assert np.isnan(found.p)
    assert found.note == note


def test_a_trend_needs_a_table() -> None:
    with pytest.raises(InputError, match="blocks x areas"):
        trend([1, 2, 3])


def test_the_interval_has_the_width_of_both_levels() -> None:
    """Differences m + block + image with known spreads: the variance of the resampled mean is the sum of both parts."""
    random = np.random.default_rng(0)
    blocks, images = 8, 100
    delta = 0.5 + random.normal(0, 0.2, (blocks, 1)) + random.normal(0, 0.5, (1, images))
    found = hierarchical_difference(delta, np.zeros_like(delta), 4000, seed=1)
    spread = np.sqrt(delta.mean(1).var() / blocks + delta.mean(0).var() / images)
    assert found.difference == pytest.approx(delta.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * spread, rel=0.06)
    assert found.p == pytest.approx(stats.ttest_1samp(delta.mean(1), 0).pvalue)
    assert (found.blocks, found.images) == (8, 100)


def test_only_images_that_both_have_count() -> None:
    first, second = np.array([[1.0, np.nan, 5.0], [2.0, 2.0, np.nan]]), np.array([[0.0, 1.0, np.nan], [1.0, 0.0, 9.0]])
    found = hierarchical_difference(first, second, 100, seed=0)
    assert found.difference == pytest.approx(np.mean([1.0, 1.5]))
    assert found.images == 1.5


def test_one_block_has_no_test() -> None:
    found = hierarchical_difference([[1.0, 2.0]], [[0.0, 0.0]], 100, seed=0)
    assert found.difference == 1.5
    assert np.isnan([found.p, found.low]).all()
    assert found.note == "one block: nothing can be tested"


def test_no_common_image() -> None:
    found = hierarchical_difference([[np.nan, 1.0]], [[1.0, np.nan]], 100, seed=0)
    assert found.note == "no image is right in both"


def test_arms_of_other_shape_are_refused() -> None:
    with pytest.raises(InputError, match="same blocks and images"):
        hierarchical_difference(np.zeros((2, 3)), np.zeros((2, 4)), 10, seed=0)


def test_partial_correlation_is_that_of_residuals() -> None:
    random = np.random.default_rng(2)
    given = random.normal(size=30)
    x, y = given + random.normal(size=30), given + random.normal(size=30)
    ranks = [stats.rankdata(one) for one in (x, y, given)]
    left = [one - np.polyval(np.polyfit(ranks[2], one, 1), ranks[2]) for one in ranks[:2]]
    found = partial_rank_correlation(x, y, given, 500, seed=0)
    assert found.rho == pytest.approx(np.corrcoef(*left)[0, 1])
    assert found.low < found.rho < found.high


def test_what_goes_with_accuracy_alone_is_not_related() -> None:
    random = np.random.default_rng(5)
    given = np.arange(60.0)
    x, y = given + random.normal(0, 3, 60), given + random.normal(0, 3, 60)
    assert stats.spearmanr(x, y).statistic > 0.9
    assert abs(partial_rank_correlation(x, y, given, 200, seed=0).rho) < 0.3


@pytest.mark.parametrize(("x", "note"), [([1.0] * 3, "3 models, 5 are needed"), ([1.0] * 6, "a series does not vary")])
def test_no_partial_correlation(x: list[float], note: str) -> None:
    found = partial_rank_correlation(x, np.arange(len(x)), np.arange(len(x)) % 2, 50, seed=0)
    assert np.isnan(found.rho)
    assert note in found.note
