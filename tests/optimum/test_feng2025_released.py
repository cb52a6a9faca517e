"""The released protocol: a walk in unit steps that nothing projects, against loops written out here."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from advalign.attacks.feng2025_released import Feng2025Released
from advalign.evaluation.protocols import protocol

torch.set_num_threads(1)

STEPS = 1000


def step_length(number, steps=STEPS):
    """Cosine annealing from 1 to 1e-5."""
    return 1e-5 + (1 - 1e-5) * (1 + math.cos(math.pi * number / steps)) / 2


def hyperplane(size, seed):
    """A unit normal in float32, and the classifier normal . (x - 0.5) as two logits."""
    normal = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    normal /= normal.norm()

    def classifier(images):
        side = (images.flatten(1) - 0.5) @ normal
        return torch.stack([-side, side], 1)

    return normal, classifier


def test_step_lengths_by_value():
    assert step_length(0) == 1.0
    assert step_length(1) == pytest.approx(0.99999753, abs=1e-8)
    assert step_length(500) == pytest.approx(0.500005)
    assert step_length(999) == pytest.approx(1.2467e-5, rel=1e-4)


def test_on_a_linear_model_the_norm_is_the_first_sum_of_steps_beyond_the_boundary():
    distances = [0.01, 0.3, 0.999, 1.001, 1.7, 1.9999, 2.01, 2.6]
    normal, classifier = hyperplane(3 * 16 * 16, 0)  # 768 pixels: three unit steps stay inside the box
    images = torch.stack([0.5 + distance * normal for distance in distances]).reshape(-1, 3, 16, 16)
    result = protocol("feng2025-released").attack.run(classifier, images, torch.ones(len(images), dtype=torch.int64))
    sums = np.cumsum([step_length(number) for number in range(4)])
    taken = [int(np.argmax(sums > distance)) + 1 for distance in distances]
    assert taken == [1, 1, 1, 2, 2, 2, 3, 3]
    assert result.status == ["ok"] * len(distances)
    assert result.norms.tolist() == pytest.approx([sums[count - 1] for count in taken], rel=1e-5)
    # the clean image's own pass, every iterate with the clean image as the first, one verification
    assert result.queries.tolist() == [1 + (count + 1) + 1 for count in taken]
    assert (result.norms > torch.tensor(distances)).all()


def test_on_a_linear_model_with_an_active_box_the_walk_is_clipped():
    rng = np.random.default_rng(1)
    normal, classifier = hyperplane(108, 1)
    images = rng.integers(0, 2, (24, 3, 6, 6)).astype(np.float32)
    labels = classifier(torch.tensor(images)).argmax(1)
    norms = []
    for image, label in zip(images.reshape(24, -1).astype(np.float64), labels.tolist(), strict=True):
        uphill, point, number = normal.numpy().astype(np.float64) * (2 * label - 1), image, 0
        while (point - 0.5) @ uphill >= 0:
            point, number = np.clip(point - step_length(number) * uphill, 0, 1), number + 1
        norms.append(np.linalg.norm(point - image))
    result = protocol("feng2025-released").attack.run(classifier, torch.tensor(images), labels)
    assert set(result.status) == {"ok"}
    assert len(np.unique(np.round(norms, 3))) > 10, "the box must make norms differ from whole steps"
    assert result.norms.tolist() == pytest.approx(norms, rel=1e-4)


def test_gamma_and_eps_have_no_place_and_failures_are_open():
    assert set(Feng2025Released.Settings.model_fields) == {"steps", "step_size", "last_step_size"}
    _, classifier = hyperplane(48, 2)
    images = torch.full((2, 3, 4, 4), 0.5)

    def unreachable(points):
        return classifier(points) + torch.tensor([100.0, 0.0])

    attack = Feng2025Released(Feng2025Released.Settings(steps=20))
    result = attack.run(unreachable, images, torch.zeros(2, dtype=torch.int64))
    assert result.status == ["attack_failed"] * 2
    assert result.norms.isnan().all()
    assert result.queries.tolist() == [22, 22]


def batches(seed, count):
    """Four noisy prototypes as 3x16x16 images."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    prototypes = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    images = 0.5 + 0.8 * F.avg_pool2d(prototypes, 3, 1, 1)[labels]
    return (images + 0.8 * torch.randn(count, 3, 16, 16, generator=generator)).clamp(0, 1), labels


def trained(activation, seed):
    """A small net after a hundred steps."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), activation(), nn.Conv2d(8, 8, 3, stride=2, padding=1), activation(),
            nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, 4),
        )  # fmt: skip
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(100):
        images, labels = batches(step, 64)
        optimiser.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimiser.step()
    return net.eval().requires_grad_(False)


def never_projected(net, images, labels, steps):
    """FMN as Foolbox 3.3.4 runs it for l2: all steps, the best iterate kept, the projection's factor always one."""
    rows = torch.arange(len(images))
    delta, best_delta = torch.zeros_like(images), torch.zeros_like(images)
    best = torch.maximum(images, 1 - images).flatten(1).norm(dim=1)
    found, later = torch.zeros(len(images), dtype=torch.bool), 0
    for number in range(steps):
        points = (images + delta).requires_grad_(True)
        logits = net(points)
        others = logits.detach().clone()
        others[rows, labels] = -torch.inf
        gain = logits[rows, others.argmax(1)] - logits[rows, labels]
        (gradient,) = torch.autograd.grad(gain.sum(), points)
        adversarial, norm = logits.argmax(1) != labels, delta.flatten(1).norm(dim=1)
        better = adversarial & (norm <= best)
        later += int((better & found).sum())
        found |= adversarial
        best = torch.where(better, norm, best)
        best_delta[better] = delta[better]
        unit = gradient / gradient.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
        delta = (images + delta + step_length(number, steps) * unit).clamp(0, 1) - images
    return images + best_delta, found, later


@pytest.mark.parametrize(("activation", "seed"), [(nn.ReLU, 0), (nn.SiLU, 1)])
def test_stopping_at_the_first_adversarial_equals_keeping_the_best_of_all_steps(activation, seed):
    net = trained(activation, seed)
    images, labels = batches(999, 48)
    expected, found, later = never_projected(net, images, labels, 200)
    assert later == 0, "a later iterate was shorter: stopping early would not be exact here"
    result = Feng2025Released(Feng2025Released.Settings(steps=200)).run(net, images, labels)
    wrong = net(images).argmax(1) != labels
    ok = torch.tensor([status == "ok" for status in result.status])
    assert ok.sum() >= 40
    assert torch.equal(ok, found & ~wrong)
    torch.testing.assert_close(result.adversarials[ok], expected[ok], rtol=0, atol=1e-6)
    norms = (expected - images).double().flatten(1).norm(dim=1)
    torch.testing.assert_close(result.norms[ok], norms[ok], rtol=1e-6, atol=0)
    assert len(set(result.queries[ok].tolist())) >= 3, "images must stop at different steps for this to say anything"
    assert result.queries.max() < 20


def test_its_norms_are_not_minimal():
    """The reason why it is for comparison only: it returns whole steps where the boundary is much closer."""
    net = trained(nn.SiLU, 1)
    images, labels = batches(999, 24)
    walk = protocol("feng2025-released").attack.run(net, images, labels)
    minimal = protocol("fmn-100").attack.run(net, images, labels)
    both = ~(walk.norms.isnan() | minimal.norms.isnan())
    assert both.sum() >= 12
    assert (walk.norms[both] >= minimal.norms[both] - 1e-5).all()
    assert walk.norms[both].mean() > 1.2 * minimal.norms[both].mean()
