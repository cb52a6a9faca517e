"""CKA, dissimilarities and ceilings: against SciPy, by hand, and on the matrices of 15 people."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from advalign.tensors.representations import agreement, category_dissimilarities, ceilings, dissimilarities, linear_cka


def features(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("debiased", [True, False])
def test_cka_ignores_rotation_scale_and_shift(debiased):
    first = features(30, 6)
    turn = torch.linalg.qr(features(6, 6, seed=1)).Q
    assert float(linear_cka(first, 3 * first @ turn + 5, debiased=debiased)) == pytest.approx(1)


def test_plain_cka_is_the_textbook_formula():
    first, second = features(20, 5), features(20, 7, seed=1)
    x, y = first - first.mean(0), second - second.mean(0)
    wanted = (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())
    assert float(linear_cka(first, second, debiased=False)) == pytest.approx(float(wanted))


def test_debiased_cka_is_the_unbiased_estimator_by_its_sum():
    first, second = features(9, 4), features(9, 5, seed=1)

    def hsic(one, other):  # Song et al. 2012, eq. 5
        count = len(one)
        k, l = one @ one.T, other @ other.T  # noqa: E741
        k, l = k - torch.diag(k.diag()), l - torch.diag(l.diag())  # noqa: E741
        rest = k.sum() * l.sum() / ((count - 1) * (count - 2)) - 2 / (count - 2) * (k @ l).sum()
        return (torch.trace(k @ l) + rest) / (count * (count - 3))

    wanted = hsic(first, second) / (hsic(first, first) * hsic(second, second)).sqrt()
    assert float(linear_cka(first, second)) == pytest.approx(float(wanted))


def test_independent_features_have_no_debiased_cka():
    first, second = features(40, 25, 300), features(40, 25, 300, seed=1)
    assert abs(float(linear_cka(first, second).mean())) < 0.02
    assert float(linear_cka(first, second, debiased=False).mean()) > 0.8
    assert torch.isnan(linear_cka(torch.ones(5, 2), first[0, :5]))


def test_dissimilarities_are_those_of_scipy():
    some = features(3, 8, 5)
    assert dissimilarities(some).numpy() == pytest.approx(np.stack([pdist(one, "correlation") for one in some]))
    assert dissimilarities(torch.tensor([[1.0, 1.0], [0.0, 1.0]])).isnan().all()


def test_ceilings_are_those_of_nili():
    people = features(5, 45).exp() + features(1, 45, seed=1).exp()
    lower = [spearmanr(np.delete(people.numpy(), one, 0).mean(0), people[one])[0] for one in range(5)]
    found = ceilings(people)
    assert found.lower == pytest.approx(np.mean(lower))
    models = torch.cat([people, features(200, 45, seed=2), people.mean(0, keepdim=True)])
    reached = [float(agreement(model, people).mean()) for model in models]
    assert max(reached) <= found.upper
    assert found.lower < found.upper


def test_agreement_is_spearmans_rho_of_each_person():
    people, model = features(3, 28), features(28, seed=5)
    assert agreement(model, people).tolist() == pytest.approx([spearmanr(model, one)[0] for one in people])


HUMAN = Path(__file__).parents[4] / "shared/reference/neural/human92"


@pytest.mark.skipif(not HUMAN.is_dir(), reason="needs ../shared/reference/neural: matrices of 15 people")
def test_matrices_of_fifteen_people():
    first, second = np.triu_indices(92, 1)
    animate = category_dissimilarities((torch.arange(92) >= 48).long())
    lower, model = {}, {}
    for area in ("EVC", "IT"):
        with np.load(HUMAN / f"92images_fmri_{area}_RDMs.npz") as held:
            people = torch.from_numpy(held["Net_RDM"][:, first, second])
        lower[area] = ceilings(people).lower
        model[area] = float(agreement(animate, people).mean())
    assert lower == pytest.approx({"EVC": 0.239, "IT": 0.449}, abs=0.0005)
    assert model["IT"] - model["EVC"] == pytest.approx(0.235, abs=0.005)
