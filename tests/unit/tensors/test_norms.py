"""Norms, projections and the box, by hand and as properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from advalign.tensors.norms import clip_to_box, farthest_in_box, l2_norm, per_sample, project_l2, unit_l2

VALUES = st.floats(-100, 100, width=32)
QUICK = settings(max_examples=60, deadline=None)


def batches(values=VALUES):
    shapes = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
    return hnp.arrays(np.float32, shapes, elements=values).map(torch.from_numpy)


def test_l2_norm_by_hand():
    batch = torch.zeros(3, 3, 2, 2)
    batch[0, :, 0, 0] = torch.tensor([2.0, -3.0, 6.0])
    batch[1] = 0.5
    assert l2_norm(batch).tolist() == pytest.approx([7.0, math.sqrt(12 * 0.25), 0.0])
    assert l2_norm(batch).shape == (3,)


@QUICK
@given(batches())
def test_l2_norm_agrees_with_numpy(batch):
    expected = np.sqrt((batch.numpy().astype(np.float64) ** 2).reshape(len(batch), -1).sum(1))
    assert l2_norm(batch).numpy() == pytest.approx(expected, rel=1e-5, abs=1e-17)


def test_per_sample_broadcasts_over_everything_but_the_batch():
    values = torch.tensor([1.0, 10.0])
    assert per_sample(values, torch.ones(2, 3, 4, 5)).shape == (2, 1, 1, 1)
    assert (torch.ones(2, 3) * per_sample(values, torch.ones(2, 3))).tolist() == [[1.0] * 3, [10.0] * 3]


def test_unit_l2_by_hand_and_zero_stays_zero():
    batch = torch.tensor([[3.0, 4.0], [0.0, 0.0], [-2.0, 0.0]])
    assert unit_l2(batch) == pytest.approx(torch.tensor([[0.6, 0.8], [0.0, 0.0], [-1.0, 0.0]]))


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
