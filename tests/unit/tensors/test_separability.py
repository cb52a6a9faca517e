"""Separability: convex hulls with known answers, planes with known margins, and halves held out."""

import numpy as np
import pytest

from advalign.tensors.separability import held_out_separability, plane, separable

TRIANGLE = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])


@pytest.mark.parametrize(
    ("shift", "wanted"), [((2.01, 0), True), ((1.99, 0), False), ((1.01, 1.01), True), ((0.99, 0.99), False)]
)
def test_hulls_that_touch_are_not_separable(shift, wanted):
    assert separable(TRIANGLE, TRIANGLE + shift) is wanted


def test_exclusive_or_and_a_point_inside_are_not_separable_but_enough_dimensions_are():
    diagonal = np.array([[0.0, 0.0], [1.0, 1.0]])
    assert not separable(diagonal, np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert not separable(TRIANGLE, np.array([[0.5, 0.5]]))
    rng = np.random.default_rng(0)
    assert separable(*rng.standard_normal((2, 10, 30)))
    assert not separable(*rng.standard_normal((2, 60, 3)))


def test_the_plane_lies_in_the_middle_of_the_margin():
    first, second = np.array([[3.0, 0.0], [3.0, 2.0], [9.0, 1.0]]), np.array([[1.0, -1.0], [1.0, 3.0], [-5.0, 1.0]])
    normal, offset = plane(first, second)
    assert abs(normal[1] / normal[0]) < 0.01
    assert -offset / normal[0] == pytest.approx(2.0, abs=0.05)


def test_the_plane_solves_its_own_problem():
    """The gradient of the squared hinge loss vanishes at the solution."""
    rng = np.random.default_rng(1)
    first, second = rng.standard_normal((20, 3)) + 0.7, rng.standard_normal((25, 3))
    normal, offset = plane(first, second)
    middle = (first.mean(0) + second.mean(0)) / 2
    points = np.concatenate([first, second]) - middle
    unit = np.sqrt((points**2).sum(1).mean())
    sides = np.repeat([1.0, -1.0], [20, 25])
    inputs = np.concatenate([points / unit, np.ones((45, 1))], 1)
    solved = np.append(normal * unit, offset + middle @ normal)
    slack = np.maximum(0, 1 - sides * (inputs @ solved))
    gradient = solved - (slack * sides) @ inputs / 1e-2
    assert np.abs(gradient).max() < 1e-6 * (slack.sum() / 1e-2)


def test_held_out_halves():
    rng = np.random.default_rng(2)
    noise = rng.standard_normal((3, 60, 5))
    apart = noise + 8 * np.eye(3, 5)[:, None]
    assert held_out_separability(list(apart)) == 1
    assert held_out_separability(list(noise)) == pytest.approx(0.5, abs=0.1)
    labels_say_nothing = [rng.standard_normal((10, 100)) for _ in range(6)]
    assert held_out_separability(labels_say_nothing) == pytest.approx(0.5, abs=0.1)  # though each half is separable
    assert np.isnan(held_out_separability([noise[0], noise[1, :1]]))
