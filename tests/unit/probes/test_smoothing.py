"""Randomised smoothing on linear classifiers, whose smoothed decisions are known in closed form; rows and numbers."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from advalign.data.sets.base import Items
from advalign.errors import DataError, InputError
from advalign.evaluation.protocols import protocol
from advalign.metrics.base import Evaluation
from advalign.models.classifier import Classifier, Preprocessing
from advalign.probes.base import Conditions, Model
from advalign.probes.smoothing import ABSTAINS, Smoothing, certified_accuracy
from advalign.settings import ProtocolSettings
from advalign.vocabulary import describe

torch.set_num_threads(1)
SIZE = 2
SMALL = {"n0": 20, "n": 200, "alpha": 0.01}


class Planes(nn.Module):
    """Logits that are linear in the pixels."""

    def __init__(self, weights, offsets):
        super().__init__()
        self.weights, self.offsets = weights, offsets

    def forward(self, pixels):
        return pixels.flatten(1) @ self.weights.T + self.offsets


def model(network, groups=None):
    preprocessing = Preprocessing(input_size=SIZE, mean=(0.0,) * 3, std=(1.0,) * 3)
    return Model("planes", Classifier(network, preprocessing).eval(), groups, "cpu")


def one_plane():
    """Two classes on the two sides of a plane through the middle of the pixels."""
    normal = torch.randn(12, generator=torch.Generator().manual_seed(0))
    normal = normal / normal.norm()
    return Planes(torch.stack([-normal, normal]), torch.stack([normal.sum(), -normal.sum()]) / 2)


def items_of(pixels, labels):
    table = pd.DataFrame({"image": np.arange(len(pixels)), "label": labels.numpy()})
    return Items(table, labels, lambda _: pixels)


def drawn(count=40, seed=1):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def measured(network, pixels, labels, groups=None, batch_size=None, **values):
    probe = Smoothing(Smoothing.Settings(**{**SMALL, **values}))
    return probe.measure(model(network, groups), items_of(pixels, labels), Conditions(batch_size)).rows


def distances(network, pixels):
    return (network(pixels)[:, 1]).abs().double().numpy()


@pytest.mark.parametrize("sequential", [False, True])
def test_votes_are_those_of_gaussian_noise_and_no_radius_is_above_the_true_one(sequential):
    """A plane at distance d from the image wins Phi(d / sigma) of the votes; the true radius is d."""
    network, pixels = one_plane(), drawn(400)
    labels = network(pixels).argmax(1)
    rows = measured(network, pixels, labels, sequential=sequential)
    true = distances(network, pixels)
    assert (rows["certified_radius_l2"] > true).sum() <= stats.binom.isf(1e-6, 400, 0.01)
    sure = rows["smoothed_decision"] != ABSTAINS
    assert rows["correct"][sure].mean() > 0.99
    if not sequential:
        own = np.where(rows["correct"] | ~sure, stats.norm.cdf(true / 0.25), np.nan)
        far = rows["correct"].to_numpy()
        spread = np.sqrt((own * (1 - own) / 200)[far])
        surprise = ((rows["votes"] / 200 - own)[far] / np.maximum(spread, 1e-3)).to_numpy()
        assert abs(surprise.mean()) < 5 / math.sqrt(far.sum())  # too strong or too weak noise would move all of them
        assert 0.8 < surprise.std() < 1.2


def test_rows_by_value():
    """A decision that no noise changes, and one that noise makes a coin toss."""
    always = Planes(torch.zeros(2, 12), torch.tensor([0.0, 1.0]))
    rows = measured(always, drawn(2), torch.tensor([1, 0]), n0=10, n=100)
    bound = 0.01 ** (1 / 100)
    assert list(rows.columns) == [
        "image", "label", "smoothed_decision", "votes", "samples", "votes_at_least", "certified_radius_l2", "correct",
    ]  # fmt: skip
    assert list(rows["smoothed_decision"]) == [1, 1]
    assert list(rows["correct"]) == [True, False]
    assert list(rows["votes"]) == [100, 100]
    assert list(rows["samples"]) == [110, 110]
    np.testing.assert_allclose(rows["votes_at_least"], bound, rtol=1e-12)
    np.testing.assert_allclose(rows["certified_radius_l2"], 0.25 * stats.norm.ppf(bound), rtol=1e-12)
    coin = one_plane()
    rows = measured(coin, torch.full((3, 3, SIZE, SIZE), 0.5), torch.tensor([0, 1, 0]))
    assert list(rows["smoothed_decision"]) == [ABSTAINS] * 3
    assert list(rows["certified_radius_l2"]) == [0.0] * 3
    assert not rows["correct"].any()


def test_a_sequential_image_that_nothing_changes_stops_as_soon_as_its_radii_are_shown():
    always = Planes(torch.zeros(2, 12), torch.tensor([0.0, 1.0]))
    rows = measured(always, drawn(2), torch.ones(2, dtype=torch.int64), n0=10, n=1000, alpha=0.001, sequential=True)
    assert list(rows["samples"]) == [410, 410]  # 361 votes would do for 0.5
    assert (rows["certified_radius_l2"] >= 0.5).all()
    rows = measured(
        always, drawn(2), torch.ones(2, dtype=torch.int64), n0=10, n=1000, alpha=0.001, sequential=True, radii=(0.25,)
    )
    assert list(rows["samples"]) == [110, 110]


@pytest.mark.parametrize("sequential", [False, True])
def test_rows_do_not_depend_on_batches_nor_on_what_else_is_measured(sequential):
    network, pixels = one_plane(), drawn(12)
    labels = network(pixels).argmax(1)
    whole = measured(network, pixels, labels, sequential=sequential)
    for batch_size in (1, 7, 64, 1000):
        again = measured(network, pixels, labels, batch_size=batch_size, sequential=sequential)
        pd.testing.assert_frame_equal(again, whole, check_exact=True)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    shuffled = measured(network, pixels[order], labels[order], sequential=sequential)
    columns = [column for column in whole if column != "image"]
    pd.testing.assert_frame_equal(
        shuffled[columns], whole.iloc[order.numpy()].reset_index(drop=True)[columns], check_exact=True
    )
    alone = measured(network, pixels[5:6], labels[5:6], sequential=sequential)
    assert alone[columns].iloc[0].equals(whole[columns].iloc[5])
    other = measured(network, pixels, labels, seed=1, sequential=sequential)
    assert not other["votes"].equals(whole["votes"])


def test_a_group_of_classes_has_the_votes_of_all_its_classes():
    """Three classes by thirds of one pixel; the first and the last are one decision."""
    weights = torch.zeros(3, 12)
    weights[:, 0] = torch.tensor([-1.0, 0.0, 1.0])
    network = Planes(weights, torch.tensor([0.3, 0.0, -0.7]))  # below .3, between, above .7
    pixels = torch.full((1, 3, SIZE, SIZE), 0.5)
    groups = torch.tensor([0, 1, 0])
    rows = measured(network, pixels, torch.tensor([0]), groups, sigma=1.0, n=2000)
    outside = 2 * stats.norm.cdf(-0.2)
    assert rows["smoothed_decision"][0] == 0
    assert rows["votes"][0] / 2000 == pytest.approx(outside, abs=4 * math.sqrt(outside * (1 - outside) / 2000))
    single = measured(network, pixels, torch.tensor([0]), sigma=1.0, n=2000)
    assert single["smoothed_decision"][0] == ABSTAINS  # no class alone has half of the votes


def test_noise_is_not_clipped():
    """A plane outside the box, at distance 0.4 from a black image, gets its votes only where pixels may be negative."""
    weights = torch.zeros(2, 12)
    weights[1, 0] = -1.0
    network = Planes(weights, torch.tensor([0.0, -0.4]))
    rows = measured(network, torch.zeros(1, 3, SIZE, SIZE), torch.tensor([0]), n=2000)
    expected = stats.norm.cdf(0.4 / 0.25)
    assert rows["votes"][0] / 2000 == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 2000))


def numbers(rows, **values):
    return Smoothing(Smoothing.Settings(**values)).summarise(Evaluation(rows, math.nan, 500, 0))


def test_numbers_by_value():
    rows = pd.DataFrame(
        {
            "smoothed_decision": [1, 1, ABSTAINS, 0],
            "certified_radius_l2": [0.6, 0.3, 0.0, 0.9],
            "samples": [500, 1100, 200, 200],
            "correct": [True, True, False, False],
        }
    )
    found = numbers(rows)
    said = {name: value for name, value in found.items() if not name.endswith(("_low", "_high", "_sem"))}
    assert said == pytest.approx(
        {
            "certified_accuracy_eps0.25": 0.5, "certified_accuracy_eps0.5": 0.25, "certified_accuracy_eps0.75": 0.0,
            "certified_accuracy_eps1": 0.0, "smoothed_accuracy": 0.5, "abstention_rate": 0.25,
            "average_certified_radius": 0.225, "samples_per_image": 500.0,
        }
    )  # fmt: skip
    interval = stats.binomtest(2, 4).proportion_ci(method="wilson")
    assert found["certified_accuracy_eps0.25_ci_low"] == interval.low
    assert found["certified_accuracy_eps0.25_ci_high"] == interval.high
    assert set(numbers(rows, radii=(0.1, 2.0))) >= {"certified_accuracy_eps0.1", "certified_accuracy_eps2"}
    np.testing.assert_array_equal(certified_accuracy(rows, [0, 0.3, 0.31, 0.6, 0.7]), [0.5, 0.5, 0.25, 0.25, 0])


def test_every_number_has_a_description_and_says_its_norm():
    rows = measured(one_plane(), drawn(3), torch.tensor([0, 1, 0]))
    for name in numbers(rows):
        assert describe(name).name == name
    assert describe("certified_accuracy_eps0.25").label == "certified, l2 0.25"
    assert describe("certified_accuracy_eps0.25_ci_low").label == "95 % from"
    assert describe("average_certified_radius").unit == "l2 norm"
    assert describe("abstention_rate").better == "lower"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sigma": 0}, "sigma"),
        ({"sigma": -0.25}, "sigma"),
        ({"sigma": float("nan")}, "sigma"),
        ({"n0": 0}, "n0"),
        ({"n": 99}, "n is 99, less than n0, 100"),
        ({"alpha": 0}, "alpha"),
        ({"alpha": 1}, "alpha"),
        ({"radii": []}, "radii"),
        ({"radii": [0.25, 0]}, "different radii above 0"),
        ({"radii": [0.25, 0.25]}, "different radii above 0"),
        ({"seed": -1}, "seed"),
        ({"sigmas": 0.25}, "sigma"),
    ],
)
def test_bad_settings_are_one_line(values, message):
    with pytest.raises(InputError) as error:
        protocol("mine", {"mine": ProtocolSettings(probe="smoothing", settings=values)})
    assert message in str(error.value)
    assert "protocol 'mine'" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_whose_logits_are_finite_on_clean_images_only():
    class Fragile(nn.Module):
        def forward(self, pixels):
            outside = (pixels.flatten(1) < 0).any(1, keepdim=True)
            return torch.where(outside, torch.nan, pixels.flatten(1)[:, :2])

    with pytest.raises(DataError, match="not finite"):
        measured(Fragile(), drawn(2), torch.tensor([0, 1]))
