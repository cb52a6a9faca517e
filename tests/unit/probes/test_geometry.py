"""The geometry probe by value: a network whose layer is its input, projections, and what counts as a category."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from advalign.data.sets.base import Items
from advalign.errors import DataError, InapplicableError
from advalign.evaluation.protocols import protocol
from advalign.metrics.base import Evaluation
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.layer_vectors import LayerVectors, projected
from advalign.probes.base import Conditions, Model
from advalign.probes.geometry import Geometry
from advalign.settings import ProtocolSettings
from advalign.tensors.manifolds import manifold_geometry
from advalign.tensors.separability import held_out_separability
from advalign.vocabulary import describe

SIDE = 4


class Plain(nn.Module):
    """`keep` gives the pixels as a map; the last linear layer reads the means of the channels."""

    def __init__(self):
        super().__init__()
        self.keep, self.fc = nn.Identity(), nn.Linear(3, 2)

    def forward(self, pixels):
        return self.fc(self.keep(pixels).mean((2, 3)))


def plain():
    network = Classifier(Plain(), Preprocessing(input_size=SIDE, mean=(0,) * 3, std=(1,) * 3))
    return Model("plain", network.eval().requires_grad_(False), None, "cpu")


def items(pixels, **columns):
    table = pd.DataFrame({"image": range(len(pixels)), **columns})
    return Items(table, torch.tensor(list(table["label"])), lambda _: pixels)


def images(categories, each, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(categories, 1, 3, SIDE, SIDE, generator=generator)
    noise = torch.randn(categories, each, 3, SIDE, SIDE, generator=generator)
    return (centres + 0.1 * noise).flatten(0, 1)


def asked(some, **settings):
    return Geometry(Geometry.Settings(**settings)).measure(plain(), some, Conditions(batch_size=5)).rows


def summary(rows, **settings):
    return Geometry(Geometry.Settings(**settings)).summarise(Evaluation(rows, math.nan, 200, 0))


def test_rows_hold_the_layers_features():
    pixels = images(3, 4)
    some = items(pixels, label=np.arange(12) // 4)
    np.testing.assert_array_equal(np.stack(asked(some, layer="keep")["features"]), pixels.flatten(1))
    np.testing.assert_allclose(np.stack(asked(some)["features"]), pixels.mean((2, 3)), rtol=1e-5)
    narrow = np.stack(asked(some, layer="keep", dimensions=7, seed=3)["features"])
    np.testing.assert_allclose(narrow, projected(pixels.flatten(1), 7, 3), rtol=1e-4, atol=1e-6)


def test_numbers_are_those_of_the_manifolds():
    pixels = images(4, 6)
    rows = asked(items(pixels, label=np.arange(24) // 6), layer="keep")
    clouds = list(pixels.flatten(1).double().numpy().reshape(4, 6, -1))
    found, wanted = summary(rows, draws=100), manifold_geometry(clouds, 100, 0)
    for name, value in wanted.means.items():
        assert found[f"manifold_{name}"] == pytest.approx(value)
        assert found[f"manifold_{name}_ci_low"] < value < found[f"manifold_{name}_ci_high"]
    assert found["linear_separability"] == held_out_separability(clouds)
    assert found["centre_correlation"] == pytest.approx(wanted.centre_correlation)
    assert found["n_manifolds"] == 4
    assert all(describe(name).name == name for name in found)


def test_a_category_is_the_column_or_else_the_label_and_the_first_ones_count():
    pixels = images(4, 6)
    labels = np.arange(24) // 6
    by_label = summary(asked(items(pixels, label=labels), layer="keep"), draws=20)
    named = items(pixels, label=labels // 2, category=[f"c{label}" for label in labels])
    assert summary(asked(named, layer="keep"), draws=20) == by_label
    fewer = summary(asked(named, layer="keep"), draws=20, categories=2, points=3)
    clouds = list(pixels.flatten(1).double().numpy().reshape(4, 6, -1)[:2, :3])
    assert fewer["n_manifolds"] == 2
    assert fewer["manifold_radius"] == pytest.approx(manifold_geometry(clouds, 20, 0).means["radius"])


def test_a_category_of_one_image_is_no_manifold():
    rows = asked(items(images(3, 1), label=[0, 1, 2]))
    found = summary(rows)
    assert found["n_manifolds"] == 0
    assert all(math.isnan(value) for name, value in found.items() if name != "n_manifolds")


def test_features_that_are_all_the_same_have_no_geometry():
    found = summary(asked(items(torch.ones(6, 3, SIDE, SIDE), label=[0, 0, 0, 1, 1, 1])))
    assert found["n_manifolds"] == 2
    assert all(math.isnan(value) for name, value in found.items() if name != "n_manifolds")


def test_tighter_categories_have_more_capacity_smaller_radii_and_are_easier_to_separate():
    loose, tight = images(5, 10), images(5, 10)
    centres = loose.reshape(5, 10, -1).mean(1).repeat_interleave(10, 0).reshape(loose.shape)
    tight, loose = centres + 0.5 * (tight - centres), centres + 8 * (tight - centres)
    found = [summary(asked(items(some, label=np.arange(50) // 10), layer="keep"), draws=50) for some in (tight, loose)]
    assert found[0]["manifold_capacity"] > 2 * found[1]["manifold_capacity"]
    assert found[0]["manifold_radius"] < found[1]["manifold_radius"]
    assert found[0]["linear_separability"] > found[1]["linear_separability"]


def test_a_projection_keeps_lengths_and_is_the_same_in_every_batch():
    features = torch.randn(6, 9000, generator=torch.Generator().manual_seed(0))
    found = projected(features, 2000, 1)
    ratio = found.norm(dim=1) / features.norm(dim=1)
    assert ((ratio - 1).abs() < 0.06).all()
    torch.testing.assert_close(projected(features[2:3], 2000, 1), found[2:3], rtol=1e-4, atol=1e-3)
    assert projected(features, 9000, 1) is features


def test_what_cannot_be_measured_is_said():
    pixels = images(2, 2)
    some = items(pixels, label=[0, 0, 1, 1])
    with pytest.raises(InapplicableError, match="no layer 'gone': it has keep, fc"):
        asked(some, layer="gone")
    with pytest.raises(DataError, match="not finite"):
        asked(items(pixels * math.nan, label=[0, 0, 1, 1]))
    with LayerVectors(plain().classifier, "fc", 5, 0) as watched:
        watched._seen = (pixels,)
        with pytest.raises(InapplicableError, match="no features of images"):
            _ = watched.values


def test_it_is_a_protocol_with_settings():
    declared = {"early": ProtocolSettings(probe="geometry", image_set="cifar", settings={"layer": "layer1"})}
    assert protocol("early", declared).probe.settings.layer == "layer1"
    assert protocol("geometry").summary.startswith("Capacity, radius and dimension")
