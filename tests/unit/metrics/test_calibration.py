"""The calibration error by hand: bins of a fifteenth, the last one closed."""

import numpy as np
import pandas as pd
import pytest

from advalign.metrics.base import Evaluation
from advalign.metrics.expected_calibration_error import ExpectedCalibrationError, calibration_error
from advalign.vocabulary import describe


def error(confidence, right):
    return calibration_error(np.array(confidence, dtype=float), np.array(right, dtype=bool))


@pytest.mark.parametrize(
    ("confidence", "right", "expected"),
    [
        ([1.0], [True], 0.0),
        ([1.0], [False], 1.0),
        ([0.8, 0.81], [True, False], abs(0.5 - 0.805)),  # one bin, [12/15, 13/15)
        ([0.79, 0.81], [True, False], (0.21 + 0.81) / 2),  # two bins
        ([0.95, 1.0], [False, True], abs(0.5 - 0.975)),  # 1 belongs to the last bin, not to one of its own
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
