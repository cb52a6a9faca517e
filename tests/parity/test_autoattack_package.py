"""AutoAttack against the package of its authors: each part by value from the same start, the whole image by image."""

from functools import cache

import pytest
import torch
from torch import nn

from advalign.attacks._auto_pgd import auto_pgd, checks
from advalign.attacks._fab import fast_adaptive_boundary, nearest_on_plane
from advalign.attacks._oracle import Oracle
from advalign.attacks._radius import Starts, ThreatModel, cross_entropy, scaled_lead
from advalign.attacks._square import square
from advalign.evaluation.protocols import protocol
from tests.parity.networks import Counting, cifar, coloured, needs_cifar, trained_on_colours

pyautoattack = pytest.importorskip("pyautoattack")
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted  # noqa: E402
from pyautoattack.fab_projections import projection_l2, projection_linf  # noqa: E402
from pyautoattack.fab_pt import FABAttack_PT  # noqa: E402
from pyautoattack.square import SquareAttack  # noqa: E402

torch.set_num_threads(1)
COUNT, CLASSES = 48, 10
EPS = {"linf": 8 / 255, "l2": 0.4}
THEIR_NORM = {"linf": "Linf", "l2": "L2"}
each_norm = pytest.mark.parametrize("norm", ["l2", "linf"])


@cache
def victims():
    net, (images, truth) = trained_on_colours(CLASSES), coloured(999, COUNT, CLASSES)
    labels = net(images).argmax(1)
    assert (labels == truth).float().mean() > 0.8, "the net must have learnt its task"
    return net, images, labels


@pytest.fixture
def random_state():
    """The package seeds the global random numbers."""
    with torch.random.fork_rng():
        yield


def ranked(net, images, rank):
    """(N, K) bool: the class of a rank on the clean image, 1 being the label."""
    return nn.functional.one_hot(net(images).argsort(1)[:, -rank], CLASSES).bool()


def test_the_checks_of_auto_pgd_are_the_published_ones():
    assert list(checks(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(checks(100).values()) == [22, 19, 16, 13, 10, 7, 6, 6]


@each_norm
@pytest.mark.parametrize("loss", ["cross-entropy", "targeted"])
@pytest.mark.parametrize("share", [0.5, 0.75])
def test_auto_pgd_ends_at_the_packages_point(norm, loss, share):
    net, images, labels = victims()
    model = ThreatModel(norm=norm, eps=EPS[norm] * share)
    start, index = Starts(model, 0).draw(images), torch.arange(COUNT)
    told = {"norm": THEIR_NORM[norm], "eps": model.eps, "n_iter": 100, "device": "cpu"}
    if loss == "targeted":
        theirs = APGDAttack_targeted(net, **told)
        theirs.y_target = net(images).argsort(1)[:, -3]
        seen, ours = ranked(net, images, 3), scaled_lead
    else:
        theirs, seen, ours = APGDAttack(net, loss="ce", **told), None, cross_entropy
    theirs.init_hyperparam(images)
    expected, holds, loss_best, _ = theirs.attack_single_run(images, labels, x_init=start)
    found, flipped = auto_pgd(Oracle(net, images, labels), index, start, ours, seen, model, 100)
    assert torch.equal(flipped, ~holds.bool())
    assert 2 <= flipped.sum() <= COUNT - 2
    own = nn.functional.one_hot(labels, CLASSES).bool()
    torch.testing.assert_close(ours(net(found), own, seen)[~flipped], loss_best[~flipped], rtol=1e-3, atol=1e-4)
    apart = (found - expected)[~flipped].abs().flatten(1).amax(1)
    assert (apart < 1e-4).float().mean() > 0.9, apart  # rounding can carry single images to other ends


@each_norm
def test_planes_are_met_where_the_package_meets_them(norm):
    generator = torch.Generator().manual_seed(4)
    points = torch.rand(200, 3, 5, 5, generator=generator).round(decimals=1)  # some on a face of the box
    gradient = torch.randn(200, 3, 5, 5, generator=generator)
    gradient[:20] *= torch.rand(20, 3, 5, 5, generator=generator) > 0.5  # some entries do not matter
    gain = 6 * torch.randn(200, generator=generator) * torch.linspace(0, 9, 200)  # some out of reach
    flat, against = points.flatten(1), gradient.flatten(1)
    project = {"linf": projection_linf, "l2": projection_l2}[norm]
    expected = project(flat, against, gain + (flat * against).sum(1)).view_as(points)
    found = nearest_on_plane(points, gradient, gain, norm)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    gained, most = (gradient * found).flatten(1).sum(1), (gradient * gain.sign()[:, None, None, None]).clamp_min(0)
    reach = (most * (1 - points)).flatten(1).sum(1) + (
        (-gradient * gain.sign()[:, None, None, None]).clamp_min(0) * points
    ).flatten(1).sum(1)
    torch.testing.assert_close(gained, gain.clamp(-reach, reach), rtol=1e-3, atol=1e-3)
    assert 20 < (gain.abs() > reach).sum() < 180


@each_norm
@pytest.mark.parametrize("rank", [2, 4])
def test_fab_flips_what_the_packages_flips(norm, rank, random_state):
    net, images, labels = victims()
    theirs = FABAttack_PT(net, norm=THEIR_NORM[norm], n_iter=100, eps=EPS[norm], targeted=True, device="cpu")
    theirs.target_class = rank
    expected = theirs.attack_single_run(images, labels, is_targeted=True)
    norms = (expected - images).flatten(1).norm(dim=1, p=2 if norm == "l2" else torch.inf)
    norms = norms.masked_fill(norms == 0, torch.inf)
    eps = float(norms.median())
    target, index = ranked(net, images, rank), torch.arange(COUNT)
    _, flipped = fast_adaptive_boundary(
        Oracle(net, images, labels), index, target, ThreatModel(norm=norm, eps=eps), 100
    )
    clear = (norms / eps - 1).abs() > 2e-3
    assert clear.sum() > 0.8 * COUNT
    assert torch.equal(flipped[clear], (norms < eps)[clear])


@each_norm
@pytest.mark.parametrize("member", [0, 1, 2, 3])
def test_square_makes_the_packages_queries_on_one_image(norm, member, random_state):
    """For one image the draws are the same: the same seed, in the same order."""
    net, images, labels = victims()
    image, label, eps = images[member : member + 1], labels[member : member + 1], EPS[norm] * 0.7
    seen = {"theirs": [], "ours": []}

    def watching(name):
        def forward(points):
            seen[name].append(points.clone())
            return net(points)

        return forward

    theirs = SquareAttack(
        watching("theirs"), norm=THEIR_NORM[norm], eps=eps, n_queries=300, seed=7, device="cpu", resc_schedule=False
    )
    theirs.perturb(image, label)
    square(Oracle(watching("ours"), image, label), torch.tensor([0]), ThreatModel(norm=norm, eps=eps), 300, 7)
    expected = seen["theirs"][1:-1] if len(seen["theirs"]) > 2 else seen["theirs"][1:]  # clean first, the end once more
    assert len(seen["ours"]) == len(expected) > 20
    for ours, other in zip(seen["ours"], expected, strict=True):
        torch.testing.assert_close(ours, other, rtol=0, atol=1e-5)


def decisions(net, images, labels, norm, eps):
    """Which images hold, by the package and by ours, and passes of each; Square has a tenth of its queries."""
    theirs, ours = Counting(net).eval(), Counting(net).eval()
    attack = pyautoattack.AutoAttack(theirs, norm=THEIR_NORM[norm], eps=eps, seed=0, device="cpu")
    attack.square.n_queries = 500
    points, _ = attack.run_standard_evaluation(images, labels, batch_size=len(images))
    value = eps * 255 if norm == "linf" else eps
    standard = protocol(f"autoattack-{norm}{value:.6f}").attack
    ours_short = type(standard)(standard.settings.model_copy(update={"queries": 500}))
    result = ours_short.run(ours, images, labels)
    holds = torch.tensor([status == "attack_failed" for status in result.status])
    return net(points).argmax(1) == labels, holds, theirs.shown, ours.shown


@pytest.mark.slow
@each_norm
def test_the_whole_decides_image_by_image_as_the_package_does(norm, random_state):
    net, images, labels = victims()
    expected, holds, theirs, ours = decisions(net, images[:24], labels[:24], norm, EPS[norm] * 0.7)
    assert torch.equal(holds, expected)
    assert 4 <= holds.sum() <= 20
    assert ours < theirs * 1.01


@pytest.mark.slow
@needs_cifar
@pytest.mark.parametrize(
    ("name", "norm", "eps"),
    [("resnet4b", "linf", 4 / 255), ("resnet4b", "l2", 0.4)],
)
def test_it_decides_as_the_package_does_on_real_networks(name, norm, eps, random_state):
    net, images, labels = cifar(name, 0, 12)
    expected, holds, theirs, ours = decisions(net, images, labels, norm, eps)
    assert torch.equal(holds, expected)
    assert 2 <= holds.sum() <= 10
    assert ours < theirs * 1.01
