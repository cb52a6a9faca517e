"""The released protocol against the very attack that the released code calls: Foolbox's L2FMNAttack."""

import pytest
import torch

from advalign.evaluation.protocols import protocol
from tests.parity.networks import COUNT, Counting, batch, trained

foolbox = pytest.importorskip("foolbox")
torch.set_num_threads(1)

RELEASED = {"steps": 1000, "max_stepsize": 1.0, "min_stepsize": 1e-5, "gamma": 10}


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
