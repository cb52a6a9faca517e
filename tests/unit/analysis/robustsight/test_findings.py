"""Findings by value: what is compared with what, which answer an interval gives, and how it is said."""

import json

import numpy as np
import pandas as pd
import pytest

from advalign.analysis.robustsight.findings import change, findings
from advalign.analysis.robustsight.measured import Experiment
from advalign.files import Project
from advalign.settings import load_settings
from tests.conftest import REPOSITORY

STEM, ADVERSARIAL = "net", "net_linf_eps8_255"
BASELINE, OWN, SHUFFLED = f"{STEM}.baseline", f"{STEM}.aligned", f"{STEM}.aligned.shuffled"
ROBUST, BOTH = f"{ADVERSARIAL}.adversarial", f"{ADVERSARIAL}.aligned"
OVER, CENTRE, NORM, PGD = "IoU − shuffled", "IoU − centre", "minimum linf norm (1/255)", "robust accuracy (PGD)"


def around(mean):
    """200 values with this mean, other ones for another mean."""
    noise = np.random.default_rng(int(1000 * abs(mean))).normal(0, 0.1, 200)
    return mean + noise - noise.mean()


class Given(Experiment):
    """Values by measure and model, in place of evaluations."""

    def __init__(self, tmp_path, means):
        super().__init__(Project(tmp_path), load_settings(REPOSITORY / "experiments" / "robustsight"))
        self.means = means

    @property
    def models(self):
        return {model: {} for _, model in self.means}

    def values(self, measure, model):
        """Values around given means; lists are the values."""
        given = self.means.get((measure, model))
        if given is None:
            return None
        return pd.Series(given if isinstance(given, list) else around(given), dtype=float)


@pytest.fixture
def given(tmp_path):
    return lambda means: Given(tmp_path, means)


def answers(experiment):
    return {(one.question, one.model): one for one in findings(experiment)}


ALIGNMENT = {
    (OVER, BASELINE): 0.02, (OVER, OWN): 0.17, (OVER, SHUFFLED): 0.03,
    (CENTRE, BASELINE): -0.2, (CENTRE, OWN): 0.1,
}  # fmt: skip
RAISES = "Does alignment raise IoU over both controls?"


def test_alignment_raises_iou_where_both_intervals_are_above_zero(given):
    found = answers(given(ALIGNMENT))[RAISES, OWN]
    assert found.answer == "yes"
    own, centre, control = found.effects
    assert (own.model, own.against, own.n) == (OWN, BASELINE, 200)
    assert own.difference == pytest.approx(0.15)
    assert own.low < 0.15 < own.high
    assert own.p < 1e-3
    assert centre.difference == pytest.approx(0.3)
    assert (control.model, control.against) == (SHUFFLED, BASELINE)
    assert control.difference == pytest.approx(0.01)
    assert found.told == (
        f"Against {BASELINE} it changes {OVER} by {own} and {CENTRE} by {centre}; "
        f"with other images' masks ({SHUFFLED}) {OVER} changes by {control}."
    )
    assert str(own).startswith("+0.150 (+0.1") and str(own).endswith(", p < 0.001, n = 200)")


def test_one_control_is_not_enough(given):
    flat = ALIGNMENT | {(CENTRE, OWN): -0.2}
    assert answers(given(flat))[RAISES, OWN].answer == "not seen"
    worse = ALIGNMENT | {(CENTRE, OWN): -0.5}
    assert answers(given(worse))[RAISES, OWN].answer == "no"
    missing = {key: value for key, value in ALIGNMENT.items() if key[0] != CENTRE}
    assert not answers(given(missing))


def test_a_cost_of_robustness_is_looked_for_where_there_is_some(given):
    """Robust accuracy of two models that have none says nothing: the minimum norms do, and the sentence says why."""
    means = {(NORM, BASELINE): 3.0, (NORM, OWN): 2.0, (PGD, BASELINE): [0.0] * 99 + [1.0], (PGD, OWN): [0.0] * 100}
    found = answers(given(means))["Does alignment cost robustness?", OWN]
    assert found.answer == "yes"
    assert found.effects[0].difference == pytest.approx(-1.0)
    assert found.told.endswith("robust accuracy cannot show a cost here, both are near zero (0.000 and 0.010).")
    held = answers(given(means | {(PGD, OWN): [1.0] * 100}))["Does alignment cost robustness?", OWN]
    assert "cannot show" not in held.told


@pytest.mark.parametrize(("own", "answer"), [(0.30, "yes"), (0.80, "no"), (0.701, "not seen")])
def test_reliance_on_the_cue(given, own, answer):
    means = {("shortcut drop", BASELINE): 0.70, ("shortcut drop", OWN): own}
    found = answers(given(means))["Does alignment lower the reliance on the planted cue?", OWN]
    assert found.answer == answer
    assert f"goes from 0.700 to {own:.3f}, by" in found.told


@pytest.mark.parametrize(("both", "answer"), [(0.42, "not refuted"), (0.32, "no")])
def test_whether_both_add_up_is_the_difference_of_two_effects(given, both, answer):
    means = {(OVER, BASELINE): 0.02, (OVER, OWN): 0.22, (OVER, ROBUST): 0.22, (OVER, BOTH): both}
    found = answers(given(means))[f"Do alignment and adversarial training add up in {OVER}?", BOTH]
    assert found.answer == answer
    assert [one.difference for one in found.effects] == pytest.approx([0.2, both - 0.22, both - 0.42])
    assert found.effects[2].against == f"{OWN} − {BASELINE}"


def test_adversarial_training_against_its_twin(given):
    means = {("corruption error", BASELINE): 0.5, ("corruption error", ROBUST): 0.4}
    means |= {("accuracy", BASELINE): 0.9, ("accuracy", ROBUST): 0.9}
    found = answers(given(means))
    assert found["Does adversarial training lower errors under corruption?", ROBUST].answer == "yes"
    assert found["Does adversarial training cost accuracy?", ROBUST].answer == "not seen"


def test_only_images_with_both_values_count(given):
    means = {("accuracy", OWN): [1.0, 0.0, float("nan"), 1.0], ("accuracy", BASELINE): [0.0, 0.0, 1.0, float("nan")]}
    effect = change(given(means), "accuracy", OWN, BASELINE)
    assert (effect.difference, effect.n) == (0.5, 2)
    alone = {key: value[:1] for key, value in means.items()}
    assert change(given(alone), "accuracy", OWN, BASELINE) is None
    assert change(given(alone), "accuracy", OWN, "none") is None


def test_for_json_there_are_no_numbers_that_are_none(given):
    equal = {("accuracy", OWN): [1.0, 1.0], ("accuracy", BASELINE): [0.0, 0.0]}
    (found,) = findings(given(equal))
    assert found.effects[0].difference == 1.0
    assert json.loads(json.dumps(found.plain(), allow_nan=False))["effects"][0]["p"] is None
