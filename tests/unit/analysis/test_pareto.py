"""The fronts and who lies beyond one: small cases by hand, and the definition checked on random points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advalign.analysis.pareto import beyond_front, front, pareto_front

pytestmark = pytest.mark.filterwarnings("error")

QUICK = settings(max_examples=80, deadline=None)
GRID = st.integers(0, 6).map(float)
POINTS = st.lists(st.tuples(GRID, GRID), max_size=15)
CELL = st.integers(0, 3).map(float) | st.just(float("nan"))
MANY = st.integers(1, 4).flatmap(lambda k: st.tuples(st.just(k), st.lists(st.tuples(*[CELL] * k), max_size=12)))
NAN = float("nan")


def dominates(p, q):
    return p[0] >= q[0] and p[1] >= q[1] and p != q


def test_front_by_hand():
    pt = [1.0, 2.0, 3.0, 2.0, 1.0, 2.5]
    aa = [0.4, 0.3, 0.1, 0.2, 0.4, NAN]
    assert pareto_front(pt, aa).tolist() == [True, True, True, False, True, False]


def test_front_of_one_point_and_of_none():
    assert pareto_front([1.0], [0.2]).tolist() == [True]
    assert pareto_front([], []).tolist() == []
    assert pareto_front([NAN, 1.0], [0.5, NAN]).tolist() == [False, False]


def test_beyond_by_hand():
    front_pt, front_aa = [1.0, 2.0, 3.0], [0.4, 0.3, 0.1]
    pt = [3.0, 2.5, 2.5, 0.5, 0.5, 4.0, NAN]
    aa = [0.1, 0.2, 0.05, 0.5, 0.3, -1.0, 0.9]
    expected = [False, True, False, True, False, True, False]
    assert beyond_front(pt, aa, front_pt, front_aa).tolist() == expected


def test_nothing_is_beyond_a_front_that_does_not_exist():
    assert beyond_front([1.0, 2.0], [0.1, 0.2], [], []).tolist() == [False, False]
    assert beyond_front([1.0], [0.1], [NAN], [0.1]).tolist() == [False]


@given(POINTS)
@QUICK
def test_front_is_exactly_what_nothing_dominates(points):
    pt, aa = [p[0] for p in points], [p[1] for p in points]
    expected = [not any(dominates(other, point) for other in points) for point in points]
    assert pareto_front(pt, aa).tolist() == expected
    assert not points or any(expected)


def test_a_third_objective_brings_points_onto_the_front_and_no_objective_is_refused():
    pt, aa, accuracy = [2.0, 1.0, 1.0, 1.0], [0.5, 0.5, 0.4, 0.3], [0.7, 0.8, 0.8, NAN]
    assert pareto_front(pt, aa).tolist() == [True, False, False, False]
    assert front(pt, aa, accuracy).tolist() == [True, True, False, False]
    assert front([3.0, 1.0, 3.0]).tolist() == [True, False, True]
    for unusable in ([], [[1.0, 2.0], [1.0, 2.0, 3.0]]):
        with pytest.raises(ValueError):
            front(*unusable)


@given(MANY)
@QUICK
def test_front_of_any_number_of_objectives_is_what_nothing_dominates(drawn):
    objectives, points = drawn

    def beaten(point):
        return any(
            all(q >= p for p, q in zip(point, other, strict=True))
            and any(q > p for p, q in zip(point, other, strict=True))
            for other in points
        )

    expected = [not any(np.isnan(point)) and not beaten(point) for point in points]
    columns = [[point[axis] for point in points] for axis in range(objectives)]
    assert front(*columns).tolist() == expected
    if objectives == 2:
        assert pareto_front(*columns).tolist() == expected


@given(POINTS, POINTS)
@QUICK
def test_beyond_means_neither_dominated_nor_equal(points, standard):
    pt, aa = (np.array([p[axis] for p in standard]) for axis in (0, 1))
    on_front = pareto_front(pt, aa)
    found = beyond_front([p[0] for p in points], [p[1] for p in points], pt[on_front], aa[on_front])
    expected = [bool(standard) and not any(dominates(s, p) or s == p for s in standard) for p in points]
    assert found.tolist() == expected
    assert not beyond_front(pt, aa, pt[on_front], aa[on_front]).any()
