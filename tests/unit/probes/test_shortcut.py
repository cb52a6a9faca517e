"""The shortcut probe by hand: a network that looks at a corner, where the cue is."""

import math

import pandas as pd
import pytest
import torch
from torch import nn

from advalign.data.sets.base import Items
from advalign.metrics.base import Evaluation
from advalign.models.classifier import Classifier, Preprocessing
from advalign.probes.base import Conditions, Model
from advalign.probes.shortcut import Shortcut


class Corner(nn.Module):
    """Class 1 where the first pixel is bright."""

    def forward(self, pixels):
        bright = pixels[:, 0, 0, 0]
        return torch.stack([1 - bright, bright], 1)


CORNER = Model("corner", Classifier(Corner(), Preprocessing(input_size=4, mean=(0,) * 3, std=(1,) * 3)), None, "cpu")


def images(brightness):
    found = torch.full((len(brightness), 3, 4, 4), 0.5)
    found[:, 0, 0, 0] = torch.tensor(brightness)
    return found


def measured(labels, original, swapped):
    labels = torch.tensor(labels)
    table = pd.DataFrame({"image": range(len(labels)), "label": labels.numpy()})
    some = Items(table, labels, lambda _: images(swapped), {"original": images(original)})
    return Shortcut().measure(CORNER, some, Conditions()).rows


def test_the_drop_is_counted_image_by_image():
    rows = measured([1, 1, 1, 0, 0, 1], original=[1, 1, 1, 0, 1, 0.0], swapped=[0, 0, 1, 1, 0, 0.0])
    assert list(rows["prediction_original"]) == [1, 1, 1, 0, 1, 0]
    assert list(rows["prediction"]) == [0, 0, 1, 1, 0, 0]
    assert list(rows["shortcut_drop"]) == [1, 1, 0, 1, -1, 0]
    found = Shortcut().summarise(Evaluation(rows, math.nan, 2000, 0))
    assert found["accuracy_original"] == pytest.approx(4 / 6)
    assert found["accuracy_swapped"] == pytest.approx(2 / 6)
    assert found["shortcut_drop"] == pytest.approx(2 / 6)
    assert found["shortcut_drop_ci_low"] < 2 / 6 < found["shortcut_drop_ci_high"]
    assert found["shortcut_drop_sem"] == pytest.approx((sum((x - 1 / 3) ** 2 for x in (1, 1, 0, 1, -1, 0)) / 30) ** 0.5)


def test_a_model_that_looks_elsewhere_loses_nothing():
    rows = measured([1, 0], original=[1, 0.0], swapped=[0.9, 0.1])
    assert list(rows["shortcut_drop"]) == [0, 0]
