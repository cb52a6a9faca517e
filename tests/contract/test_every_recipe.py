"""What holds for every recipe in the catalog: a new file in advalign/recipes is tested here by itself."""

import re
import sys

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from advalign import catalog
from advalign.data.batches import Batch
from advalign.recipes.base import Position, Recipe

torch.set_num_threads(1)

NAMES = catalog.names("recipe")
CLASSES = 5
every_recipe = pytest.mark.parametrize("name", NAMES)


def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.SiLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
            nn.Linear(96, CLASSES),
        )  # fmt: skip


def batch(count=6):
    generator = torch.Generator().manual_seed(1)
    return Batch(
        torch.rand(count, 3, 16, 16, generator=generator),
        torch.arange(count) % CLASSES,
        torch.rand(count, 16, 16, generator=generator),
        torch.arange(count) % 3 != 0,
    )


def recipe(name, label_smoothing=0.0, **values):
    recipe_class = catalog.load("recipe", name)
    return recipe_class(recipe_class.Settings(**values), label_smoothing)


@every_recipe
@pytest.mark.parametrize("step", [0, 1, 9])
def test_the_loss_is_a_finite_scalar_that_reaches_every_parameter(name, step):
    model, sample = net(), batch()
    result = recipe(name)(model, sample, Position(step, 10))
    assert result["loss"].shape == ()
    assert result["loss"].isfinite()
    assert result["loss"].dtype == torch.float32
    assert result["logits"].shape == (6, CLASSES)
    assert all(parameter.grad is None for parameter in model.parameters()), "the loss alone must leave no gradients"
    for part in set(result) - {"loss", "logits"}:
        assert result[part].shape == ()
        assert not result[part].requires_grad, f"{part} is only logged"
    result["loss"].backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    assert model[-1].weight.grad.abs().sum() > 0


@every_recipe
@pytest.mark.parametrize("training", [True, False])
def test_the_model_keeps_its_mode_and_the_batch_its_values(name, training):
    model, sample = net().train(training), batch()
    recipe(name)(model, sample, Position(0, 10))
    assert {module.training for module in model.modules()} == {training}
    fresh = batch()
    for field in ("images", "labels", "heatmaps", "has_heatmap"):
        assert torch.equal(getattr(sample, field), getattr(fresh, field))
        assert not getattr(sample, field).requires_grad


@every_recipe
def test_batch_statistics_are_updated_once_per_step(name):
    """BatchNorm must see one batch per step, however many passes a recipe makes."""
    model = net().train()
    recipe(name)(model, batch(), Position(0, 10))
    assert model[1].num_batches_tracked == 1


@every_recipe
def test_the_same_batch_gives_the_same_loss(name):
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        losses.append(recipe(name)(net(), batch(), Position(0, 10))["loss"])
    assert torch.equal(*losses)


@every_recipe
def test_label_smoothing_reaches_the_loss(name):
    torch.manual_seed(3)
    plain = recipe(name)(net(), batch(), Position(1, 10))
    torch.manual_seed(3)
    smoothed = recipe(name, 0.2)(net(), batch(), Position(1, 10))
    torch.testing.assert_close(smoothed["logits"], plain["logits"])  # what is attacked does not depend on it
    log_probabilities = plain["logits"].log_softmax(1)
    hard = log_probabilities[torch.arange(6), batch().labels]
    expected = -(0.8 * hard + 0.2 * log_probabilities.mean(1)).mean()
    extra = plain["loss"] + hard.mean()  # what the recipe adds to the cross-entropy
    torch.testing.assert_close(smoothed["loss"], expected + extra, rtol=1e-5, atol=1e-6)


@every_recipe
def test_its_name_is_as_published_models_are_named(name):
    pattern = r"resnet18(_(l2|linf)_eps[0-9.]+(_255)?)?(\.[a-z]+)?"
    published = recipe(name).published_name("resnet18")
    assert re.fullmatch(pattern, published), published
    assert published != "resnet18"
    assert recipe(name).published_name("vit_tiny_patch16_224").startswith("vit_tiny_patch16_224")
    if "eps" in catalog.load("recipe", name).Settings.model_fields:
        assert "l2_eps0.25" in recipe(name, eps=0.25).published_name("resnet18")
        linf = recipe(name, constraint="linf", eps=0.5 / 255).published_name("resnet18")
        assert "resnet18_linf_eps0.5_255" in linf
        assert "linf_eps8_255" in recipe(name, constraint="linf", eps=8 / 255).published_name("resnet18")


def test_published_names_by_value_and_all_different():
    names = {name: recipe(name).published_name("resnet18") for name in NAMES}
    assert len(set(names.values())) == len(names)
    assert names["baseline"] == "resnet18.baseline"
    assert names["harmonized"] == "resnet18.harmonized"
    assert recipe("robust", eps=0.25).published_name("resnet18") == "resnet18_l2_eps0.25"
    assert recipe("combined", eps=0.25).published_name("resnet18") == "resnet18_l2_eps0.25.combined"


@every_recipe
def test_it_is_described_and_its_settings_are_frozen(name):
    recipe_class = catalog.load("recipe", name)
    assert issubclass(recipe_class, Recipe)
    for described in (sys.modules[recipe_class.__module__], recipe_class, recipe_class.Settings, recipe_class.__call__):
        assert described.__doc__
    assert f"advalign train {name}" in sys.modules[recipe_class.__module__].__doc__, "its head gives its command"
    settings = recipe_class.Settings()
    for field in recipe_class.Settings.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, field, getattr(settings, field))
    with pytest.raises(ValidationError, match="extra"):
        recipe_class.Settings(no_such_setting=1)
    assert isinstance(recipe_class.twice_differentiable, bool)
