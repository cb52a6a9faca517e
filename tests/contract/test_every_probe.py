"""What holds for every probe in the catalog: a new file in advalign/probes is tested here by itself."""

import inspect
import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from advalign.attacks.base import Attack
from advalign.attacks.fmn import FastMinimumNorm
from advalign.attacks.pgd import ProjectedGradientDescent
from advalign.data.classes import read_classes
from advalign.data.response_writer import About, writing_responses
from advalign.data.sets.stimuli import load_stimuli
from advalign.errors import DataError
from advalign.metrics.base import Evaluation
from advalign.models.zoo import create_classifier
from advalign.probes.base import Conditions, Measured, Model, Probe
from tests import extending
from tests.conftest import with_cifar, with_stimuli

torch.set_num_threads(1)
NAMES = extending.names("probe")
COUNT = 6
REFUSING = (
    "minimum-norm", "bounded", "predictions", "corruptions", "saliency", "shortcut", "smoothing", "geometry",
    "neural-fit",
)  # fmt: skip
"""Probes that say which model gives no numbers."""
SETTINGS = {"smoothing": {"n0": 3, "n": 10}, "neural-fit": {"responses": "brain"}}
"""Settings under which a probe that looks at an image a thousand times is measured in milliseconds; and responses."""
every_probe = pytest.mark.parametrize("name", NAMES)
ATTACKS: tuple[Attack, ...] = (
    FastMinimumNorm(FastMinimumNorm.Settings(steps=4)),
    ProjectedGradientDescent(ProjectedGradientDescent.Settings(steps=2, eps=0.1)),
)


@pytest.fixture(scope="module")
def project(sample_root, tmp_path_factory):
    found = with_cifar(with_stimuli(sample_root, tmp_path_factory.mktemp("probes") / "project"))
    known = load_stimuli(found).manifest[["stimulus", "sha256"]].set_axis(["id", "sha256"], axis=1)
    path = found.data / "responses" / "brain.h5"
    path.parent.mkdir()
    with writing_responses(path, About("simulated", "none"), known, pd.DataFrame({"roi": ["V4"] * 3})) as writer:
        writer.add_trials(np.arange(len(known)), np.random.default_rng(0).normal(size=(len(known), 3)), "test", 0)
    return found


def probe(name) -> Probe:
    kind = extending.load("probe", name)
    metrics = [extending.load("metric", one) for one in extending.names("metric")]
    attack = next((one for one in ATTACKS if kind.attacks and isinstance(one, kind.attacks)), None)
    settings = kind.Settings(**SETTINGS[name]) if name in SETTINGS else None
    return kind(settings, [metric() for metric in metrics if metric.probe == name], attack)


def asked(project, name, first=0, last=COUNT, spoil=None) -> Measured:
    image_set = extending.load("image set", probe(name).image_set).open(
        project, read_classes(project.data / "classes.yaml")
    )
    classifier = create_classifier("test_resnet", 36, 64, seed=0).eval().requires_grad_(False)
    if spoil is not None:
        next(iter(classifier.network.parameters())).data.fill_(spoil)
    groups = torch.arange(36) % 2 if image_set.grouped else None
    model = Model("test_resnet.baseline", classifier, groups, "cpu")
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    items = probe(name).items(project, image_set, first, last, 0)
    found = probe(name).measure(model, items, Conditions(kept=(1,)))
    assert not any(module.training for module in classifier.modules())
    after = classifier.state_dict()
    assert all(torch.equal(before[name].nan_to_num(), after[name].nan_to_num()) for name in before)
    return found


@every_probe
def test_there_is_a_row_per_item_that_begins_with_the_items_own_columns(project, name):
    found = asked(project, name)
    image_set = extending.load("image set", probe(name).image_set)
    items = image_set.open(project, read_classes(project.data / "classes.yaml")).items(0, COUNT, 0)
    assert len(found.rows) == COUNT
    assert set(items.table) <= set(found.rows)
    for column in items.table:
        assert list(map(str, found.rows[column])) == list(map(str, items.table[column]))
    assert list(found.rows.index) == list(range(COUNT))


@every_probe
def test_what_is_kept_is_what_was_wanted(project, name):
    found = asked(project, name)
    assert set(found.kept) == ({1} if probe(name).keeps else set())
    assert all(tensor.device.type == "cpu" for tensor in found.kept.values())


@every_probe
def test_two_measurements_are_the_same(project, name):
    first, second = asked(project, name).rows, asked(project, name).rows
    pd.testing.assert_frame_equal(first, second, check_exact=True)


@every_probe
def test_a_summary_is_made_of_floats_and_says_nothing_of_nothing(project, name):
    rows = asked(project, name).rows
    found = probe(name).summarise(Evaluation(rows, human_ceiling=0.7, resamples=100, seed=0))
    assert found
    assert all(isinstance(value, float) and not math.isinf(value) for value in found.values()), found
    empty = probe(name).summarise(Evaluation(rows.iloc[:0], human_ceiling=0.7, resamples=100, seed=0))
    assert {key for key in empty if "." not in key} <= set(found)


@every_probe
@pytest.mark.parametrize("spoil", [float("nan"), float("inf")])
def test_a_model_that_gives_no_numbers_is_said_so(project, name, spoil):
    """A probe of the house refuses it in one line; whatever a probe does, it must not raise anything else."""
    try:
        asked(project, name, spoil=spoil)
    except DataError as error:
        assert "not finite" in str(error)
        assert "\n" not in str(error)
    else:
        assert name not in REFUSING


@every_probe
def test_it_is_described(name):
    kind = extending.load("probe", name)
    assert issubclass(kind, Probe)
    for described in (sys.modules[kind.__module__], kind, kind.measure):
        assert inspect.getdoc(described)
