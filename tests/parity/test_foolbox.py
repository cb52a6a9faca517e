"""The released protocol against the very attack that the released code calls: Foolbox's L2FMNAttack."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from advalign.evaluation.protocols import protocol

foolbox = pytest.importorskip("foolbox")
torch.set_num_threads(1)

COUNT, SIDE = 64, 16
RELEASED = {"steps": 1000, "max_stepsize": 1.0, "min_stepsize": 1e-5, "gamma": 10}


def batch(seed, count):
    """Noise with a soft bright or dark disc somewhere in it: label 1 or 0."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=generator)
    places = torch.rand(count, 2, 1, 1, generator=generator) * 8 + 4
    grid = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")).float()
    discs = torch.exp(-(grid - places).square().sum(1, keepdim=True) / 18)
    noise = torch.rand(count, 3, SIDE, SIDE, generator=generator)
    return (0.25 + 0.5 * noise + 0.2 * discs * (2 * labels - 1)[:, None, None, None]).clamp(0, 1), labels


@cache
def trained(kind):
    """Two nets of different make: (ReLU, strided, with batch norm) and (SiLU, pooled, without)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = {
            "strided": nn.Sequential(
                nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2),
            ),
            "pooled": nn.Sequential(
                nn.Conv2d(3, 12, 5, padding=2), nn.SiLU(), nn.AvgPool2d(4), nn.Conv2d(12, 12, 3, padding=1), nn.SiLU(),
                nn.Flatten(), nn.Linear(192, 2),
            ),
        }[kind]  # fmt: skip
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(60):
        images, labels = batch(step, 64)
        optimiser.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimiser.step()
    return net.eval().requires_grad_(False)


class Counting(nn.Module):
    """A net that counts the images it is shown."""

    def __init__(self, net):
        super().__init__()
        self.net, self.shown = net, 0

    def forward(self, points):
        self.shown += len(points)
        return self.net(points)


@pytest.mark.parametrize("kind", ["strided", "pooled"])
def test_every_adversarial_image_is_that_of_foolbox_at_a_two_hundredth_of_the_queries(kind):
    images, truth = batch(999, COUNT)
    net = trained(kind)
    labels = net(images).argmax(1)
    assert (labels == truth).float().mean() > 0.8, "the net must have learnt its task"
    theirs, ours = Counting(net).eval(), Counting(net).eval()
    attack = foolbox.attacks.L2FMNAttack(**RELEASED)
    expected = attack.run(foolbox.PyTorchModel(theirs, bounds=(0, 1), device="cpu"), images, labels)
    result = protocol("feng2025-released").attack.run(ours, images, labels)
    assert set(result.status) == {"ok"}
    assert (net(expected).argmax(1) != labels).all()
    assert (result.adversarials - expected).abs().max() <= 1e-5
    norms = (expected - images).double().flatten(1).norm(dim=1)
    torch.testing.assert_close(result.norms, norms, rtol=1e-5, atol=0)
    assert len({round(norm, 1) for norm in norms.tolist()}) >= 2, "images must stop at different steps"
    lengths = sorted(set(result.queries.tolist()))
    assert lengths[0] == 1 + 2 + 1, "clean image, two iterates of which the first is the clean image, verification"
    assert theirs.shown == COUNT * RELEASED["steps"]
    assert ours.shown * 200 <= theirs.shown
