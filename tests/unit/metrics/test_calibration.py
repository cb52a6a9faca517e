"""Calibration by hand: bins of a fifteenth, the last one closed; NLL and Brier score of known probabilities."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from advalign.data.sets.base import Items
from advalign.metrics.base import Evaluation
from advalign.metrics.brier_score import BrierScore
from advalign.metrics.expected_calibration_error import ExpectedCalibrationError, calibration_error
from advalign.metrics.negative_log_likelihood import NegativeLogLikelihood
from advalign.models.classifier import Classifier, Preprocessing
from advalign.probes.base import Conditions, Model
from advalign.probes.predictions import Predictions
from advalign.vocabulary import describe
from benchmarks._cifar import first_test_images, networks
from tests.conftest import REFERENCE

CIFAR = REFERENCE / "cifar"


def error(confidence, right):
    return calibration_error(np.array(confidence, dtype=float), np.array(right, dtype=bool))


@pytest.mark.parametrize(
    ("confidence", "right", "expected"),
    [
        ([1.0], [True], 0.0),
        ([1.0], [False], 1.0),
        ([0.8, 0.81], [True, False], abs(0.5 - 0.805)),  # one bin, [12/15, 13/15)
        ([0.79, 0.81], [True, False], (0.21 + 0.81) / 2),  # two bins
        ([0.95, 1.0], [True, False], 0.475),  # 1 belongs to the last bin; a bin of its own would give 0.525
        ([0.95, 1.0], [False, True], abs(0.5 - 0.975)),
        ([0.0, 0.05], [False, True], abs(0.5 - 0.025)),
    ],
)
def test_by_hand(confidence, right, expected):
    assert error(confidence, right) == pytest.approx(expected, abs=1e-12)


def test_against_a_loop_over_bins():
    draw = np.random.default_rng(0)
    confidence, right = draw.uniform(size=500), draw.uniform(size=500) < 0.6
    total = 0.0
    for number in range(15):
        low, high = number / 15, (number + 1) / 15
        inside = (confidence >= low) & (confidence < high)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert error(confidence, right) == pytest.approx(total, abs=1e-12)


def test_the_metric_reads_predictions_and_describes_itself():
    rows = pd.DataFrame({"prediction": [1, 2], "label": [1, 1], "probability_top": [0.8, 0.81]})
    found = ExpectedCalibrationError().summarise(Evaluation(rows, float("nan"), 100, 0))
    assert found == {"expected_calibration_error": pytest.approx(0.305)}
    assert describe("ece").name == "expected_calibration_error"
    assert describe("ece").better == "lower"


class Fixed(nn.Module):
    """Gives the same logits for all images."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, pixels):
        return self.logits.expand(len(pixels), -1)


def predicted(logits, labels):
    """Rows of a model with these logits, and their numbers."""
    preprocessing = Preprocessing(input_size=2, mean=(0.0,) * 3, std=(1.0,) * 3)
    classifier = Classifier(Fixed(logits), preprocessing).eval()
    table = pd.DataFrame({"image": range(len(labels)), "label": labels})
    items = Items(table, torch.tensor(labels), lambda _: torch.full((len(labels), 3, 2, 2), 0.5))
    probe = Predictions(metrics=[NegativeLogLikelihood(), BrierScore()])
    rows = probe.measure(Model("fixed", classifier, None, "cpu"), items, Conditions()).rows
    return rows, probe.summarise(Evaluation(rows, math.nan, 100, 0))


def test_nll_and_brier_by_hand():
    """Probabilities .7, .2, .1: sums of squares are .14, 1.14 and 1.34 for the three labels."""
    rows, found = predicted(np.log([0.7, 0.2, 0.1]).tolist(), [0, 1, 2])
    assert list(rows["log_loss"]) == pytest.approx([-math.log(0.7), -math.log(0.2), -math.log(0.1)], abs=1e-6)
    assert list(rows["brier"]) == pytest.approx([0.14, 1.14, 1.34], abs=1e-6)
    assert found["negative_log_likelihood"] == pytest.approx(-math.log(0.7 * 0.2 * 0.1) / 3, abs=1e-6)
    assert found["brier_score"] == pytest.approx((0.14 + 1.14 + 1.34) / 3, abs=1e-6)
    for short, name in (("nll", "negative_log_likelihood"), ("brier", "brier_score")):
        assert (describe(short).name, describe(short).better) == (name, "lower")


def test_uniform_probabilities_and_the_worst():
    _, found = predicted([0.0] * 10, [3])
    assert found == pytest.approx({"negative_log_likelihood": math.log(10), "brier_score": 0.9})
    _, found = predicted([5000.0, 0.0], [1])  # a probability of 0 in float64 has no logarithm, a logit has a loss
    assert found == pytest.approx({"negative_log_likelihood": 5000.0, "brier_score": 2.0})


@pytest.mark.skipif(not CIFAR.is_dir(), reason="needs ../shared/reference: a real network and real images")
@pytest.mark.slow
def test_a_real_network():
    """ResNet-20 on the first 1,000 test images of CIFAR-10."""
    images, labels = first_test_images(CIFAR)
    items = Items(pd.DataFrame({"image": range(1000), "label": labels.numpy()}), labels, lambda _: images)
    probe = Predictions(metrics=[ExpectedCalibrationError()])
    model = Model("resnet20", networks(CIFAR)["resnet20"], None, "cpu")
    rows = probe.measure(model, items, Conditions()).rows
    found = probe.summarise(Evaluation(rows, math.nan, 100, 0))
    assert found["expected_calibration_error"] == pytest.approx(0.05804, abs=0.0005)
    assert (rows["prediction"] == rows["label"]).mean() == pytest.approx(0.915, abs=0.002)
