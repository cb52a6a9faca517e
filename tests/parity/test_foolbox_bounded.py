"""FGSM and PGD against Foolbox's, image by image: by value from the same start, and by decision."""

import pytest
import torch
from torch import nn

from advalign.attacks.base import Oracle
from advalign.evaluation.protocols import protocol
from advalign.strict_settings import fraction
from tests.parity.networks import COUNT, batch, trained

foolbox = pytest.importorskip("foolbox")
torch.set_num_threads(1)
EPS = {"linf": 8 / 255, "l2": 0.5}
PEERS = {
    ("fgsm", "linf"): "LinfFastGradientAttack",
    ("fgsm", "l2"): "L2FastGradientAttack",
    ("pgd", "linf"): "LinfProjectedGradientDescentAttack",
    ("pgd", "l2"): "L2ProjectedGradientDescentAttack",
}
each_network = pytest.mark.parametrize("kind", ["strided", "pooled"])
each_norm = pytest.mark.parametrize("norm", ["l2", "linf"])


def peers(name, norm, net, images, labels, eps, **settings):
    """Foolbox's points: the last iterates."""
    attack = getattr(foolbox.attacks, PEERS[name, norm])(random_start=False, **settings)
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    return attack.run(model, images, foolbox.criteria.Misclassification(labels), epsilon=eps)


def flips(net, points, labels):
    return net(points).argmax(1) != labels


def victims(kind):
    net, (images, _) = trained(kind), batch(999, COUNT)
    return net, images, net(images).argmax(1)


@each_network
@each_norm
@pytest.mark.parametrize("share", ["1/2", "1", "2"])
def test_fgsm_is_foolboxs_to_the_last_bits(kind, norm, share):
    net, images, labels = victims(kind)
    eps = EPS[norm] * fraction(share)
    expected = peers("fgsm", norm, net, images, labels, eps)
    attack = protocol(f"fgsm-{norm}{eps * (255 if norm == 'linf' else 1):.9f}").attack
    found = attack.search(Oracle(net, images, labels), torch.arange(COUNT))
    assert (found - expected).abs().max() <= 1e-6
    flipped = torch.tensor([status == "ok" for status in attack.run(net, images, labels).status])
    assert torch.equal(flipped, flips(net, expected, labels))
    assert share != "1" or 0 < flipped.sum() < COUNT


@each_network
@each_norm
def test_what_pgd_does_not_flip_ends_where_foolboxs_ends_and_what_foolbox_flips_it_flips(kind, norm):
    net, images, labels = victims(kind)
    eps = EPS[norm]
    for steps in (1, 5, 20):
        expected = peers("pgd", norm, net, images, labels, eps, steps=steps, abs_stepsize=2 * eps / steps)
        attack = protocol("pgd").attack
        attack = type(attack)(
            attack.settings.model_copy(update={"norm": norm, "eps": eps, "steps": steps, "random_start": False})
        )
        found = attack.search(Oracle(net, images, labels), torch.arange(COUNT))
        holds = ~flips(net, found, labels)
        assert (found - expected)[holds].abs().max() <= 1e-5
        assert not (flips(net, expected, labels) & holds).any()
        assert 0 < holds.sum() < COUNT


@each_network
def test_logits_times_500_fool_both_alike(kind):
    net, images, labels = victims(kind)
    scaled = nn.Sequential(net, nn.Linear(2, 2, bias=False)).eval().requires_grad_(False)
    scaled[1].weight.copy_(500 * torch.eye(2))
    eps, steps = 16 / 255, 20
    expected = peers("pgd", "linf", scaled, images, labels, eps, steps=steps, abs_stepsize=2 * eps / steps)
    attack = protocol("pgd-20-linf16").attack
    attack = type(attack)(attack.settings.model_copy(update={"random_start": False}))
    plain, blinded = (
        torch.tensor([status == "ok" for status in attack.run(one, images, labels).status]) for one in (net, scaled)
    )
    assert torch.equal(blinded, flips(scaled, expected, labels))
    assert blinded.sum() < plain.sum() / 2
