"""FMN against Algorithm 1 of Pintor et al. (2021) written out line by line, image by image."""

import math

import pytest
import torch
from torch import nn

from advalign.attacks.base import Oracle
from advalign.attacks.fmn import FastMinimumNorm, cosine

torch.set_num_threads(1)

COUNT = 16


def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.SiLU(), nn.Conv2d(6, 6, 3, stride=2), nn.SiLU(), nn.Flatten(),
            nn.Linear(6 * 16, 4),
        ).eval()  # fmt: skip


def images():
    return 0.1 + 0.8 * torch.rand(COUNT, 3, 10, 10, generator=torch.Generator().manual_seed(1))


def algorithm_1(model, x, y, steps, alpha=(1.0, 1e-5), gamma=(0.05, 0.001)):
    """One image: the smallest adversarial perturbation among `steps` evaluated iterates, None where there is none."""

    def annealed(ends, k):
        return ends[1] + 0.5 * (ends[0] - ends[1]) * (1 + math.cos(math.pi * k / steps))

    delta, best, best_norm, eps = torch.zeros_like(x), None, math.inf, math.inf
    for k in range(steps):
        point = (x + delta).requires_grad_()
        z = model(point[None])[0]
        margin = z[y] - max(z[j] for j in range(len(z)) if j != y)
        (g,) = torch.autograd.grad(margin, point)
        margin, norm = margin.item(), delta.norm().item()
        found = best is not None
        if margin < 0:
            if norm < best_norm:
                best, best_norm = delta, norm
            eps = min(eps * (1 - annealed(gamma, k)), best_norm)
        elif found:
            eps = eps * (1 + annealed(gamma, k))
        else:
            eps = norm + abs(margin) / g.norm().item()
        eps = min(eps, torch.maximum(x, 1 - x).norm().item())
        delta = delta - annealed(alpha, k) * g / g.norm()
        if delta.norm() > eps:
            delta = delta * (eps / delta.norm())
        delta = (x + delta).clamp(0, 1) - x
    return best


@pytest.mark.parametrize(
    ("steps", "changes"),
    [
        (1, {}),
        (2, {}),
        (5, {}),
        (12, {}),
        (30, {}),
        (12, {"step_size": 0.2, "last_step_size": 0.05}),
        (12, {"gamma": 0.5, "last_gamma": 0.2}),
    ],
)
def test_every_iterate_counts_as_in_algorithm_1(steps, changes):
    """In float64, where rounding does not decide on which side of the boundary an iterate falls."""
    model, clean = net().double(), images().double()
    labels = model(clean).argmax(1)
    oracle, index = Oracle(model, clean, labels), torch.arange(COUNT)
    found = FastMinimumNorm(FastMinimumNorm.Settings(steps=steps, **changes)).search(oracle, index)
    settings = {"step_size": 1.0, "last_step_size": 1e-5, "gamma": 0.05, "last_gamma": 0.001} | changes
    alpha = settings["step_size"], settings["last_step_size"]
    gamma = settings["gamma"], settings["last_gamma"]
    compared = 0
    for number, label in enumerate(labels.tolist()):
        perturbation = algorithm_1(model, clean[number], label, steps, alpha, gamma)
        if perturbation is not None:
            norm = (found[number] - clean[number]).norm().item()  # two iterates may tie in norm: only that is settled
            assert norm == pytest.approx(perturbation.norm().item(), rel=1e-9)
            compared += 1
    assert compared >= {1: 0, 2: 4}.get(steps, 8)
    assert (oracle.queries == steps).all()


def test_what_is_kept_is_the_smallest_and_not_the_last():
    """After the search has found the boundary its iterates swing across it; the returned norm never grows with time."""
    model, clean = net(), images()
    labels = model(clean).argmax(1)
    kept = []

    class Watched(FastMinimumNorm):
        def search(self, oracle, index):
            plain = oracle.margin_and_gradient

            def listen(points, which):
                margin, gradient = plain(points, which)
                norms = (points - oracle.inputs[which]).flatten(1).norm(dim=1)
                kept.append(torch.where(margin < 0, norms, torch.inf))
                return margin, gradient

            oracle.margin_and_gradient = listen
            return super().search(oracle, index)

    result = Watched(FastMinimumNorm.Settings(steps=40)).run(model, clean, labels)
    smallest = torch.stack(kept).min(0).values
    found = smallest.isfinite()
    assert found.sum() >= 8
    torch.testing.assert_close(result.norms[found], smallest[found].double(), rtol=1e-3, atol=0)
    last = torch.stack([step[found] for step in kept])
    assert any(column[column.isfinite()][-1] > 1.0001 * column.min() for column in last.T), (
        "one must end above its best"
    )


def test_cosine_annealing_by_value():
    assert cosine(1.0, 1e-5, 0, 1000) == 1.0
    assert cosine(1.0, 0.0, 500, 1000) == pytest.approx(0.5)
    assert cosine(0.05, 0.001, 250, 1000) == pytest.approx(0.001 + 0.049 * (1 + math.sqrt(0.5)) / 2)
    assert cosine(1.0, 1e-5, 1000, 1000) == pytest.approx(1e-5)
