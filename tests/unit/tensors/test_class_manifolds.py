"""Clouds of points of classes by value."""

import math

import pytest
import torch

from advalign.tensors.class_manifolds import class_manifolds, excess, share_inside

SQUARE = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]) + torch.tensor([5.0, 0, 2])
LINE = torch.tensor([[0.0, 0, 3], [0, 0, -3]])


def test_centre_radius_and_subspace_of_each_class():
    points, labels = torch.cat([SQUARE, LINE, torch.ones(1, 3)]), torch.tensor([2, 2, 2, 2, 0, 0, 1])
    found = class_manifolds(points, labels, 1.0)
    assert sorted(found.centres) == [0, 2], "a class of one image has no cloud"
    torch.testing.assert_close(found.centres[2], torch.tensor([5.0, 0, 2]))
    assert found.radii[2].item() == pytest.approx(1)
    assert found.radii[0].item() == pytest.approx(3)
    square, line = found.subspaces[2], found.subspaces[0]
    torch.testing.assert_close(square @ square.T, torch.diag(torch.tensor([1.0, 1, 0])))
    torch.testing.assert_close(line @ line.T, torch.diag(torch.tensor([0.0, 0, 1])))


@pytest.mark.parametrize(("share", "kept"), [(0.5, 1), (0.8, 1), (0.81, 2), (0.95, 2), (0.96, 3), (1.0, 3)])
def test_a_subspace_has_the_fewest_directions_that_hold_the_share(share, kept):
    """Variances 80, 15 and 5 % of the whole."""
    sizes = torch.tensor([0.80, 0.15, 0.05]).sqrt()
    points = torch.cat([torch.diag(sizes), -torch.diag(sizes)])
    assert class_manifolds(points, torch.zeros(6, dtype=torch.int64), share).subspaces[0].shape == (3, kept)


def test_points_that_are_the_same_have_no_subspace():
    found = class_manifolds(torch.full((4, 3), 2.5), torch.zeros(4, dtype=torch.int64), 0.9)
    assert found.subspaces[0].shape == (3, 0)
    assert found.radii[0] == 0


def test_the_excess_is_how_far_points_lie_beyond_the_radius():
    centre = torch.tensor([5.0, 0, 2])
    assert excess(SQUARE, centre, torch.tensor(0.25)).item() == pytest.approx(0.75)
    assert excess(SQUARE, centre, torch.tensor(2.0)) == 0
    moved = excess(SQUARE + torch.tensor([0.0, 0, 1]), centre, torch.tensor(0.25))
    assert moved.item() == pytest.approx(math.sqrt(2) - 0.25)
    at_once = SQUARE.mean(0).expand(2, 3).clone().requires_grad_()
    excess(at_once, centre, torch.tensor(0.0)).backward()
    assert at_once.grad.isfinite().all(), "also where all points lie on the centre"


def test_the_share_inside_a_subspace():
    points = torch.tensor([[3.0, 4], [-3, -4]])  # variance 9 and 16 of 25
    for axis, share in ((0, 9 / 25), (1, 16 / 25)):
        assert share_inside(points + 7, torch.eye(2)[:, [axis]]).item() == pytest.approx(share)
    assert share_inside(points, torch.eye(2)).item() == pytest.approx(1)
    assert share_inside(points[:1].expand(2, 2), torch.eye(2)) == 0
