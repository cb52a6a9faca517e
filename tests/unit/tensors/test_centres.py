"""Directions that centres share: planted ones are found and removed."""

import numpy as np
import pytest

from advalign.tensors.centres import correlation_of, shared_directions


def test_a_planted_direction_is_found():
    rng = np.random.default_rng(0)
    shared = np.linalg.qr(rng.standard_normal((60, 1)))[0]
    own = np.linalg.qr(rng.standard_normal((60, 12)))[0].T
    centres = own + 4 * rng.standard_normal((12, 1)) * shared.T
    found = shared_directions(centres, seed=0)
    around = centres - centres.mean(0)
    assert np.linalg.norm(found.T @ shared) == pytest.approx(1, abs=0.05)
    assert correlation_of(around - around @ found @ found.T) < 0.6 * correlation_of(around)


def test_directions_are_orthonormal_few_and_the_same_again():
    centres = np.random.default_rng(1).standard_normal((8, 20))
    found = shared_directions(centres, seed=3)
    assert found.T @ found == pytest.approx(np.eye(found.shape[1]), abs=1e-10)
    assert 1 <= found.shape[1] <= 6
    assert np.array_equal(found, shared_directions(centres, seed=3))


@pytest.mark.parametrize("centres", [np.eye(2), np.ones((5, 3)), np.arange(4.0)[:, None] * np.ones((1, 3))])
def test_where_there_is_nothing_to_share_nothing_is_removed(centres):
    assert shared_directions(centres, 0).shape == (centres.shape[1], 0)
