"""Every statistic against scipy, against numbers worked out by hand, and on data that allow no answer."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from advalign.analysis.statistics import holm, paired, quadratic_fit, spearman, spearman_interval, welch
from advalign.averages import bootstrap_interval, sem
from advalign.errors import InputError

pytestmark = pytest.mark.filterwarnings("error")

QUICK = settings(max_examples=60, deadline=None)
NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3))
ANYTHING = st.floats(allow_nan=True, allow_infinity=True)


def test_sem_by_hand_and_as_scipy():
    assert sem([1, 2, 3, 4]) == pytest.approx(math.sqrt(5 / 3) / 2)
    values = np.random.default_rng(0).normal(size=31)
    assert sem(values) == pytest.approx(stats.sem(values))


def test_sem_of_a_constant_is_zero_and_of_one_value_unknown():
    assert sem([0.1, 0.1, 0.1]) == 0.0
    assert math.isnan(sem([1.0]))
    assert math.isnan(sem([]))
    assert math.isnan(sem([1.0, float("nan")]))


def test_spearman_by_hand():
    # d = (0, -1, 1, 0): rho = 1 - 6 * 2 / (4 * 15) = 0.8; of 24 orderings 1 + 3 reach +0.8 and as many -0.8
    result = spearman([10, 20, 30, 40], [1, 3, 2, 4])
    assert result.rho == pytest.approx(0.8)
    assert result.p_exact == pytest.approx(8 / 24)
    assert result.n == 4
    assert "p_exact" in result.note


@pytest.mark.parametrize("n", [3, 5, 9, 40])
def test_spearman_as_scipy_with_ties(n):
    generator = np.random.default_rng(n)
    x, y = generator.integers(0, 6, n), generator.normal(size=n)
    y[0] = y[1]
    expected = stats.spearmanr(x, y)
    result = spearman(x, y)
    assert result.rho == pytest.approx(expected.statistic)
    assert result.p == pytest.approx(expected.pvalue)


def test_exact_p_as_scipys_permutation_test():
    x, y = np.array([1.0, 2, 2, 4, 5, 6]), np.array([2.0, 1, 4, 3, 6, 6])
    expected = stats.permutation_test((y,), lambda v: stats.spearmanr(x, v).statistic, permutation_type="pairings")
    assert spearman(x, y).p_exact == pytest.approx(expected.pvalue)


def test_three_points_in_order_are_not_significant():
    result = spearman([1, 2, 3], [4, 5, 6])
    assert result.rho == 1.0
    assert result.p_exact == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("x", "y", "why"),
    [
        ([], [], "x has 0 values, at least 3 are needed"),
        ([1, 2], [1, 2], "x has 2 values, at least 3 are needed"),
        ([1, 1, 1, 1], [1, 2, 3, 4], "all values of x are equal"),
        ([1, 2, 3, 4], [7, 7, 7, 7], "all values of y are equal"),
        ([1, 2, float("nan"), 4], [1, 2, 3, 4], "1 of 4 values in x are not finite"),
        ([1, 2, 3, 4], [1, 2, 3, float("inf")], "1 of 4 values in y are not finite"),
    ],
)
def test_spearman_says_why_there_is_none(x, y, why):
    result = spearman(x, y)
    assert math.isnan(result.rho)
    assert math.isnan(result.p)
    assert math.isnan(result.p_exact)
    assert why in result.note
    assert result.n == len(x)


def test_series_of_different_length_are_refused():
    with pytest.raises(InputError, match="3 and 2"):
        spearman([1, 2, 3], [1, 2])


def test_quadratic_by_hand():
    x = np.array([-1.0, 0, 1, 2, 5])
    result = quadratic_fit(x, 3 * x**2 - 2 * x + 0.5)
    assert result.coefficients == pytest.approx((3, -2, 0.5))
    assert result.r2 == pytest.approx(1)


def test_quadratic_as_numpy_polyfit_far_from_zero():
    generator = np.random.default_rng(1)
    x = generator.uniform(70, 95, 200)
    y = 0.006 * x**2 - 0.9 * x + 37 + generator.normal(0, 0.3, 200)
    result = quadratic_fit(x, y)
    expected = np.polyfit(x, y, 2)
    assert result.coefficients == pytest.approx(tuple(expected), rel=1e-6)
    residual = y - np.polyval(expected, x)
    assert result.r2 == pytest.approx(1 - np.sum(residual**2) / np.sum((y - y.mean()) ** 2))


@pytest.mark.parametrize(
    ("x", "y", "has_curve", "why"),
    [
        ([1, 2], [1, 2], False, "at least 3"),
        ([1, 1, 2, 2], [1, 2, 3, 4], False, "three different x"),
        ([1, 2, 3], [1, 5, 2], True, "any parabola"),
        ([1, 2, 3, 4], [5, 5, 5, 5], True, "r2 is not defined"),
        ([1, 2, 3, float("nan")], [1, 2, 3, 4], False, "not finite"),
    ],
)
def test_quadratic_says_why_there_is_no_r2(x, y, has_curve, why):
    result = quadratic_fit(x, y)
    assert math.isnan(result.r2)
    assert why in result.note
    assert math.isfinite(result.coefficients[0]) == has_curve


def test_welch_by_hand():
    # means 2.5 and 5, variances 5/3 and 20/3, n = 4: t = -2.5 / sqrt(25/12); df = (25/12)^2 / ((25/144 + 400/144) / 3)
    result = welch([1, 2, 3, 4], [2, 4, 6, 8])
    assert result.t == pytest.approx(-math.sqrt(3))
    assert result.df == pytest.approx((25 / 12) ** 2 * 3 * 144 / 425)
    assert result.d == pytest.approx(-2.5 / math.sqrt(25 / 6))
    assert (result.n1, result.n2, result.mean1, result.mean2) == (4, 4, 2.5, 5.0)


@given(st.lists(NUMBERS, min_size=2, max_size=20), st.lists(NUMBERS, min_size=2, max_size=20))
@QUICK
def test_welch_as_scipy(a, b):
    result = welch(a, b)
    if len(set(a)) == 1 and len(set(b)) == 1:
        assert math.isnan(result.t)
        assert "neither group varies" in result.note
        return
    with np.errstate(all="ignore"):
        expected = stats.ttest_ind(a, b, equal_var=False) if len(set(a)) > 1 and len(set(b)) > 1 else None
    assert welch(b, a).t == pytest.approx(-result.t)
    if expected is not None:
        assert result.t == pytest.approx(expected.statistic, rel=1e-6, abs=1e-9)
        assert result.df == pytest.approx(expected.df, rel=1e-6)
        assert result.p == pytest.approx(expected.pvalue, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        ([], [1, 2], "the first group has 0 values"),
        ([1, 2], [1], "the second group has 1 value, at least 2 are needed"),
        ([0.1, 0.1, 0.1], [0.3, 0.3], "neither group varies"),
        ([1, 2, float("nan")], [1, 2], "1 of 3 values in the first group are not finite"),
        ([1e-170, 2e-170], [3e-170, 4e-170], "double precision"),
    ],
)
def test_welch_says_why_there_is_none(a, b, why):
    result = welch(a, b)
    assert all(math.isnan(value) for value in (result.t, result.df, result.p, result.d))
    assert why in result.note
    assert (result.n1, result.n2) == (len(a), len(b))


def test_welch_where_only_one_group_varies():
    result = welch([1, 1, 1], [2, 3, 4])
    assert result.t == pytest.approx(-2 / math.sqrt(1 / 3))
    assert result.df == pytest.approx(2)


def test_holm_by_hand():
    # Holm 1979: sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04, made monotone
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_holm_does_not_count_tests_that_were_not_made():
    corrected = holm([0.01, float("nan"), 0.04])
    assert corrected[[0, 2]].tolist() == pytest.approx([0.02, 0.04])
    assert math.isnan(corrected[1])


@given(st.lists(st.floats(0, 1), max_size=12))
@QUICK
def test_holm_keeps_the_order_never_lowers_p_and_ignores_position(p):
    corrected = holm(p)
    values = np.array(p)
    assert np.all(corrected >= values)
    assert np.all(corrected <= 1)
    assert np.all(corrected <= np.minimum(values * max(len(p), 1), 1) + 1e-15)
    order = np.argsort(values, kind="stable")
    assert np.all(np.diff(corrected[order]) >= 0)
    assert holm(p[::-1])[::-1].tolist() == corrected.tolist()


def test_paired_by_hand():
    # differences 1, 2, 3: mean 2, sd 1, t = 2 sqrt(3); signed ranks all positive: p = 2 / 2^3
    result = paired([2, 4, 6], [1, 2, 3])
    assert result.t == pytest.approx(2 * math.sqrt(3))
    assert (result.difference, result.d_z, result.df, result.n) == (2.0, 2.0, 2.0, 3)
    assert result.wilcoxon_p == pytest.approx(0.25)


@pytest.mark.parametrize("n", [2, 12, 60, 480])
def test_paired_as_scipy(n):
    generator = np.random.default_rng(n)
    a = generator.normal(0.3, 1, n)
    b = a + generator.normal(0.2, 0.5, n)
    b[-1] = a[-1]
    result = paired(a, b)
    expected = stats.ttest_rel(a, b)
    assert result.t == pytest.approx(expected.statistic)
    assert result.p == pytest.approx(expected.pvalue)
    assert result.wilcoxon_p == pytest.approx(stats.wilcoxon(a, b).pvalue)
    assert result.d_z == pytest.approx(result.t / math.sqrt(n))


@pytest.mark.parametrize(
    ("a", "b", "difference", "why"),
    [
        ([], [], float("nan"), "0 values"),
        ([3], [1], 2.0, "1 value,"),
        ([1, 2, 3], [1, 2, 3], 0.0, "all differences are equal"),
        ([2, 3, 4], [1, 2, 3], 1.0, "all differences are equal"),
        ([1, float("nan")], [1, 2], float("nan"), "not finite"),
    ],
)
def test_paired_says_why_there_is_none(a, b, difference, why):
    result = paired(a, b)
    assert math.isnan(result.t)
    assert math.isnan(result.p)
    assert math.isnan(result.d_z)
    assert result.difference == pytest.approx(difference, nan_ok=True)
    assert why in result.note


def test_interval_as_scipy_and_from_its_seed():
    values = np.random.default_rng(3).exponential(size=50)
    result = bootstrap_interval(values, 2000, seed=5)
    generator = np.random.default_rng(5)
    expected = stats.bootstrap((values,), np.mean, n_resamples=2000, batch=1000, method="BCa", rng=generator)
    assert (result.low, result.high) == pytest.approx(tuple(expected.confidence_interval))
    assert result == bootstrap_interval(values, 2000, seed=5)
    assert result != bootstrap_interval(values, 2000, seed=6)
    assert result.low < values.mean() < result.high


def test_interval_is_near_the_textbook_one_for_normal_values():
    values = np.random.default_rng(4).normal(10, 2, 400)
    result = bootstrap_interval(values, 10_000, seed=0)
    half = 1.96 * sem(values)
    assert result.low == pytest.approx(values.mean() - half, abs=0.03)
    assert result.high == pytest.approx(values.mean() + half, abs=0.03)


def test_interval_of_poor_data():
    one = bootstrap_interval([2.0], seed=0)
    assert math.isnan(one.low)
    assert "at least 2" in one.note
    constant = bootstrap_interval([0.3, 0.3, 0.3], seed=0)
    assert (constant.low, constant.high) == (0.3, 0.3)
    assert "nothing varies" in constant.note
    assert math.isnan(bootstrap_interval([1.0, float("nan"), 2.0], seed=0).high)


@given(st.lists(ANYTHING, max_size=8), st.lists(ANYTHING, max_size=8))
@QUICK
def test_nothing_raises_or_warns_and_what_is_missing_is_explained(a, b):
    results = [welch(a, b)]
    n = min(len(a), len(b))
    results += [spearman(a[:n], b[:n]), quadratic_fit(a[:n], b[:n]), paired(a[:n], b[:n])]
    sem(a)
    for result in results:
        statistics = [getattr(result, name) for name in ("rho", "r2", "t", "p") if hasattr(result, name)]
        assert not any(math.isinf(value) for value in statistics)
        assert result.note or not any(math.isnan(value) for value in statistics)


def test_the_interval_of_rho_is_near_the_closed_form_of_bonett_and_wright():
    generator = np.random.default_rng(2)
    x = generator.normal(size=300)
    y = x + generator.normal(size=300)
    rho = spearman(x, y).rho
    half = stats.norm.ppf(0.975) * math.sqrt((1 + rho**2 / 2) / (300 - 3))  # Bonett and Wright 2000, on Fisher's scale
    found = spearman_interval(x, y, 2000, seed=0)
    assert (found.low, found.high) == pytest.approx(
        [math.tanh(math.atanh(rho) + end) for end in (-half, half)], abs=0.02
    )
    assert found == spearman_interval(x, y, 2000, seed=0)


@pytest.mark.parametrize(
    ("x", "y", "note"),
    [
        ([1, 2, 3, 4], [1, 3, 2, 4], "x has 4 values, at least 5 are needed"),
        ([1, 1, 1, 1, 1], [1, 2, 3, 4, 5], "all values of x are equal, ranks say nothing"),
        ([1, 2, 3, 4, 5], [2, 4, 6, 8, 9], "the BCa interval is not defined for pairs in perfect order"),
        ([1, 2, 3, 4, math.nan], [1, 2, 3, 4, 5], "1 of 5 values in x are not finite"),
    ],
)
def test_no_interval_of_rho_says_why(x, y, note):
    found = spearman_interval(x, y, 200, seed=0)
    assert math.isnan(found.low)
    assert found.note == note
