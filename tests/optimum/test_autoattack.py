"""AutoAttack and its four parts against models whose answer is known, with classes alone and in groups."""

import pytest
import torch
from torch import nn

from advalign.attacks._auto_pgd import auto_pgd
from advalign.attacks._fab import fast_adaptive_boundary
from advalign.attacks._oracle import Oracle
from advalign.attacks._radius import Starts, ThreatModel, cross_entropy, scaled_lead
from advalign.attacks._square import square
from advalign.attacks.autoattack import AutoAttack
from advalign.attacks.base import Status
from advalign.errors import InputError
from advalign.evaluation.protocols import protocol

torch.set_num_threads(1)
COUNT, CLASSES = 32, 6
both_norms = pytest.mark.parametrize("norm", ["l2", "linf"])


def attack(norm, eps, **few):
    return AutoAttack(AutoAttack.Settings(norm=norm, eps=eps, **{"steps": 50, "queries": 100, **few}))


def flips(result):
    return torch.tensor([status == Status.OK for status in result.status])


class Expanded(nn.Module):
    """Every class becomes two, the second of which has a smaller logit; and all logits are multiplied."""

    def __init__(self, net, times=1.0):
        super().__init__()
        self.net, self.times = net, times

    def forward(self, points):
        logits = self.net(points)
        return self.times * torch.cat([logits, logits - 1], 1)


@pytest.fixture(scope="module")
def linear():
    """Six classes in 48 dimensions, images near the middle of the box, and the radius at which each image flips."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, CLASSES)).eval().requires_grad_(False)
    net[1].weight.copy_(torch.randn(CLASSES, 48, generator=generator) / 4)
    net[1].bias.zero_()
    images = 0.4 + 0.2 * torch.rand(COUNT, 3, 4, 4, generator=generator)
    logits = net(images)
    labels = logits.argmax(1)
    apart = net[1].weight[labels][:, None] - net[1].weight[None]
    lead = logits.gather(1, labels[:, None]) - logits
    radii = {
        norm: (lead / apart.norm(dim=2, p=p)).masked_fill(lead == 0, torch.inf).amin(1)
        for norm, p in (("l2", 2), ("linf", 1))
    }
    return net, images, labels, radii


@both_norms
@pytest.mark.parametrize("quantile", [0.3, 0.7])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_linear_classifier_flips_exactly_where_the_radius_reaches_the_nearest_boundary(
    linear, norm, quantile, grouped
):
    net, images, labels, radii = linear
    eps = float(radii[norm].quantile(quantile))
    model, groups = (Expanded(net), torch.arange(2 * CLASSES) % CLASSES) if grouped else (net, None)
    flipped = flips(attack(norm, eps).run(model, images, labels, groups=groups))
    clear = (radii[norm] / eps - 1).abs() > 1e-3
    assert torch.equal(flipped[clear], (radii[norm] < eps)[clear])
    assert 0 < flipped.sum() < COUNT


@both_norms
def test_each_gradient_part_alone_finds_the_nearest_boundary_of_its_class(linear, norm):
    net, images, labels, radii = linear
    eps = float(radii[norm].median())
    model, index, oracle = ThreatModel(norm=norm, eps=eps), torch.arange(COUNT), Oracle(net, images, labels)
    apart = net[1].weight[labels][:, None] - net[1].weight[None]
    lead = net(images).gather(1, labels[:, None]) - net(images)
    reach = (lead / apart.norm(dim=2, p=2 if norm == "l2" else 1)).masked_fill(lead == 0, torch.inf)
    nearest = nn.functional.one_hot(reach.argmin(1), CLASSES).bool()
    start = Starts(model, 0).draw(images)
    found = {
        "APGD-CE": auto_pgd(oracle, index, start, cross_entropy, None, model, 100),
        "APGD-T": auto_pgd(oracle, index, start, scaled_lead, nearest, model, 100),
        "FAB-T": fast_adaptive_boundary(oracle, index, nearest, model, 100),
    }
    clear = (radii[norm] / eps - 1).abs() > 2e-3
    reached = radii[norm] < eps
    for name, (points, flipped) in found.items():
        assert torch.equal(net(points).argmax(1) != labels, flipped), name
        assert not (flipped & ~reached & clear).any(), name
        assert torch.equal(flipped[clear], reached[clear]) or name == "APGD-CE", name
    assert found["APGD-CE"][1].sum() > reached.sum() / 4  # it climbs towards all classes at once
    points, flipped = found["FAB-T"]
    assert torch.equal(points[~flipped], images[~flipped])


class Stairs(nn.Module):
    """Logits that are rounded: the gradient is zero everywhere."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, points):
        logits = self.net(points)
        return (logits * 50).round() / 50 + 0 * points.sum()


@both_norms
def test_where_gradients_vanish_square_finds_what_the_others_miss(norm):
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randn(CLASSES, 3, 2, 2, generator=generator)
    weights = nn.functional.interpolate(coarse, size=(20, 20), mode="nearest").flatten(1)
    images = 0.4 + 0.2 * torch.rand(COUNT, 3, 20, 20, generator=generator)
    stairs = Stairs(lambda points: (points - 0.5).flatten(1) @ weights.T)
    labels, eps = stairs(images).argmax(1), 0.02 if norm == "linf" else 0.6
    blind = flips(attack(norm, eps, queries=0).run(stairs, images, labels))
    seeing = flips(attack(norm, eps, queries=500).run(stairs, images, labels))
    assert (seeing & ~blind).sum() >= COUNT / 4
    model, index = ThreatModel(norm=norm, eps=eps), torch.arange(COUNT)
    points, flipped = square(Oracle(stairs, images, labels), index, model, 500, 0)
    assert flipped.sum() >= COUNT / 4
    assert torch.equal(stairs(points).argmax(1) != labels, flipped)
    norms = (points - images).flatten(1).norm(dim=1, p=2 if norm == "l2" else torch.inf)
    assert (norms <= eps * (1 + 1e-5)).all()


@both_norms
def test_scaled_logits_change_no_decision(linear, norm):
    """Logits x 500 blind Auto-PGD on the cross-entropy, not the scaled DLR loss."""
    net, images, labels, radii = linear
    eps = float(radii[norm].median())
    model, index, start = ThreatModel(norm=norm, eps=eps), torch.arange(COUNT), images
    times = 500 / net(images).std().item()
    scaled = nn.Sequential(net, nn.Linear(CLASSES, CLASSES, bias=False)).requires_grad_(False)
    scaled[1].weight.copy_(times * torch.eye(CLASSES))
    plain, blinded = (
        auto_pgd(Oracle(one, images, labels), index, start, cross_entropy, None, model, 50)[1] for one in (net, scaled)
    )
    assert blinded.sum() < plain.sum() / 2
    aimed = [nn.functional.one_hot(net(images).argsort(1)[:, -2], CLASSES).bool()] * 2
    assert torch.equal(
        *(auto_pgd(Oracle(one, images, labels), index, start, scaled_lead, at, model, 50)[1]
          for one, at in zip((net, scaled), aimed, strict=True))
    )  # fmt: skip
    assert torch.equal(*(flips(attack(norm, eps).run(one, images, labels)) for one in (net, scaled)))


def conv(classes):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.SiLU(), nn.Flatten(),
            nn.Linear(128, classes),
        ).eval().requires_grad_(False)  # fmt: skip


def test_it_flips_groups_of_classes_where_the_minimum_norm_says_so():
    net, images = conv(8), torch.rand(COUNT, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    groups = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])
    labels = groups[net(images).argmax(1)]
    least = protocol("fmn-fast").attack.run(net, images, labels, groups=groups)
    eps = float(least.norms.nanmedian())
    result = attack("l2", eps).run(net, images, labels, groups=groups)
    found = flips(result)
    clear = (least.norms / eps - 1).abs() > 0.02
    assert torch.equal(found[clear], (least.norms < eps)[clear])
    assert clear.sum() > COUNT / 2
    assert (groups[net(result.adversarials[found]).argmax(1)] != labels[found]).all()
    assert 0 < found.sum() < COUNT


def test_a_decision_with_few_rivals_is_attacked_with_those_that_it_has():
    """Seven classes against one: the other side has more targets, and both flip where the radius is large."""
    net, images = conv(8), torch.rand(COUNT, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    groups = (torch.arange(8) == net(images).argmax(1).mode().values).long()
    labels = groups[net(images).argmax(1)]
    assert set(labels.tolist()) == {0, 1}
    assert flips(attack("linf", 0.3).run(net, images, labels, groups=groups)).all()


def test_the_queries_of_an_image_that_holds_are_those_of_the_standard_version():
    net, image = conv(10), torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    label = net(image).argmax(1)
    few = attack("linf", 1e-6, steps=10, targets=4, queries=30)
    result = few.run(net, image, label)
    assert result.status == [Status.ATTACK_FAILED]
    assert result.queries.tolist() == [1 + few.passes + 1]
    assert few.passes == 5 * 11 + 4 * 20 + 31
    assert protocol("autoattack-linf8").attack.passes == 7811
    fewer = attack("linf", 1e-6, steps=10, targets=20, queries=30).run(net, image, label)
    assert fewer.queries.tolist() == [1 + 10 * 11 + 9 * 20 + 31 + 1]  # nine rivals are all there are


def test_a_model_of_three_classes_is_refused_in_one_line():
    images = torch.rand(2, 3, 8, 8)
    with pytest.raises(InputError, match=r"at least 4 classes .* got 3: use pgd or fmn-fast") as caught:
        attack("linf", 0.1).run(conv(3), images, conv(3)(images).argmax(1))
    assert "\n" not in str(caught.value)


@both_norms
def test_another_seed_draws_other_starts_and_the_same_seed_the_same(norm):
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    model = ThreatModel(norm=norm, eps=0.1)
    first, again, other = (Starts(model, seed).draw(images) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(Starts(model, 0).draw(images[1:]), first[1:])
    delta = (first - images).flatten(1)
    assert (delta.norm(dim=1, p=2 if norm == "l2" else torch.inf) <= 0.1 * (1 + 1e-6)).all()
