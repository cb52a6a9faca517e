"""Bounds of vote shares against SciPy and binomial tails; coverage and cost by simulation with known shares."""

import numpy as np
import pytest
from scipy import stats

from advalign.probes._certificate import Plan, lower_bound, radius_of

RADII = (0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize("total", [1, 10, 100, 1000])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.5])
def test_the_bound_is_clopper_and_pearsons(total, alpha):
    votes = np.unique(np.linspace(0, total, 23).astype(int))
    expected = [
        stats.binomtest(int(count), total, alternative="greater").proportion_ci(1 - alpha, "exact").low
        for count in votes
    ]
    np.testing.assert_allclose(lower_bound(votes, total, alpha), expected, rtol=1e-9, atol=1e-12)


def test_the_bound_is_the_share_at_which_so_many_votes_have_probability_alpha():
    for votes in (1, 3, 501, 990, 1000):
        bound = float(lower_bound(votes, 1000, 0.001))
        assert stats.binom.sf(votes - 1, 1000, bound) == pytest.approx(0.001, rel=1e-6)


def test_radii_by_value():
    """1,000 votes of 1,000 certify 0.616 at sigma 0.25: no image gets more."""
    assert float(radius_of(lower_bound(1000, 1000, 0.001), 0.25)) == pytest.approx(0.6158, abs=5e-5)
    np.testing.assert_allclose(radius_of([0.2, 0.5, stats.norm.cdf(2)], 0.5), [0, 0, 1], atol=1e-12)


@pytest.mark.parametrize("sequential", [False, True])
def test_votes_that_are_needed_are_the_fewest_whose_bound_is_large_enough(sequential):
    plan = Plan.of(0.25, 1000, 0.001, RADII, sequential=sequential)
    np.testing.assert_allclose(plan.wanted, stats.norm.cdf([0, 1, 2]))  # 0.75 and 1 are out of reach at sigma 0.25
    assert (lower_bound(plan.needed, 1000, plan.alpha) >= plan.wanted).all()
    assert (lower_bound(plan.needed - 1, 1000, plan.alpha) < plan.wanted).all()
    assert plan.looks == ((100, 200, 400, 1000) if sequential else (1000,))
    assert plan.alpha * len(plan.looks) == pytest.approx(0.001)


def test_few_votes_have_few_looks():
    assert Plan.of(0.25, 1, 0.01, RADII, sequential=True).looks == (1,)
    plan = Plan.of(0.25, 5, 0.01, RADII, sequential=True)
    assert plan.looks == (1, 2, 5)
    assert plan.alpha == 0.01 / 4


def voted(shares, seed, sigma=0.25, n=1000, alpha=0.001, sequential=False):
    """Votes, votes in all and bounds of images whose true shares are known."""
    draw = np.random.default_rng(seed)
    plan = Plan.of(sigma, n, alpha, RADII, sequential=sequential)
    return plan.vote(lambda active, count: draw.binomial(count, shares[active]), len(shares))


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_bounds_cover_the_share_as_often_as_they_say(sequential, alpha):
    """Too high a bound in at most alpha of the cases, at shares all over the range and beside what radii need."""
    count = 8_000
    allowed = stats.binom.isf(1e-6, count, alpha)
    for share in (0.05, 0.5, stats.norm.cdf(1) + 1e-3, 0.977, 0.999):
        _, _, bounds = voted(np.full(count, share), 1, n=500, alpha=alpha, sequential=sequential)
        assert (bounds > share).sum() <= allowed
    if not sequential:  # the fixed bound is no looser than it must be
        _, _, bounds = voted(np.full(count, 0.9), 2, n=500, alpha=alpha)
        assert (bounds > 0.9).mean() > alpha / 3


@pytest.mark.parametrize("sequential", [False, True])
def test_no_radius_is_above_a_linear_classifiers_distance_beyond_alpha(sequential):
    """The smoothed decision of a hyperplane at distance d has the share Phi(d / sigma): its true radius is d."""
    count, alpha = 10_000, 0.001
    distances = np.abs(np.random.default_rng(3).normal(0, 0.4, count))
    _, _, bounds = voted(stats.norm.cdf(distances / 0.25), 4, alpha=alpha, sequential=sequential)
    radii = np.where(bounds >= 0.5, radius_of(bounds, 0.25), 0)
    assert (radii > distances).sum() <= stats.binom.isf(1e-4, count, alpha)
    for radius in (0.25, 0.5):  # and they are of use
        assert (radii[distances > radius + 0.1] >= radius).mean() > 0.85


@pytest.mark.parametrize("sigma", [0.25, 1.0])
def test_sequential_looks_take_less_than_half_of_the_votes_for_the_same_certificates(sigma):
    """The mix: half of the images at shares of 0.999 to 0.99999, half anywhere between 0.4 and 1."""
    draw, count = np.random.default_rng(5), 20_000
    sure = 1 - 10 ** draw.uniform(-5, -3, count)
    shares = np.where(draw.random(count) < 0.5, sure, draw.uniform(0.4, 1, count))
    found = {}
    for sequential in (False, True):
        _, totals, bounds = voted(shares, 6, sigma, sequential=sequential)
        radii = radius_of(bounds, sigma)
        found[sequential] = 100 + totals.mean(), [np.mean((radii >= one) & (bounds >= 0.5)) for one in (0, *RADII)]
    (fixed, as_fixed), (fewer, as_fewer) = found[False], found[True]
    assert fixed == 1100
    assert fewer <= 0.45 * fixed
    np.testing.assert_allclose(as_fewer, as_fixed, atol=0.012)


def test_what_is_decided():
    """At sigma 0.25, radii 0.25 and 0.5 can be shown: shares 0.841 and 0.977."""
    plan = Plan.of(0.25, 1000, 0.001, RADII, sequential=True)
    votes = np.array([400, 399, 20, 90, 99])
    for total, expected in ((400, [True, False, True, True, True]),):
        bounds = lower_bound(votes, total, plan.alpha)
        assert list(plan.is_decided(votes, total, bounds)) == expected
    assert not plan.is_decided(np.array([100]), 100, lower_bound(np.array([100]), 100, plan.alpha))[0]
