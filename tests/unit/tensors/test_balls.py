"""Balls, projections and the box, by hand and as properties (bit for bit against robustness: parity/test_pgd.py)."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from advalign.tensors.balls import BALLS, clip_to_box, farthest_in_box, project_l2
from advalign.tensors.norms import l2_norm

VALUES = st.floats(-100, 100, width=32)
QUICK = settings(max_examples=60, deadline=None)
each_norm = pytest.mark.parametrize("norm", list(BALLS))


def batches(values=VALUES):
    shapes = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
    return hnp.arrays(np.float32, shapes, elements=values).map(torch.from_numpy)


def length(norm, difference):
    flat = difference.double().flatten(1)
    return flat.norm(dim=1) if norm == "l2" else flat.abs().amax(1)


def test_project_l2_by_hand():
    batch = torch.tensor([[3.0, 4.0]] * 5)
    found = project_l2(batch, torch.tensor([2.5, 5.0, 7.0, 0.0, math.inf]))
    assert found.tolist() == [[1.5, 2.0], [3.0, 4.0], [3.0, 4.0], [0.0, 0.0], [3.0, 4.0]]
    assert project_l2(torch.zeros(2, 2), torch.tensor([0.0, math.inf])).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@QUICK
@given(batches(), st.floats(2**-10, 50, width=32))
def test_project_l2_reaches_the_radius_along_the_same_ray_and_leaves_the_inside_alone(batch, radius):
    found = project_l2(batch, torch.full((len(batch),), radius))
    before, after = l2_norm(batch), l2_norm(found)
    outside = before > radius
    assert after[outside].tolist() == pytest.approx([radius] * int(outside.sum()), rel=1e-5)
    assert torch.equal(found[~outside], batch[~outside])
    product = (batch * found).flatten(1).sum(1)
    assert product.tolist() == pytest.approx((before * after).tolist(), rel=1e-4, abs=1e-6)
    again = project_l2(found, torch.full((len(batch),), radius))
    torch.testing.assert_close(again, found, rtol=1e-6, atol=0)


def test_clip_to_box_by_hand():
    inputs = torch.tensor([[0.25, 0.75, 0.5, 0.0, 1.0]])
    perturbation = torch.tensor([[-0.5, 0.5, 0.125, -1.0, 0.25]])
    assert clip_to_box(inputs, perturbation).tolist() == [[-0.25, 0.25, 0.125, 0.0, 0.0]]


@QUICK
@given(batches(st.floats(0, 1, width=32)), st.integers(0, 2**31))
def test_clip_to_box_stays_in_the_box_to_the_last_bit_and_never_lengthens(inputs, seed):
    perturbation = 2 * torch.randn(inputs.shape, generator=torch.Generator().manual_seed(seed))
    found = clip_to_box(inputs, perturbation)
    assert (inputs + found).min() >= 0
    assert (inputs + found).max() <= 1
    assert (found.abs() <= perturbation.abs() + 1e-7).all()
    assert (found * perturbation >= -1e-6).all()
    inside = (inputs + perturbation > 0) & (inputs + perturbation < 1)
    torch.testing.assert_close(found[inside], perturbation[inside], rtol=0, atol=1e-7)


def test_farthest_in_box_by_hand():
    assert farthest_in_box(torch.tensor([[0.0, 1.0], [0.5, 0.5], [0.2, 0.4]])).tolist() == pytest.approx(
        [math.sqrt(2), math.sqrt(0.5), math.sqrt(0.64 + 0.36)]
    )


@QUICK
@given(batches(st.floats(0, 1, width=32)), st.integers(0, 2**31))
def test_nothing_in_the_box_is_farther_than_farthest_in_box(inputs, seed):
    other = torch.rand(inputs.shape, generator=torch.Generator().manual_seed(seed))
    corner = (inputs < 0.5).float()
    farthest = farthest_in_box(inputs)
    assert (l2_norm(other - inputs) <= farthest * (1 + 1e-6)).all()
    assert l2_norm(corner - inputs).tolist() == pytest.approx(farthest.tolist(), rel=1e-6)


def test_a_step_by_hand():
    centres, gradient = torch.tensor([[0.5, 0.5], [0.5, 0.5]]), torch.tensor([[3.0, -4.0], [0.0, 0.0]])
    assert BALLS["l2"](centres, 1.0).step(centres, gradient, 0.1).flatten().tolist() == pytest.approx(
        [0.56, 0.42, 0.5, 0.5]
    )
    assert BALLS["linf"](centres, 1.0).step(centres, gradient, 0.1).flatten().tolist() == pytest.approx(
        [0.6, 0.4, 0.5, 0.5]
    )


def test_a_projection_by_hand():
    centres, points = torch.tensor([[0.5, 0.5, 0.95]]), torch.tensor([[0.8, 0.1, 0.95]])  # l2 distance 0.5
    assert BALLS["l2"](centres, 0.25).project(points).flatten().tolist() == pytest.approx([0.65, 0.3, 0.95])
    assert BALLS["linf"](centres, 0.2).project(points + 0.5).flatten().tolist() == pytest.approx([0.7, 0.6, 1.0])
    assert BALLS["l2"](centres, 0.5001).project(points) == pytest.approx(points)


@each_norm
@QUICK
@given(batches(st.floats(0, 1, width=32)), st.floats(2**-8, 4, width=32), st.integers(0, 2**31))
def test_a_projection_lies_in_ball_and_box_and_is_no_farther_than_the_point(norm, centres, eps, seed):
    points = centres + 3 * torch.randn(centres.shape, generator=torch.Generator().manual_seed(seed))
    ball = BALLS[norm](centres, eps)
    found = ball.project(points)
    assert (length(norm, found - centres) <= eps * (1 + 1e-5) + 1e-6).all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert ((found - centres).abs() <= (points - centres).abs() + 1e-6).all()
    torch.testing.assert_close(ball.project(found), found, rtol=1e-5, atol=1e-6)


@each_norm
def test_random_starts_fill_the_ball_and_are_drawn_from_the_global_state(norm):
    centres = torch.full((400, 3, 4, 4), 0.5)
    ball = BALLS[norm](centres, 0.2)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(ball.random_start())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    lengths = length(norm, drawn[0] - centres)
    assert lengths.max() <= 0.2 * (1 + 1e-5)
    assert lengths.min() > 0.19 * (1 if norm == "l2" else 0.8)  # on the sphere; 48 pixels reach nearly everywhere
    assert (drawn[0] - centres).mean(0).abs().max() < 0.05


@each_norm
def test_a_step_climbs_most_steeply_among_steps_of_its_length(norm):
    generator = torch.Generator().manual_seed(0)
    centres, gradient = torch.full((1, 3, 4, 4), 0.5), torch.randn(1, 3, 4, 4, generator=generator)
    ball = BALLS[norm](centres, 0.1)
    best = (gradient * (ball.step(centres, gradient, 0.1) - centres)).sum()
    for _ in range(200):
        other = torch.randn(1, 3, 4, 4, generator=generator)
        assert (gradient * (ball.project(centres + other) - centres)).sum() <= best * (1 + 1e-5)
