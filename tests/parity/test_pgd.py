"""Adversarial training's inner maximum against the `robustness` package's own attacker, by value."""

import sys
import types
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from robustness.attack_steps import L2Step, LinfStep
from torch import nn

from advalign.recipes._pgd import BallSettings, worst_case
from advalign.recipes.base import Position
from advalign.tensors.balls import BALLS

torch.set_num_threads(1)

EPS = {"l2": 0.8, "linf": 6 / 255}
BEGIN = Position(0, 10)
each_ball = pytest.mark.parametrize("constraint", ["l2", "linf"])


class StaysOnCpu(torch.Tensor):
    """Attacker.forward calls orig_input.cuda() always; this one answers with itself."""

    def cuda(self, *_, **__):
        return self


@pytest.fixture
def attacker_class(monkeypatch):
    """robustness.attacker.Attacker; the package imports a torchvision module that is gone."""
    module = types.ModuleType("torchvision.models.utils")
    module.load_state_dict_from_url = torch.hub.load_state_dict_from_url
    monkeypatch.setitem(sys.modules, "torchvision.models.utils", module)
    from robustness.attacker import Attacker

    return Attacker


def net(training=False, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(4),
            nn.Flatten(), nn.Linear(128, 5),
        ).train(training)  # fmt: skip


def images():
    """Images with many pixels at the edge of the box, so that clipping matters."""
    return (1.4 * torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(1)) - 0.2).clamp(0, 1)


LABELS = torch.arange(6) % 5


@each_ball
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("step_size", [None, 0.05])
def test_worst_case_equals_the_robustness_attacker(attacker_class, constraint, steps, step_size):
    model = net()
    reference = attacker_class(model, SimpleNamespace(mean=torch.tensor([0.0] * 3), std=torch.tensor([1.0] * 3))).eval()
    ball = BallSettings(constraint=constraint, eps=EPS[constraint], steps=steps, step_size=step_size)
    expected = reference(
        images(),
        LABELS,
        constraint={"l2": "2", "linf": "inf"}[constraint],
        eps=ball.eps,
        step_size=step_size or 2.5 * ball.eps / steps,
        iterations=steps,
        should_normalize=False,
        use_best=False,
        random_start=False,
        orig_input=images().as_subclass(StaysOnCpu),
    ).as_subclass(torch.Tensor)
    found = worst_case(model, images(), LABELS, ball, BEGIN)
    assert (found - images()).abs().max() > 0.005
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


PEERS = {"l2": L2Step, "linf": LinfStep}


@each_ball
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_and_projections_are_those_of_robustness_to_the_bit(constraint, layout, dtype):
    centres = images().to(dtype).contiguous(memory_format=layout)
    peer = PEERS[constraint](centres, EPS[constraint], 0.3 * EPS[constraint])
    ball = BALLS[constraint](centres, EPS[constraint])
    gradients = torch.randn(6, *centres.shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    gradients[0, 0], gradients[0, 1], gradients[0, 2] = 0, 1e-12, 1e-30  # where 1e-10 beside the norm is seen
    points, expected = centres, centres
    for gradient in gradients:
        moved, beyond = (
            ball.step(points, gradient.contiguous(memory_format=layout), 0.3 * EPS[constraint]),
            peer.step(expected, gradient),
        )
        points, expected = ball.project(moved), peer.project(beyond)
        assert torch.equal(moved, beyond)
        assert torch.equal(points, expected)
        assert points.stride() == expected.stride()
    assert not torch.equal(moved, points)  # the last step left the ball


@each_ball
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_starts_are_those_of_robustness_to_the_bit(constraint, dtype):
    centres = images().to(dtype)
    torch.manual_seed(5)
    expected = PEERS[constraint](centres, EPS[constraint], 0.1).random_perturb(centres)
    torch.manual_seed(5)
    assert torch.equal(BALLS[constraint](centres, EPS[constraint]).random_start(), expected)


@each_ball
@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("step_size", [None, 10.0])
def test_it_stays_in_the_ball_and_in_the_box(constraint, random_start, step_size):
    torch.manual_seed(0)
    ball = BallSettings(
        constraint=constraint, eps=EPS[constraint], steps=3, step_size=step_size, random_start=random_start
    )
    found = worst_case(net(), images(), LABELS, ball, BEGIN)
    delta = (found - images()).double().flatten(1)
    length = delta.norm(dim=1) if constraint == "l2" else delta.abs().amax(1)
    assert (length <= ball.eps * (1 + 1e-6)).all()
    assert length.max() > 0.9 * ball.eps
    assert found.min() >= 0
    assert found.max() <= 1
    assert not found.requires_grad


@each_ball
def test_one_step_by_hand(constraint):
    """On a linear model the loss's gradient has a settled direction: sign or unit vector of w_wrong - w_right."""
    weights = torch.randn(2, 48, generator=torch.Generator().manual_seed(2))
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2, bias=False))
    model[1].weight.data = weights
    start = torch.full((1, 3, 4, 4), 0.5)
    ball = BallSettings(constraint=constraint, eps=0.1, steps=1, step_size=0.04)
    found = worst_case(model, start, torch.tensor([0]), ball, BEGIN) - start
    uphill = (weights[1] - weights[0]).reshape(1, 3, 4, 4)
    expected = 0.04 * (uphill / uphill.norm() if constraint == "l2" else uphill.sign())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@each_ball
def test_it_raises_the_loss_of_every_image(constraint):
    model = net()
    ball = BallSettings(constraint=constraint, eps=EPS[constraint])
    loss = nn.CrossEntropyLoss(reduction="none")
    found = worst_case(model, images(), LABELS, ball, BEGIN)
    assert (loss(model(found), LABELS) > loss(model(images()), LABELS)).all()


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (1, 0.2), (2, 0.4), (5, 1.0), (6, 1.0), (19, 1.0)])
def test_eps_grows_linearly_and_stays(step, share):
    ball = BallSettings(constraint="l2", eps=0.8, steps=3, ramp=0.25)
    found = worst_case(net(), images(), LABELS, ball, Position(step, 20))
    whole = worst_case(
        net(), images(), LABELS, BallSettings(constraint="l2", eps=max(0.8 * share, 1e-9), steps=3), BEGIN
    )
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-6)
    longest = (found - images()).flatten(1).norm(dim=1).max()
    assert longest <= 0.8 * share + 1e-6
    assert longest > 0.9 * 0.8 * share or share == 0
    if share == 0:
        assert torch.equal(found, images())


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_in_evaluation_mode_meanwhile_and_as_before_afterwards(training):
    model = net(training)
    statistics = {name: value.clone() for name, value in model.state_dict().items()}
    modes = []
    model[1].register_forward_hook(lambda module, *_: modes.append(module.training))
    worst_case(model, images(), LABELS, BallSettings(steps=3), BEGIN)
    assert modes == [False] * 3
    assert {module.training for module in model.modules()} == {training}
    assert all(torch.equal(model.state_dict()[name], value) for name, value in statistics.items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_mode_is_restored_when_the_model_fails():
    class Broken(nn.Module):
        def forward(self, points):
            raise RuntimeError("no")

    model = Broken().train()
    with pytest.raises(RuntimeError, match="no"):
        worst_case(model, images(), LABELS, BallSettings(), BEGIN)
    assert model.training


def test_no_random_numbers_are_drawn_unless_asked():
    state = torch.random.get_rng_state()
    worst_case(net(), images(), LABELS, BallSettings(steps=2), BEGIN)
    assert torch.equal(torch.random.get_rng_state(), state)
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(worst_case(net(), images(), LABELS, BallSettings(steps=2, random_start=True), BEGIN))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    "values",
    [{"eps": 0}, {"eps": -1}, {"eps": float("inf")}, {"constraint": "l1"}, {"steps": 0}, {"step_size": 0}, {"ramp": 1}],
)
def test_a_threat_model_that_is_none_is_refused(values):
    with pytest.raises(ValidationError):
        BallSettings(**values)


@pytest.mark.parametrize(
    ("values", "suffix"),
    [
        ({"eps": 0.25}, "l2_eps0.25"),
        ({"eps": 1}, "l2_eps1"),
        ({"eps": 0.01}, "l2_eps0.01"),
        ({"constraint": "linf", "eps": 0.5 / 255}, "linf_eps0.5_255"),
        ({"constraint": "linf", "eps": 8 / 255}, "linf_eps8_255"),
    ],
)
def test_names_of_the_published_threat_models(values, suffix):
    assert BallSettings(**values).suffix() == suffix
