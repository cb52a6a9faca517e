"""Geometry of manifolds against closed forms: points, balls, subspaces; and the example of the public package."""

import numpy as np
import pytest
from scipy import integrate, stats

from advalign.errors import DataError
from advalign.tensors.manifolds import manifold_geometry, one_manifold


def ball(dimension, radius, margin=0.0):
    """Capacity, radius and dimension of a ball: the projection onto a circular cone has a closed form.

    The point (t, t0) with |t| = r is inside the cone where r <= R t0, projects to 0 where R r <= -t0, and else to a
    point of squared length (R r + t0)^2 / (1 + R^2). Its anchor lies at R t / r, or at t / t0 inside.
    """

    def mean(inside, else_where, free):
        def value(height, length):
            raised = height + margin
            if length <= radius * raised:
                found = inside(length, raised)
            else:
                found = free if radius * length + raised <= 0 else else_where(length, raised)
            return found * stats.chi.pdf(length, dimension) * stats.norm.pdf(height)

        return integrate.dblquad(value, 0, 12, -9, 9, epsabs=1e-5)[0]

    inverse = mean(lambda r, t: r**2 + t**2, lambda r, t: (radius * r + t) ** 2 / (1 + radius**2), 0)
    spread = mean(lambda r, t: (r / t) ** 2, lambda r, t: radius**2, radius**2)
    return 1 / inverse, spread**0.5, dimension


def circle(count, radius):
    angle = 2 * np.pi * np.arange(count) / count
    return radius * np.stack([np.cos(angle), np.sin(angle)], 1)


def sphere(count, radius):
    """Points spread evenly over a sphere (Fibonacci)."""
    height = 1 - 2 * (np.arange(count) + 0.5) / count
    angle = np.pi * (1 + 5**0.5) * np.arange(count)
    across = np.sqrt(1 - height**2)
    return radius * np.stack([across * np.cos(angle), across * np.sin(angle), height], 1)


def test_single_points_have_capacity_two():
    capacity, radius, dimension = one_manifold(np.zeros((3, 5)), 20_000, 0)
    assert capacity == pytest.approx(2, rel=0.03)
    assert (radius, dimension) == (0, 0)


@pytest.mark.parametrize("margin", [0.5, 1.0])
def test_a_margin_lowers_the_capacity_of_points_as_gardner_says(margin):
    wanted = 1 / integrate.quad(lambda t: stats.norm.pdf(t) * (t + margin) ** 2, -margin, 12)[0]
    assert one_manifold(np.zeros((1, 1)), 20_000, 0, margin)[0] == pytest.approx(wanted, rel=0.03)


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.5])
def test_a_segment_is_a_ball_of_one_dimension(radius):
    found = one_manifold(np.array([[radius, 0.0], [-radius, 0.0]]), 5_000, 1)
    assert found == pytest.approx(on_the_same_draws(1, radius, 0, 5_000, 1), rel=1e-9)
    assert found == pytest.approx(ball(1, radius), rel=0.06)


def on_the_same_draws(dimension, radius, margin, draws, seed):
    """The closed form of `ball` for the Gaussian vectors of `one_manifold`."""
    drawn = np.random.default_rng(seed).standard_normal((draws, dimension + 1))
    length, raised = np.linalg.norm(drawn[:, :-1], axis=1), drawn[:, -1] + margin
    inside, free = length <= radius * raised, radius * length + raised <= 0
    outside = (radius * length + raised) ** 2 / (1 + radius**2)
    square = np.where(inside, length**2 + raised**2, np.where(free, 0, outside))
    reach = np.where(inside, length / np.where(inside, raised, 1), radius)
    anchors = (reach / length)[:, None] * drawn[:, :-1]
    return 1 / square.mean(), ((anchors - anchors.mean(0)) ** 2).sum(1).mean() ** 0.5, dimension


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("margin", [0.0, 0.4])
def test_a_circle_is_a_ball_of_two_dimensions(radius, margin):
    found = one_manifold(circle(200, radius) @ np.eye(2, 7), 600, 1, margin)
    assert found == pytest.approx(on_the_same_draws(2, radius, margin, 600, 1), rel=0.002)


def test_a_sphere_in_three_dimensions():
    found = one_manifold(sphere(1000, 0.8), 400, 2)
    assert found == pytest.approx(on_the_same_draws(3, 0.8, 0, 400, 2), rel=0.015)
    assert ball(3, 0.8) == pytest.approx(on_the_same_draws(3, 0.8, 0, 1_000_000, 2), rel=0.005)


@pytest.mark.parametrize("dimension", [1, 3, 6])
def test_a_subspace_has_the_inverse_of_its_dimension_and_a_half(dimension):
    axes = 1e4 * np.eye(dimension, 10)
    capacity, radius, _ = one_manifold(np.concatenate([axes, -axes]), 5_000, 3)
    assert capacity == pytest.approx(1 / (dimension + 0.5), rel=0.03)
    assert radius > 10


def test_larger_manifolds_have_less_capacity_and_points_inside_change_nothing():
    corners = circle(12, 1.0)
    with_inner = np.concatenate([corners, 0.5 * corners, corners])
    assert one_manifold(with_inner, 500, 0) == pytest.approx(one_manifold(corners, 500, 0))
    sizes = [one_manifold(factor * corners, 500, 0)[0] for factor in (0.1, 0.5, 1, 2)]
    assert sizes == sorted(sizes, reverse=True)


def test_the_whole_is_invariant_to_rotation_scale_and_shift():
    rng = np.random.default_rng(0)
    clouds = [rng.standard_normal((12, 30)) + 3 * rng.standard_normal(30) for _ in range(6)]
    turn = np.linalg.qr(rng.standard_normal((30, 30)))[0]
    first = manifold_geometry(clouds, draws=400, seed=1)
    second = manifold_geometry([5 * cloud @ turn + 2 for cloud in clouds], draws=400, seed=1)
    assert first.removed == second.removed
    assert second.means == pytest.approx(first.means, rel=0.03)  # the same law, drawn along other axes


def test_the_example_of_the_public_package():
    """100 manifolds of 50 Gaussian points in 5000 dimensions: its README gives .04, 1.47 and 36.17."""
    state = np.random.RandomState(0)
    clouds = [state.randn(5000, 50).T for _ in range(100)]
    found = manifold_geometry(clouds, draws=200, seed=0)
    assert found.means["capacity"] == pytest.approx(0.04, rel=0.03)
    assert found.means["radius"] == pytest.approx(1.47, rel=0.03)
    assert found.means["dimension"] == pytest.approx(36.17, rel=0.03)
    assert found.centre_correlation == pytest.approx(0.014, abs=0.002)


def test_what_cannot_be_measured_is_said():
    cloud = np.random.default_rng(0).standard_normal((4, 3))
    with pytest.raises(DataError, match="at least 2"):
        manifold_geometry([cloud])
    with pytest.raises(DataError, match="category 0 is the mean of all points"):
        manifold_geometry([cloud, cloud], shared=False)
    with pytest.raises(DataError, match="not finite"):
        manifold_geometry([cloud, cloud * np.nan])
