"""The nearest point of a hyperplane inside a box: formulas, a bisection in float64, and what never happens."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advalign.attacks._boundary import crossing, dot, nearest_on_hyperplane

torch.set_num_threads(1)

QUICK = settings(max_examples=60, deadline=None)
ENOUGH = 200  # Newton steps that settle any box
SEEDS = st.integers(0, 2**31)
both_norms = pytest.mark.parametrize("norm", ["l2", "linf"])


def random_case(seed, kind):
    """A gradient (48,) and a box around zero: of images anywhere or at corners, or a gradient with many zeros."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 2, 48).astype(float) if kind == "corners" else rng.uniform(0, 1, 48)
    gradient = rng.normal(size=48) * 10 ** rng.uniform(-2, 1, 48)
    if kind == "sparse":
        gradient *= rng.random(48) < 0.2
        gradient[0] = 1.0
    return gradient, -image, 1 - image


def reach(gradient, low, high):
    """The least value of gradient . u in the box."""
    return float(np.minimum(gradient * low, gradient * high).sum())


def bisected(gradient, offset, low, high, norm="l2"):
    """u = clip(-multiplier pull) with gradient . u = offset; the multiplier by bisection in float64."""
    pull = gradient if norm == "l2" else np.sign(gradient)
    least, most = 0.0, 1e12
    for _ in range(300):
        middle = (least + most) / 2
        beyond = gradient @ np.clip(-middle * pull, low, high) <= offset
        least, most = (least, middle) if beyond else (middle, most)
    return np.clip(-most * pull, low, high)


def solve(gradient, offset, low, high, iterations=ENOUGH, dtype=torch.float64, norm="l2"):
    """The function under test on one sample."""
    rows = [torch.tensor(row, dtype=dtype)[None] for row in (gradient, low, high)]
    return nearest_on_hyperplane(rows[0], torch.tensor([offset], dtype=dtype), *rows[1:], iterations, norm)[0]


@both_norms
@QUICK
@given(SEEDS, st.sampled_from(["anywhere", "corners", "sparse"]), st.floats(0.01, 0.99))
def test_the_nearest_point_equals_a_bisection_of_the_multiplier(norm, seed, kind, share):
    gradient, low, high = random_case(seed, kind)
    offset = share * reach(gradient, low, high)
    found, expected = solve(gradient, offset, low, high, norm=norm).numpy(), bisected(gradient, offset, low, high, norm)
    assert gradient @ found == pytest.approx(offset, rel=1e-9)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


@both_norms
@QUICK
@given(SEEDS, st.floats(0.05, 0.9))
def test_no_other_point_of_the_hyperplane_in_the_box_is_shorter(norm, seed, share):
    gradient, low, high = random_case(seed, "anywhere")
    offset = share * reach(gradient, low, high)
    order = 2 if norm == "l2" else np.inf
    found = solve(gradient, offset, low, high, norm=norm).numpy()
    corner = np.where(gradient > 0, low, high)  # any point, pulled towards the farthest corner onto the hyperplane
    others = np.random.default_rng(seed).uniform(low, high, (200, 48))
    others = others[others @ gradient > offset]
    value = others @ gradient
    others = others + ((value - offset) / (value - corner @ gradient))[:, None] * (corner - others)
    np.testing.assert_allclose(others @ gradient, offset, rtol=1e-9)
    assert (np.linalg.norm(others, axis=1, ord=order) >= np.linalg.norm(found, ord=order) * (1 - 1e-9)).all()


@QUICK
@given(SEEDS, st.integers(0, 3))
def test_where_the_box_is_inactive_the_point_is_the_foot_of_the_perpendicular(seed, iterations):
    gradient, low, high = random_case(seed, "anywhere")
    longest = np.min(np.where(gradient > 0, -low, high) / np.maximum(np.abs(gradient), 1e-12))
    offset = -0.9 * longest * (gradient @ gradient)
    found = solve(gradient, offset, low, high, iterations)
    np.testing.assert_allclose(found.numpy(), offset * gradient / (gradient @ gradient), rtol=1e-9)


def test_an_active_box_by_hand():
    low, high = [-0.1, -1.0, -1.0], [0.9, 1.0, 1.0]
    # the first entry stops at -0.1; -0.1 * 4 - 2 * 2 m - 1 * m = -2.4 gives m = 0.4
    found = solve([4.0, 2.0, -1.0], -2.4, low, high)
    assert found.tolist() == pytest.approx([-0.1, -0.8, 0.4])


@both_norms
@QUICK
@given(SEEDS, st.sampled_from(["anywhere", "corners", "sparse"]), st.floats(0.01, 0.99))
def test_every_newton_step_comes_closer_and_none_goes_beyond(norm, seed, kind, share):
    gradient, low, high = random_case(seed, kind)
    offset = share * reach(gradient, low, high)
    points = [solve(gradient, offset, low, high, iterations, norm=norm).numpy() for iterations in range(6)]
    values = np.array([gradient @ point for point in points])
    assert (values >= offset * (1 + 1e-9)).all()
    assert (np.diff(values) <= 1e-9 * abs(offset)).all()
    assert all((point >= low).all() and (point <= high).all() for point in points)


@pytest.mark.parametrize("kind", ["anywhere", "corners", "sparse"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_hyperplane_out_of_reach_gives_the_nearest_corner_of_the_box(kind, dtype):
    for seed in range(20):
        gradient, low, high = random_case(seed, kind)
        found = solve(gradient, 1.5 * reach(gradient, low, high) - 1.0, low, high, dtype=dtype)
        corner = torch.tensor(np.where(gradient > 0, low, np.where(gradient < 0, high, 0.0)), dtype=dtype)
        assert torch.equal(found, corner)


@pytest.mark.parametrize("iterations", [0, 1, 3])
@pytest.mark.parametrize("offset", [-1e-30, -1.0, -1e6])
def test_a_zero_gradient_gives_zeros(iterations, offset):
    box = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    gradient = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    found = nearest_on_hyperplane(gradient, torch.tensor([offset, -0.1]), -box, 1 - box, iterations)
    assert torch.equal(found[0], torch.zeros(3, 2, 2))
    assert dot(gradient, found)[1] == pytest.approx(-0.1, rel=1e-5), "a flat sample must not spoil its neighbour"


def test_samples_of_a_batch_do_not_see_each_other():
    cases = [random_case(seed, kind) for seed in range(5) for kind in ("anywhere", "corners", "sparse")]
    offsets = [share * reach(*case) for share, case in zip(np.linspace(0.05, 1.2, len(cases)), cases, strict=True)]
    rows = [torch.tensor(np.stack(column)).reshape(-1, 3, 4, 4) for column in zip(*cases, strict=True)]
    found = nearest_on_hyperplane(rows[0], torch.tensor(offsets), rows[1], rows[2], ENOUGH)
    assert found.shape == (15, 3, 4, 4)
    for row, (gradient, low, high), offset in zip(found, cases, offsets, strict=True):
        np.testing.assert_allclose(row.flatten().numpy(), solve(gradient, offset, low, high).numpy(), rtol=1e-9)


def test_in_float32_three_steps_of_images_in_the_middle_are_exact_enough():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        image, gradient = rng.uniform(0.1, 0.9, 768), rng.normal(size=768)
        offset = 0.5 * reach(gradient, -image, 1 - image)
        found = solve(gradient, offset, -image, 1 - image, iterations=3, dtype=torch.float32).double().numpy()
        expected = bisected(gradient, offset, -image, 1 - image)
        assert gradient @ found == pytest.approx(offset, rel=1e-3)
        assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(expected), rel=1e-3)


@QUICK
@given(SEEDS)
def test_dot_is_the_inner_product_of_each_sample(seed):
    first, second = np.random.default_rng(seed).normal(size=(2, 4, 3, 2, 5))
    found = dot(torch.tensor(first), torch.tensor(second))
    assert found.shape == (4,)
    np.testing.assert_allclose(found.numpy(), np.einsum("ncij,ncij->n", first, second), rtol=1e-12, atol=1e-12)


@QUICK
@given(SEEDS, st.floats(1e-3, 1e3))
def test_a_perturbation_scaled_by_its_crossing_lies_on_the_hyperplane(seed, distance):
    perturbation, gradient = torch.tensor(np.random.default_rng(seed).normal(size=(2, 3, 3, 2, 2)))
    towards = dot(perturbation, gradient) < 0
    perturbation = perturbation * torch.where(towards, 1.0, -1.0)[:, None, None, None]
    offset = torch.full((3,), -distance, dtype=torch.float64)
    factor = crossing(dot(gradient, perturbation), offset)
    assert (factor > 0).all()
    assert (factor * dot(perturbation, gradient)).tolist() == pytest.approx(offset.tolist())


def test_a_perturbation_that_leads_away_or_along_has_a_huge_crossing():
    gradient = torch.tensor([[1.0, 0.0]] * 3)
    perturbation = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    factor = crossing(dot(gradient, perturbation), torch.full((3,), -0.5))
    assert (factor > 1e20).all()
    assert factor.isfinite().all()
