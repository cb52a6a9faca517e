"""Minimum linf norms against models whose answer is known, and against attacks within a radius."""

import math
from functools import cache, partial

import numpy as np
import pytest
import torch
from scipy import optimize

from advalign.attacks.linf_curve import LinfCurve
from advalign.errors import InputError
from advalign.evaluation.protocols import protocol
from advalign.strict_settings import parse
from tests.conftest import REFERENCE
from tests.optimum.test_fmn_fast import attack
from tests.optimum.test_fmn_fast import check as check_norms
from tests.parity import networks

torch.set_num_threads(1)

SHAPE, SIZE, COUNT = (3, 4, 4), 48, 32
BUDGETS = ("linf-curve-fast", "linf-curve", "linf-curve-thorough")
each_budget = pytest.mark.parametrize("name", BUDGETS)


check = partial(check_norms, below=1e-6)  # float32


def linf_optimum(normals, gaps, image):
    """Smallest ||d||_inf with normals @ d >= gaps and image + d in [0, 1]: a linear programme in (d, radius)."""
    rows = np.hstack([-normals, np.zeros((len(normals), 1))])
    within = np.vstack([np.hstack([sign * np.eye(SIZE), -np.ones((SIZE, 1))]) for sign in (1, -1)])
    solved = optimize.linprog(
        np.append(np.zeros(SIZE), 1.0),
        A_ub=np.vstack([rows, within]),
        b_ub=np.concatenate([-gaps, np.zeros(2 * SIZE)]),
        bounds=[*zip(-image, 1 - image, strict=True), (0, None)],
    )
    return solved.fun if solved.success else math.inf


class Linear:
    """A linear model of K classes in groups, images of a kind, and the exact optimum of each."""

    def __init__(self, groups, seed, kind="anywhere", scale=1.0):
        rng = np.random.default_rng(seed)
        low, high = (0.35, 0.65) if kind == "inside" else (0.0, 1.0)
        flat = rng.uniform(low, high, (COUNT, SIZE))
        flat = (flat > 0.5).astype(np.float64) if kind == "corners" else flat.astype(np.float32).astype(np.float64)
        weights = (rng.normal(size=(len(groups), SIZE)) / np.sqrt(SIZE)).astype(np.float32)
        bias = (-weights.astype(np.float64) @ flat.mean(0)).astype(np.float32)
        self._weights, self._bias, self._scale = torch.tensor(weights), torch.tensor(bias), scale
        self.images, self.groups = torch.tensor(flat).float().reshape(-1, *SHAPE), torch.tensor(groups)
        weights, decisions = weights.astype(np.float64), np.array(groups)
        logits = flat @ weights.T + bias
        self.labels = torch.tensor(decisions[logits.argmax(1)])
        self.optimum, self.formula = np.empty(COUNT), np.empty(COUNT)
        for number, (row, image) in enumerate(zip(logits, flat, strict=True)):
            own = np.flatnonzero(decisions == decisions[row.argmax()])
            others = np.flatnonzero(decisions != decisions[row.argmax()])
            self.optimum[number] = min(
                linf_optimum(weights[rival] - weights[own], row[own] - row[rival], image) for rival in others
            )
            self.formula[number] = min(
                (row.max() - row[rival]) / np.abs(weights[rival] - weights[row.argmax()]).sum() for rival in others
            )

    def __call__(self, images):
        return (images.flatten(1) @ self._weights.T + self._bias) * self._scale


@each_budget
@pytest.mark.parametrize("classes", [2, 10])
def test_inside_the_box_the_norm_is_the_gap_over_the_l1_norm_of_the_normal(name, classes):
    model = Linear(range(classes), 0, "inside")
    np.testing.assert_allclose(model.optimum, model.formula, rtol=1e-6)
    check(attack(name, model, model.images, model.labels), model.optimum)


@each_budget
@pytest.mark.parametrize("kind", ["anywhere", "corners"])
@pytest.mark.parametrize("classes", [2, 10])
def test_where_the_box_holds_pixels_the_norm_is_that_of_a_linear_programme(name, kind, classes):
    model = Linear(range(classes), 1, kind)
    assert np.mean(model.optimum / model.formula) > (1.2 if kind == "corners" else 1.0)
    check(attack(name, model, model.images, model.labels), model.optimum)


@pytest.mark.parametrize("groups", [[0] * 6 + [1] * 6, [0] * 5 + [1] * 5 + [2] * 5, [0] * 9 + [1] * 3])
def test_classes_in_groups_reach_the_optimum_or_come_close_to_its_corner(groups):
    """Where several classes of the right group tie at the optimum, no method that follows one gradient lands on it."""
    model = Linear(groups, 2, "inside")
    simple = np.isclose(model.optimum, model.formula, rtol=1e-6)
    assert 8 <= simple.sum() < COUNT, "both kinds must occur"
    result = attack("linf-curve", model, model.images, model.labels, groups=model.groups)
    assert set(result.status) == {"ok"}
    ratio = result.norms.numpy() / model.optimum
    assert (ratio >= 1 - 1e-5).all()
    assert ratio[simple].max() < 1.005
    assert ratio.mean() < 1.01


@pytest.mark.parametrize("scale", [1e-3, 500.0])
def test_the_scale_of_the_logits_changes_no_norm_of_a_linear_model(scale):
    model = Linear(range(10), 3, "inside", scale)
    check(attack("linf-curve", model, model.images, model.labels), model.optimum)


# a trained network


def held(result):
    """(N,) bool: right, and not flipped by an attack within a radius."""
    return torch.tensor([status == "attack_failed" for status in result.status])


@cache
def trained():
    images, labels = networks.coloured(1000, 40, 10)
    return networks.trained_on_colours(), images, labels


@cache
def curve(name="linf-curve"):
    return attack(name, *trained())


def test_logits_times_500_fool_pgd_and_leave_the_curve_as_it_is():
    net, images, labels = trained()
    settings = {"norm": "linf", "eps": 1.5 * float(curve().norms.nanmedian())}
    pgd = protocol("pgd").attack
    pgd = type(pgd)(parse(pgd.Settings, settings, "pgd"))
    honest = held(pgd.run(net, images, labels))
    fooled = held(pgd.run(lambda points: 500 * net(points), images, labels))
    scaled = attack("linf-curve", lambda points: 500 * net(points), images, labels)
    assert fooled.sum() >= honest.sum() + 8, "PGD on the cross-entropy must lose its gradient"
    np.testing.assert_allclose(scaled.norms.numpy(), curve().norms.numpy(), rtol=2e-3)


def test_no_image_that_autoattack_flips_holds_on_the_curve():
    net, images, labels = trained()
    eps = float(curve().norms.nanmedian()) * 1.002  # not on an image's own norm
    standard = protocol("autoattack").attack
    settings = {"norm": "linf", "eps": eps, "queries": 100}
    found = type(standard)(parse(standard.Settings, settings, "autoattack")).run(net, images, labels)
    right = torch.tensor([status != "misclassified_clean" for status in found.status])
    on_the_curve = right & ~(curve().norms <= eps)
    assert 8 <= held(found).sum() <= 32
    assert not (on_the_curve & ~held(found)).any()
    assert curve().queries.double().mean() < found.queries.double().mean() / 5


def test_more_budget_gives_no_larger_norms_on_average():
    fast, standard, thorough = (curve(name).norms.nanmean() for name in BUDGETS)
    assert thorough <= standard * 1.0005
    assert standard <= fast * 1.0005


# the audit


class Loose(LinfCurve):
    """A search that ends 20 % too far out."""

    def search(self, oracle, index):
        inputs = oracle.inputs[index]
        found = inputs + 1.2 * (curve().adversarials[index] - inputs)
        if self.audits:
            self._audit(oracle, index, found)
        return found


def test_the_audit_lowers_norms_that_are_doubted_and_wrong_and_touches_no_others():
    net, images, labels = trained()
    true = curve().norms
    eps = float(true.nanmedian()) * 1.05
    settings = parse(LinfCurve.Settings, {"budget": "audited", "audited_eps": eps}, "test")
    result = Loose(settings).run(net, images, labels)
    claimed = 1.2 * true
    doubted = (claimed > eps) & (claimed <= 1.5 * eps)
    wrong, settled = doubted & (true < eps * 0.99), claimed.isfinite() & ~doubted
    assert wrong.sum() >= 3
    assert (doubted & (true > eps * 1.01)).sum() >= 3
    assert (result.audit[wrong] == 1).all()
    assert (result.norms[wrong] <= true[wrong] * 1.02).all(), "walked on from there"
    assert (result.audit[doubted & (true > eps * 1.01)] == 0).all()
    assert result.audit[settled].isnan().all()
    torch.testing.assert_close(result.norms[settled], claimed[settled], rtol=1e-3, atol=1e-6)
    assert result.audit[~claimed.isfinite()].isnan().all()


def test_an_audited_search_audits_what_was_never_flipped():
    constant = torch.eye(10)[0]
    images = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    settings = parse(LinfCurve.Settings, {"budget": "audited"}, "test")
    few = LinfCurve(settings).run(
        lambda points: constant + 0 * points.flatten(1)[:, :10], images, torch.zeros(2).long()
    )
    assert few.status == ["attack_failed"] * 2
    assert few.audit.tolist() == [0, 0]
    assert few.queries.min() > 7000


def test_the_audited_radius_may_be_a_fraction_and_must_lie_in_the_box():
    assert parse(LinfCurve.Settings, {"audited_eps": "4/255"}, "test").audited_eps == 4 / 255
    with pytest.raises(InputError, match="audited_eps"):
        parse(LinfCurve.Settings, {"audited_eps": 1.5}, "test")
    with pytest.raises(InputError, match="budget"):
        protocol("linf-curve-slow")


# real networks, where they lie beside the project


@networks.needs_cifar
def test_no_instance_that_a_verifier_proved_robust_is_flipped_within_its_radius():
    net, *_ = networks.cifar("resnet4b", 0, 1)
    with np.load(REFERENCE / "cifar" / "resnet4b_verified_instances.npz") as stored:
        proved = stored["verdict"] == "UNSAT"
        images, labels = (torch.tensor(stored[key][proved]) for key in ("images", "labels"))
        eps = float(stored["eps"])
    result = attack("linf-curve", net, images.float() / 255, labels.long())
    assert result.status == ["ok"] * 17
    assert result.norms.min() > eps
