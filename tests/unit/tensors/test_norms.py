"""Norms, by hand and as properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from advalign.tensors.norms import l2_norm, per_sample, unit_l2

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
