"""The saliency probe by value: a network whose map is known, and its controls."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from advalign.data.sets.base import Items
from advalign.errors import DataError, InputError
from advalign.evaluation.protocols import protocol
from advalign.metrics.base import Evaluation
from advalign.models.classifier import Classifier, Preprocessing
from advalign.probes.base import Conditions, Model
from advalign.probes.saliency import Saliency, right_class
from advalign.settings import ProtocolSettings
from advalign.tensors.localisation import expected_overlap
from advalign.tensors.ranks import average_ranks
from advalign.vocabulary import describe

SIDE, COUNT = 20, 8


class Seeing(nn.Module):
    """Class 0 is the mean of the red channel, class 1 of the blue one: Grad-CAM is that channel itself."""

    def __init__(self):
        super().__init__()
        self.features, self.fc = nn.Conv2d(3, 3, 1, bias=False), nn.Linear(3, 2, bias=False)
        self.features.weight.data = torch.eye(3)[:, :, None, None].clone()
        self.fc.weight.data = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])

    def forward(self, pixels):
        return self.fc(self.features(pixels).mean((2, 3)))


def seeing(groups=None):
    network = Classifier(Seeing(), Preprocessing(input_size=SIDE, mean=(0,) * 3, std=(1,) * 3))
    return Model("seeing", network.eval().requires_grad_(False), groups, "cpu")


def masks():
    """Blocks of 120 pixels, as many as are salient, each at another place."""
    found = torch.zeros(COUNT, SIDE, SIDE, dtype=torch.bool)
    for place in range(COUNT):
        found[place, place : place + 12, 2 * (place % 4) : 2 * (place % 4) + 10] = True
    return found


def items(red, blue=None, has_mask=None, labels=None):
    wanted = masks()
    has_mask = torch.ones(COUNT, dtype=torch.bool) if has_mask is None else has_mask
    blue = torch.zeros_like(red) if blue is None else blue
    pixels = torch.stack([red, torch.zeros_like(red), blue], 1).float()
    labels = torch.zeros(COUNT, dtype=torch.int64) if labels is None else labels
    extras = {"mask": wanted & has_mask[:, None, None], "other_mask": wanted.roll(1, 0), "has_mask": has_mask}
    return Items(pd.DataFrame({"image": range(COUNT), "label": labels.numpy()}), labels, lambda _: pixels, extras)


def asked(some, groups=None, **settings):
    return Saliency(Saliency.Settings(**settings)).measure(seeing(groups), some, Conditions(batch_size=3)).rows


def summary(rows):
    return Saliency().summarise(Evaluation(rows, math.nan, 200, 0))


def test_a_perfect_map_scores_one_and_beats_its_controls():
    rows = asked(items(masks().float()))
    assert (rows["iou"] == 1).all()
    assert (rows["pointing"] == 1).all()
    np.testing.assert_allclose(rows["rho"], 1)
    assert (rows["iou_ceiling"] == 1).all()  # the map has the image's resolution
    own, other = masks(), masks().roll(1, 0)
    expected = (own & other).sum((1, 2)) / (own | other).sum((1, 2))
    np.testing.assert_allclose(rows["iou_shuffled"], expected)
    np.testing.assert_allclose(rows["iou_minus_shuffled"], 1 - expected)
    np.testing.assert_allclose(rows["iou_chance"], expected_overlap(own))
    np.testing.assert_allclose(rows["pointing_chance"], 0.3)
    found = summary(rows)
    assert found["saliency_iou"] == found["saliency_pointing"] == 1
    assert found["iou_minus_shuffled"] == pytest.approx(1 - float(expected.mean()))
    assert found["iou_minus_shuffled_ci_low"] < found["iou_minus_shuffled"] < found["iou_minus_shuffled_ci_high"]
    assert found["iou_minus_shuffled_ci_low"] > 0
    assert found["saliency_n"] == COUNT


def test_a_disc_scores_as_the_centre_and_no_better():
    distance = torch.cdist(torch.tensor([[9.5, 9.5]]), torch.cartesian_prod(*[torch.arange(20.0)] * 2))
    rows = asked(items((1 - distance / 20).reshape(1, SIDE, SIDE).expand(COUNT, -1, -1)))
    assert (rows["iou_minus_centre"] == 0).all()
    assert (rows["pointing_minus_centre"] == 0).all()
    np.testing.assert_allclose(rows["rho_minus_centre"], 0, atol=1e-12)
    assert summary(rows)["saliency_iou"] > summary(rows)["iou_chance"]


def test_random_maps_score_chance():
    generator = torch.Generator().manual_seed(1)
    scores = [asked(items(torch.rand(COUNT, SIDE, SIDE, generator=generator))) for _ in range(12)]
    rows = pd.concat(scores)
    for score in ("iou", "pointing"):
        error = (rows[score] - rows[f"{score}_chance"]).std() / math.sqrt(len(rows))
        assert abs((rows[score] - rows[f"{score}_chance"]).mean()) < 3 * error
    assert abs(rows["iou_minus_shuffled"].mean()) < 3 * rows["iou_minus_shuffled"].std() / math.sqrt(len(rows))
    assert abs(rows["rho"].mean()) < 3 * rows["rho"].std() / math.sqrt(len(rows))


def test_the_map_explains_the_right_class_whatever_is_predicted():
    """Class 1 looks at the blue channel, which holds the mask; the red one is brighter."""
    bright = torch.rand(COUNT, SIDE, SIDE) / 2 + 0.5
    rows = asked(items(bright, masks().float(), labels=torch.ones(COUNT, dtype=torch.int64)))
    assert (rows["iou"] == 1).all()
    assert (rows["target"] == 1).all()


def test_of_a_decision_the_likeliest_class_is_explained():
    logits = torch.tensor([[5.0, 1.0, 2.0, 9.0], [5.0, 3.0, 2.0, 9.0]])
    assert right_class(logits, torch.tensor([1, 1]), torch.tensor([0, 1, 1, 0])).tolist() == [2, 1]
    rows = asked(items(torch.rand(COUNT, SIDE, SIDE), masks().float()), groups=torch.tensor([1, 0]))
    assert (rows["target"] == 1).all()
    assert (rows["iou"] == 1).all()


def test_without_a_mask_or_with_a_constant_map_there_is_no_score():
    has_mask = torch.arange(COUNT) % 2 == 0
    red = masks().float()
    red[2] = 0.5
    rows = asked(items(red, has_mask=has_mask))
    scores = rows[[column for column in rows if column.startswith(("iou", "pointing", "rho"))]]
    kept = has_mask.numpy() & (np.arange(COUNT) != 2)
    assert scores[kept].notna().all().all()
    assert scores[~kept].isna().all().all()
    assert summary(rows)["saliency_n"] == 3
    assert summary(rows)["saliency_iou"] == 1


def test_people_are_compared_by_rank():
    human = torch.rand(COUNT, SIDE, SIDE)
    ranks = average_ranks(human.flatten(1))
    some = items(human)
    extras = {"human_map": human, "human_ranks": ranks, "other_ranks": ranks.roll(1, 0)}
    rows = asked(Items(some.table, some.labels, some.pixels, extras))
    np.testing.assert_allclose(rows["rho"], 1)
    np.testing.assert_allclose(rows["rho_ceiling"], 1)
    assert abs(rows["rho_shuffled"]).max() < 0.2
    assert not [column for column in rows if column.startswith(("iou", "pointing"))]
    assert summary(rows)["saliency_rho"] == pytest.approx(1)


def test_an_empty_mask_is_refused():
    some = items(masks().float())
    some.extras["mask"][3] = False
    with pytest.raises(DataError, match="the mask of image 3 is empty"):
        asked(some)


def test_a_model_that_cannot_be_explained_is_named():
    with pytest.raises(InputError, match="seeing: rollout needs a vision transformer"):
        asked(items(masks().float()), method="rollout")


def test_it_runs_on_every_set_that_offers_masks_or_human_maps():
    assert protocol("saliency").spec.image_set == "cifar"
    for name in ("cifar-swapped", "stimuli", "stimuli-classes"):
        declared = {"seen": ProtocolSettings(probe="saliency", image_set=name)}
        assert protocol("seen", declared).spec.image_set == name
    declared = {"seen": ProtocolSettings(probe="saliency", image_set="validation")}
    with pytest.raises(InputError, match="needs mask or human_map of each image, image set 'validation' offers none"):
        protocol("seen", declared)


def test_every_number_is_described_and_fits_mlflows_view():
    rows = asked(items(masks().float()))
    for name in summary(rows):
        assert describe(name).name == name
        assert len(describe(name).short) <= 24
    assert describe("iou_minus_shuffled").column == "iou_minus_shuffled"
    assert {one.column for one in Saliency.describes if one.column} <= set(rows)
