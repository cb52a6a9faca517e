"""Sanity flags: a clean net raises none, and each kind of misleading model raises its own."""

import pytest
import torch
from torch import nn

from advalign.probes._sanity import FLAGS, sanity_flags

torch.set_num_threads(1)

LABELS = torch.tensor([0, 1, 2, 0])
WEIGHTS = torch.randn(3, 192, generator=torch.Generator().manual_seed(3))


def images():
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def net(*, dropout=0.0):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.SiLU(), nn.Dropout(dropout), nn.AdaptiveAvgPool2d(3),
            nn.Flatten(), nn.Linear(54, 3),
        ).eval()  # fmt: skip


def linear(points):
    return points.flatten(1) @ WEIGHTS.T


class Noisy:
    """Adds noise of a given size, relative to the spread of its logits."""

    def __init__(self, share):
        self.generator, self.share = torch.Generator().manual_seed(5), share

    def __call__(self, points):
        logits = linear(points)
        return logits + self.share * logits.std() * torch.randn(logits.shape, generator=self.generator)


def gap(points):
    """A root of something that is zero everywhere: its value is fine, its slope is zero times infinity."""
    return linear(points) + (0 * points).sum((1, 2, 3)).sqrt()[:, None] * torch.tensor([1.0, 2.0, 3.0])


def stepped(points):
    return linear((points * 4).round() / 4)


def half_flat(points):
    """Flat for the first image alone."""
    inside = (points[:, 0, 0, 0] > images()[0, 0, 0, 0] + 1e-6) | (points[:, 0, 0, 0] < images()[0, 0, 0, 0] - 1e-6)
    return linear(points * inside[:, None, None, None])


@pytest.mark.parametrize("logits", [net(), net(dropout=0.5), linear, lambda points: linear(points).double()])
def test_a_clean_model_raises_no_flag(logits):
    assert sanity_flags(logits, images(), LABELS) == []


@pytest.mark.parametrize(
    ("logits", "flags"),
    [
        (lambda points: linear(points) + torch.tensor([0.0, -torch.inf, 0.0]), ["non-finite-logits"]),
        (lambda points: linear(points) * torch.nan, ["non-finite-logits", "non-finite-gradients"]),
        (gap, ["non-finite-gradients"]),
        (stepped, ["zero-gradients"]),
        (half_flat, ["zero-gradients"]),
        (lambda points: torch.zeros(len(points), 3) + 0 * linear(points), ["zero-gradients"]),
        (lambda points: linear(points).softmax(1), ["probabilities"]),
        (Noisy(0.1), ["stochastic"]),
        (Noisy(1e-5), []),
        (net().train(), ["train-mode"]),
        (net(dropout=0.5).train(), ["train-mode", "stochastic"]),
        (nn.Sequential(net(dropout=0.5).train(), nn.Softmax(1)), ["train-mode", "stochastic", "probabilities"]),
    ],
)
def test_each_misleading_model_raises_its_own_flags_in_their_order(logits, flags):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        labels = torch.tensor([0, 2, 2, 0])  # never class 1: one case has minus infinity there
        found = sanity_flags(logits, images(), labels)
    assert found == flags
    assert found == [name for name in FLAGS if name in flags]


def test_one_layer_in_training_mode_is_enough():
    model = net()
    model[1].train()
    assert "train-mode" in sanity_flags(model, images(), LABELS)


def test_logits_between_zero_and_one_that_do_not_sum_to_one_are_no_probabilities():
    assert sanity_flags(lambda points: linear(points).sigmoid(), images(), LABELS) == []
    assert sanity_flags(lambda points: 2 * linear(points).softmax(1) - 1 / 3, images(), LABELS) == []


def test_a_flat_margin_between_classes_of_one_group_is_no_flag():
    """Classes 0 and 1 are one function: between them the margin is flat, between the groups it is not."""

    def twins(points):
        value = points.flatten(1).mean(1)
        return torch.stack([value + 1, value, -value], 1)

    labels = torch.zeros(4, dtype=torch.int64)
    assert sanity_flags(twins, images(), labels) == ["zero-gradients"]
    assert sanity_flags(twins, images(), labels, torch.tensor([0, 0, 1])) == []
    assert sanity_flags(twins, images(), labels, torch.tensor([0, 1, 1])) == ["zero-gradients"]


def test_the_model_is_asked_three_times_about_each_image_and_left_as_it_was():
    model, asked = net(), []
    model.register_forward_hook(lambda _, inputs, __: asked.append(len(inputs[0])))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sanity_flags(model, images(), LABELS)
    assert asked == [4, 4, 4]
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())
