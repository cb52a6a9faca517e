"""registry/trainings.yaml: what stands above each entry is true of it, and its command trains it."""

import re
from functools import cache

import pytest
import yaml

from advalign.analysis.robustsight.published import read_publication
from advalign.cli.train import parse_eps
from advalign.files import Project
from advalign.settings import Training, TrainSettings, load_settings, read_trainings
from advalign.training.cost import IMAGENET_CLASSES, IMAGENET_IMAGES, forward_flops, training_flops
from advalign.training.optimisation import create_optimiser
from advalign.training.plan import as_published, resolve
from tests.conftest import REPOSITORY

PROJECT = Project(REPOSITORY)
TRAININGS = read_trainings(PROJECT.trainings)
PUBLISHED = yaml.safe_load((REPOSITORY / "registry/published/feng2025.yaml").read_text())["models"]
CIFAR = read_publication(REPOSITORY / "registry/published/kannappan2025.yaml").models
CIFAR_IMAGES, CIFAR_CLASSES = 50_000, 10
HEAD = re.compile(
    r"  # advalign train (?P<command>.+)\n"
    r"  # (?P<eflop>\S+) EFLOP; published (PT|accuracy) (?P<first>\S+), (AA|PGD|IoU) (?P<second>\S+)\n"
    r"  (?P<name>\S+):"
)
HEADS = {found["name"]: found for found in HEAD.finditer(PROJECT.trainings.read_text())}


@cache
def flops(model, size, classes):
    return forward_flops(Training(model=model, recipe="baseline"), TrainSettings(size=size), classes)


def test_all_published_models_have_an_entry_and_a_head():
    assert set(TRAININGS) == set(HEADS) == {*PUBLISHED, *CIFAR}
    assert len(TRAININGS) == 9 + 33 + 6


@pytest.mark.parametrize("name", TRAININGS)
def test_the_command_above_an_entry_trains_it(name):
    words = HEADS[name]["command"].split()
    options = dict(zip(words[1::2], words[2::2], strict=True))
    given = {key: options[f"--{key}"] for key in ("eps", "constraint") if f"--{key}" in options}
    overrides = given | ({"eps": parse_eps(given["eps"])} if "eps" in given else {})
    overrides |= {key: yaml.safe_load(value) for key, value in re.findall(r"--set (\w+)=(\S+)", HEADS[name]["command"])}
    typed = Training(model=options["--model"], recipe=words[0], overrides=overrides)
    chosen = as_published(PROJECT, load_settings(REPOSITORY), typed)
    recipe, train = resolve(load_settings(REPOSITORY), chosen)
    assert recipe.published_name(chosen.model) == name
    assert train == resolve(load_settings(REPOSITORY), TRAININGS[name])[1]
    assert recipe.settings.model_dump() == pytest.approx(
        resolve(load_settings(REPOSITORY), TRAININGS[name])[0].settings.model_dump()
    )
    assert (train.images, train.size, train.crop) == (("cifar", 32, 1.0) if name in CIFAR else ("imagenet", 224, 0.875))


@pytest.mark.parametrize("name", TRAININGS)
def test_an_entry_says_all_that_a_training_needs(name):
    """Nothing is left to params.yaml, whose values are another experiment's."""
    assert set(TRAININGS[name].train) == set(TrainSettings.model_fields)
    recipe, _ = resolve(load_settings(REPOSITORY), TRAININGS[name])
    left_open = set(type(recipe.settings).model_fields) - set(TRAININGS[name].overrides)
    assert left_open <= {"random_start", "batch_statistics"}


@pytest.mark.parametrize("name", TRAININGS)
def test_cost_and_published_values_above_an_entry_are_right(name):
    head, entry = HEADS[name], TRAININGS[name]
    recipe, train = resolve(load_settings(REPOSITORY), entry)
    images, classes = (CIFAR_IMAGES, CIFAR_CLASSES) if name in CIFAR else (IMAGENET_IMAGES, IMAGENET_CLASSES)
    counted = training_flops(flops(entry.model, train.size, classes), recipe, train, images)
    assert float(head["eflop"]) == pytest.approx(counted / 1e18, rel=5e-3)
    if name in CIFAR:
        printed = CIFAR[name]
        second = printed.iou if entry.recipe == "aligned" else printed.pgd_accuracy
        assert (float(head["first"]), float(head["second"])) == (printed.clean_accuracy, second)
    else:
        assert float(head["first"]) == pytest.approx(PUBLISHED[name]["pt"], abs=0.00501)
        assert float(head["second"]) == pytest.approx(PUBLISHED[name]["aa"], abs=0.000501)


@pytest.mark.parametrize("name", [name for name in TRAININGS if name.startswith("resnet18") or "vit" in name])
def test_steps_of_the_adversarial_search_and_optimisers_exist(name):
    entry = TRAININGS[name]
    recipe, train = resolve(load_settings(REPOSITORY), entry)
    if entry.recipe == "robust":
        assert recipe.settings.step_size == pytest.approx(2 / 3 * recipe.settings.eps, rel=1e-5)
    if entry.recipe == "adversarial":
        assert recipe.settings.step_size == pytest.approx(2 / 10 * recipe.settings.eps, rel=1e-5)
        assert (recipe.settings.steps, recipe.settings.random_start, recipe.settings.eps) == (10, True, 8 / 255)
    import torch

    assert create_optimiser(torch.nn.Linear(2, 2), train).param_groups
