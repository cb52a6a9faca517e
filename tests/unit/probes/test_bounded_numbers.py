"""The numbers of the bounded probe, by value."""

import math

import pandas as pd
import pytest

from advalign.metrics.base import Evaluation
from advalign.probes.bounded import BoundedProbe


def summary(held, flipped, wrong):
    status = ["attack_failed"] * held + ["ok"] * flipped + ["misclassified_clean"] * wrong
    return BoundedProbe().summarise(
        Evaluation(pd.DataFrame({"status": status}), human_ceiling=1.0, resamples=10, seed=0)
    )


def test_robust_accuracy_counts_all_and_attack_success_the_right_ones():
    found = summary(held=6, flipped=2, wrong=2)
    assert found["robust_accuracy"] == 0.6
    assert found["clean_decision_accuracy"] == 0.8
    assert found["attack_success_rate"] == pytest.approx((0.8 - 0.6) / 0.8)
    assert found["n_valid"] == 8


@pytest.mark.parametrize(("held", "total"), [(6, 10), (0, 10), (10, 10), (371, 1000)])
def test_the_interval_is_wilsons(held, total):
    z, share = 1.959963984540054, held / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    found = summary(held, total - held, 0)
    assert found["robust_accuracy_ci_low"] == pytest.approx(centre - half, abs=1e-12)
    assert found["robust_accuracy_ci_high"] == pytest.approx(centre + half, abs=1e-12)


def test_where_nothing_is_right_success_is_unknown_and_robust_accuracy_zero():
    found = summary(held=0, flipped=0, wrong=5)
    assert found["robust_accuracy"] == 0
    assert math.isnan(found["attack_success_rate"])
