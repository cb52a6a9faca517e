"""Errors under corruption: predictions of the right versions, and numbers by value."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from advalign.data.sets.base import Items
from advalign.errors import InputError
from advalign.evaluation.protocols import protocol
from advalign.metrics.base import Evaluation
from advalign.metrics.corruption_error import CorruptionError, benchmark_members, errors
from advalign.models.classifier import Classifier, Preprocessing
from advalign.probes.base import Conditions, Model
from advalign.probes.corruptions import Corruptions
from advalign.rows import CLEAN_PREDICTION, corrupted_prediction
from advalign.settings import ProtocolSettings
from advalign.tensors.corruptions.constants import BENCHMARK, CONDITIONS, NAMES, SEVERITIES
from advalign.vocabulary import describe


class Brightness(nn.Module):
    """Class k where the mean of an image is k / 255."""

    def forward(self, images):
        found = (images.mean((1, 2, 3)) * 255).round().long()
        return nn.functional.one_hot(found, 100).float()


def model():
    preprocessing = Preprocessing(input_size=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    return Model("brightness", Classifier(Brightness(), preprocessing).eval(), None, "cpu")


def items(count=3):
    """Version v of any image is v everywhere, the image itself is 99."""
    versions = torch.arange(95, dtype=torch.uint8)[None, :, None, None, None].expand(count, 95, 3, 32, 32)
    pixels = torch.full((count, 3, 32, 32), 99 / 255)
    table = pd.DataFrame({"image": range(count), "label": range(count)})
    return Items(table, torch.arange(count), lambda _: pixels, {"corrupted": versions})


@pytest.mark.parametrize("batch_size", [None, 7])
def test_each_column_is_of_its_version(batch_size):
    rows = Corruptions().measure(model(), items(), Conditions(batch_size)).rows
    assert rows[CLEAN_PREDICTION].tolist() == [99] * 3
    for place, condition in enumerate(CONDITIONS):
        assert rows[corrupted_prediction(*condition)].tolist() == [place] * 3
    assert Corruptions().passes == 96


def rows_of(wrong):
    """Rows of images whose label is 1, predicted 0 where `wrong` (N, 19, 5) is true."""
    columns = {corrupted_prediction(*one): 1 - wrong.reshape(len(wrong), 95)[:, k] for k, one in enumerate(CONDITIONS)}
    return pd.DataFrame({"label": 1, CLEAN_PREDICTION: [0] + [1] * (len(wrong) - 1), **columns})


def test_numbers_by_value():
    wrong = np.random.default_rng(0).random((20, 19, 5)) < np.linspace(0.1, 0.9, 19)[:, None]
    rows = rows_of(wrong.astype(int))
    assert np.array_equal(errors(rows), wrong)
    found = CorruptionError().summarise(Evaluation(rows, math.nan, 200, 0))
    fifteen = wrong[:, [NAMES.index(name) for name in BENCHMARK]]
    assert found["corruption_error"] == pytest.approx(fifteen.mean())
    assert found["corruption_error_19"] == pytest.approx(wrong.mean())
    assert found["corruption_error_ci_low"] < found["corruption_error"] < found["corruption_error_ci_high"]
    assert found["corruption_error.severity_2"] == pytest.approx(fifteen[:, :, 1].mean())
    weather = [NAMES.index(name) for name in ("snow", "frost", "fog", "brightness")]
    assert found["corruption_error.weather"] == pytest.approx(wrong[:, weather].mean())
    assert benchmark_members()["weather"] == weather
    assert found["corruption_error.saturate"] == pytest.approx(wrong[:, NAMES.index("saturate")].mean())
    assert found["corruption_error.fog_4"] == pytest.approx(wrong[:, NAMES.index("fog"), 3].mean())
    assert found["corruption_error.none"] == pytest.approx(0.05)
    assert len(found) == 4 + 1 + 4 + len(SEVERITIES) + 19 + 95 + 1


def test_every_number_is_described_for_gates_and_tables():
    found = CorruptionError().summarise(Evaluation(rows_of(np.ones((3, 19, 5), int)), math.nan, 100, 0))
    for name in found:
        told = describe(name)
        assert told.name == name
    assert describe("corruption_error").better == describe("corruption_error.noise").better == "lower"


def test_protocols_on_all_three_sets_and_on_no_other():
    assert protocol("corruptions").spec.image_set == "cifar-corrupted"
    assert protocol("corruptions").spec.metrics == ("corruption-error",)
    declared = {
        one: ProtocolSettings(probe="corruptions", image_set=one)
        for one in ("cifar-c", "cifar-corrupted-as-meant", "cifar")
    }
    assert protocol("cifar-c", declared).spec.image_set == "cifar-c"
    assert protocol("cifar-corrupted-as-meant", declared).spec.probe == "corruptions"
    with pytest.raises(InputError, match="probe 'corruptions' needs corrupted of each image, image set 'cifar' offers"):
        protocol("cifar", declared)
