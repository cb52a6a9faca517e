"""Bounded attacks against models whose answer is known: a linear classifier flips within eps exactly where it must."""

import pytest
import torch
from torch import nn

from advalign.attacks.base import Bounded, Status
from advalign.attacks.pgd import ProjectedGradientDescent
from advalign.errors import InputError
from advalign.evaluation.protocols import protocol
from advalign.settings import Strict, fraction

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


def attack(norm, eps, **settings):
    return ProjectedGradientDescent(ProjectedGradientDescent.Settings(norm=norm, eps=eps, **settings))


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.8])
def test_a_linear_classifier_flips_exactly_where_the_radius_reaches_the_boundary(linear, norm, quantile):
    net, images, labels, distances = linear
    eps = float(distances[norm].quantile(quantile))
    result = attack(norm, eps).run(net, images, labels)
    flipped = torch.tensor([status == Status.OK for status in result.status])
    clear = (distances[norm] / eps - 1).abs() > 1e-4
    assert torch.equal(flipped[clear], (distances[norm] < eps)[clear])
    assert 0 < flipped.sum() < COUNT


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_nothing_found_lies_outside_the_ball_or_the_box(linear, norm):
    net, images, labels, distances = linear
    eps = float(distances[norm].max()) * 2
    extreme = torch.where(images > 0.5, 1.0, 0.0)  # every pixel on a face of the box
    for inputs, right in ((images, labels), (extreme, net(extreme).argmax(1))):
        result = attack(norm, eps, step_size=eps).run(net, inputs, right)
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
    flipped = torch.tensor([status == Status.OK for status in result.status])
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
    flipped = torch.tensor([status == Status.OK for status in found.status])
    assert 4 < flipped.sum() < 20
    assert (least.norms[flipped] <= eps * 1.001).all()


def test_the_queries_are_counted(linear):
    net, images, labels, distances = linear
    held = attack("l2", float(distances["l2"].min()) / 2, steps=7).run(net, images, labels)
    assert set(held.status) == {Status.ATTACK_FAILED}
    assert (held.queries == 1 + 7 + 1).all()  # clean, one pass with gradient per step, verification


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("pgd-20-linf8", {"steps": 20, "norm": "linf", "eps": 8 / 255}),
        ("pgd-40-l20.5", {"steps": 40, "norm": "l2", "eps": 0.5}),
        ("pgd-7-linf0.5", {"steps": 7, "norm": "linf", "eps": fraction("0.5/255")}),
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
    ],
)
def test_a_name_that_is_no_budget_is_refused_in_one_line(name, says):
    with pytest.raises(InputError, match=says) as caught:
        protocol(name)
    assert "\n" not in str(caught.value)
