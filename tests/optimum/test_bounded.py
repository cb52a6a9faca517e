"""Bounded attacks against models whose answer is known: a linear classifier flips within eps exactly where it must."""

import pytest
import torch
from torch import nn

from advalign.attacks.base import Bounded, Status
from advalign.attacks.fgsm import FastGradient
from advalign.attacks.pgd import ProjectedGradientDescent
from advalign.errors import InputError
from advalign.evaluation.protocols import protocol
from advalign.strict_settings import Strict, fraction

torch.set_num_threads(1)
COUNT = 40


@pytest.fixture(scope="module")
def linear():
    """Two classes in 48 dimensions, images near the middle of the box, so that the box is out of reach."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).double().float().eval()
    images = 0.45 + 0.1 * torch.rand(COUNT, 3, 4, 4)
    weight = net[1].weight[0] - net[1].weight[1]
    margins = net(images)[:, 0] - net(images)[:, 1]
    dual = {"l2": weight.norm(2), "linf": weight.abs().sum()}
    return net, images, (margins < 0).long(), {norm: (margins.abs() / value).detach() for norm, value in dual.items()}


def attack(norm, eps, random_start=False, **settings):
    return ProjectedGradientDescent(
        ProjectedGradientDescent.Settings(norm=norm, eps=eps, random_start=random_start, **settings)
    )


def fgsm(norm, eps):
    return FastGradient(FastGradient.Settings(norm=norm, eps=eps))


def flips(result):
    return torch.tensor([status == Status.OK for status in result.status])


@pytest.mark.parametrize("make", [attack, fgsm, lambda norm, eps: attack(norm, eps, loss="margin")])
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.8])
def test_a_linear_classifier_flips_exactly_where_the_radius_reaches_the_boundary(linear, norm, quantile, make):
    net, images, labels, distances = linear
    eps = float(distances[norm].quantile(quantile))
    flipped = flips(make(norm, eps).run(net, images, labels))
    clear = (distances[norm] / eps - 1).abs() > 1e-4
    assert torch.equal(flipped[clear], (distances[norm] < eps)[clear])
    assert 0 < flipped.sum() < COUNT


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_nothing_found_lies_outside_the_ball_or_the_box(linear, norm):
    net, images, labels, distances = linear
    eps = float(distances[norm].max()) * 2
    extreme = torch.where(images > 0.5, 1.0, 0.0)  # every pixel on a face of the box
    for inputs, right in ((images, labels), (extreme, net(extreme).argmax(1))):
        result = attack(norm, eps, step_size=eps, random_start=True).run(net, inputs, right)
        assert (result.norms[result.norms.isfinite()] <= eps * (1 + 1e-6)).all()
        assert result.adversarials.min() >= 0
        assert result.adversarials.max() <= 1


class Overreaching(Bounded):
    """Claims a point at twice the radius."""

    class Settings(Strict):
        norm: str = "l2"
        eps: float = 0.1

    def search(self, oracle, index):
        gradient = oracle.margin_and_gradient(oracle.inputs[index], index)[1]
        unit = gradient.flatten(1) / gradient.flatten(1).norm(dim=1, keepdim=True)
        return oracle.inputs[index] - 2 * self.settings.eps * unit.view_as(gradient)


def test_an_attack_that_leaves_its_ball_is_brought_back(linear):
    net, images, labels, distances = linear
    eps = float(distances["l2"].median()) * 1.01
    result = Overreaching(Overreaching.Settings(eps=eps)).run(net, images, labels)
    flipped = flips(result)
    clear = (distances["l2"] / eps - 1).abs() > 1e-4
    assert torch.equal(flipped[clear], (distances["l2"] < eps)[clear])
    assert (distances["l2"][~flipped] < 2 * eps).any()  # the point that was claimed flips it, but lies outside
    assert (result.norms[flipped] <= eps * (1 + 1e-5)).all()


def test_what_pgd_flips_has_a_minimum_norm_within_its_radius():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(512, 5)).eval()
    images = torch.rand(24, 3, 8, 8)
    labels = net(images).argmax(1)
    least = protocol("fmn-fast").attack.run(net, images, labels)
    eps = float(least.norms.median())
    found = protocol(f"pgd-40-l2{eps:.6f}").attack.run(net, images, labels)
    flipped = flips(found)
    assert 4 < flipped.sum() < 20
    assert (least.norms[flipped] <= eps * 1.001).all()


def test_the_queries_are_counted(linear):
    net, images, labels, distances = linear
    eps = float(distances["l2"].min()) / 2
    for steps, restarts in ((7, 1), (3, 2)):
        held = attack("l2", eps, steps=steps, restarts=restarts, random_start=True).run(net, images, labels)
        assert set(held.status) == {Status.ATTACK_FAILED}
        assert (
            held.queries == 1 + (steps + 1) * restarts + 1
        ).all()  # clean; each step and the last point; verification
    assert (fgsm("l2", eps).run(net, images, labels).queries == 3).all()


class Ridge(nn.Module):
    """Class 1 wins only at the right end of a line with a ridge at 0.5: up to there the loss grows towards the left."""

    def forward(self, points):
        place = points.flatten(1)[:, 0]
        return torch.stack([torch.zeros_like(place), torch.where(place < 0.5, 0.2 - place, 10 * place - 5.95)], 1)


def test_restarts_find_what_one_start_misses():
    image, label = torch.full((1, 1, 1, 1), 0.5), torch.tensor([0])
    once, often = (
        [
            flips(
                attack("linf", 0.2, random_start=True, restarts=restarts, seed=seed).run(Ridge(), image, label)
            ).item()
            for seed in range(20)
        ]
        for restarts in (1, 12)
    )
    assert 5 <= sum(once) <= 15
    assert all(often)


def test_restarts_without_random_start_are_refused():
    with pytest.raises(ValueError, match="restarts repeat the same search without random_start"):
        attack("linf", 0.1, restarts=2)


class Scale(nn.Module):
    """Multiplies logits."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, logits):
        return self.factor * logits


def test_scaled_logits_fool_the_cross_entropy_and_not_the_margin(linear):
    """Logits x 500: in float32 the softmax of a right image is exactly 1, and its gradient is zero or wrong."""
    net, images, labels, distances = linear
    scaled = nn.Sequential(net, Scale(500 / net(images).std().item()))
    eps = float(distances["linf"].max()) * 1.01
    assert flips(attack("linf", eps).run(net, images, labels)).all()
    assert flips(attack("linf", eps, loss="margin").run(scaled, images, labels)).all()
    for fooled in (attack("linf", eps), attack("linf", eps, random_start=True), fgsm("linf", eps)):
        assert flips(fooled.run(scaled, images, labels)).sum() < COUNT / 2


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("pgd-20-linf8", {"steps": 20, "norm": "linf", "eps": 8 / 255}),
        ("pgd-40-l20.5", {"steps": 40, "norm": "l2", "eps": 0.5}),
        ("pgd-7-linf0.5", {"steps": 7, "norm": "linf", "eps": fraction("0.5/255")}),
        ("fgsm-linf8", {"norm": "linf", "eps": 8 / 255}),
        ("fgsm-l20.5", {"norm": "l2", "eps": 0.5}),
        ("autoattack-linf8", {"norm": "linf", "eps": 8 / 255, "steps": 100, "targets": 9, "queries": 5000}),
        ("autoattack-l20.5", {"norm": "l2", "eps": 0.5}),
    ],
)
def test_a_name_says_steps_norm_and_radius(name, settings):
    found = protocol(name)
    assert found.name == name
    assert found.spec.probe == "bounded"
    assert settings.items() <= found.attack.settings.model_dump().items()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pgd-20", "write pgd-STEPS-linfEPS"),
        ("pgd-linf8", "write pgd-STEPS-linfEPS"),
        ("pgd-20-linf0", "eps: .*greater than 0"),
        ("pgd-0-linf8", "steps: .*got 0"),
        ("pgd-20-l1", "write pgd-STEPS-linfEPS"),
        ("pgd-20-linf1.2.3", "write pgd-STEPS-linfEPS"),
        ("pgd-x-linf8", "write pgd-STEPS-linfEPS"),
        ("fgsm-8", "write fgsm-linfEPS .in 1/255: fgsm-linf8. or fgsm-l2EPS"),
        ("fgsm-linf0", "eps: .*greater than 0"),
        ("autoattack-l1", "write autoattack-linfEPS"),
    ],
)
def test_a_name_that_is_no_budget_is_refused_in_one_line(name, says):
    with pytest.raises(InputError, match=says) as caught:
        protocol(name)
    assert "\n" not in str(caught.value)
