"""What holds for every loss term in the catalog: a new file in advalign/recipes/terms is tested here by itself."""

import sys
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from advalign.recipes._pgd import Adversarial
from advalign.recipes.base import Position, Recipe
from advalign.recipes.terms.base import Term
from tests import extending
from tests.tiny_recipes import POSITION, batch, double, gradients, net, smooth_net, taken, told

torch.set_num_threads(1)

NAMES = extending.names("term")
every_term = pytest.mark.parametrize("name", NAMES)


def recipe(name, **values):
    """Cross-entropy and one term."""
    term = extending.load("term", name)
    said = {"terms": (term,), "Settings": term.Settings, "published_name": lambda self, architecture: architecture}
    return told(type("OneTerm", (Recipe,), {"__module__": __name__, **said})(term.Settings(**values)))


@every_term
def test_it_is_a_weighted_part_of_the_loss_that_reaches_the_weights(name):
    model, sample = net(), batch()
    one = recipe(name)
    result = one(model, sample, POSITION)
    part = f"{name.replace('-', '_')}_term"
    noted = set(result) - {"loss", "logits", "cross_entropy"}
    assert part in noted
    assert all(key.startswith(part.removesuffix("term")) and not result[key].requires_grad for key in noted)
    (term,) = one._terms.values()
    assert term.weight > 0
    torch.testing.assert_close(result["loss"], result["cross_entropy"] + term.weight * result[part])
    extra = gradients(model, result["loss"])
    plain = gradients(model, torch.nn.functional.cross_entropy(model(sample.images), sample.labels))
    assert extra.isfinite().all()
    assert not torch.allclose(extra, plain)
    assert model[1].num_batches_tracked == 2  # of the recipe's pass, and of the line above


@every_term
def test_without_weight_it_is_not_computed(name, monkeypatch):
    term = extending.load("term", name)
    monkeypatch.setattr(term, "weight", property(lambda self: 0.0))
    monkeypatch.setattr(term, "__call__", lambda *_: pytest.fail("computed"))
    result = recipe(name)(net(), batch(), POSITION)
    assert torch.equal(result["loss"], result["cross_entropy"])
    assert set(result) == {"loss", "logits", "cross_entropy"}


@every_term
def test_it_enters_the_first_step_and_says_its_passes(name):
    one = recipe(name)
    assert any(part.endswith("_term") for part in one(net(), batch(), Position(0, 10)))
    assert one.passes >= 3.0
    assert one.twice_differentiable == extending.load("term", name).twice_differentiable
    assert one.needs_maps == extending.load("term", name).needs_maps


@every_term
@pytest.mark.parametrize("parts", [2, 3, 6])
def test_it_is_a_mean_over_images(name, parts):
    """So that parts of a batch, and processes, add up to the whole."""
    if recipe(name).whole_batch:
        pytest.skip("it says that it is none")
    sample, model = double(batch()), smooth_net()
    whole = recipe(name)(model, sample, POSITION)
    split = [recipe(name)(model, taken(sample, part), POSITION) for part in torch.arange(6).split(6 // parts)]
    key = f"{name.replace('-', '_')}_term"
    assert sum(float(part[key]) for part in split) / parts == pytest.approx(float(whole[key]), rel=1e-9)


@every_term
def test_maps_matter_where_it_says_so(name):
    sample, model = double(batch()), smooth_net()
    key = f"{name.replace('-', '_')}_term"
    others = replace(sample, heatmaps=sample.heatmaps.flip(0), has_heatmap=sample.has_heatmap.flip(0))
    values = [float(recipe(name)(model, each, POSITION)[key]) for each in (sample, others)]
    assert (values[0] != values[1]) == extending.load("term", name).needs_maps


@every_term
def test_responses_matter_where_it_says_so(name):
    sample, model = double(batch()), smooth_net()
    key = f"{name.replace('-', '_')}_term"
    others = replace(sample, responses=sample.responses.flip(0), has_response=torch.arange(6) < 5)
    values = [float(recipe(name)(model, each, POSITION)[key]) for each in (sample, others)]
    assert (values[0] != values[1]) == extending.load("term", name).needs_responses


@every_term
def test_only_what_says_so_differentiates_an_input_gradient(name, monkeypatch):
    asked, grad = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *given, **named: asked.append(named) or grad(*given, **named))
    recipe(name)(smooth_net(), double(batch()), POSITION)
    assert any(named.get("create_graph") for named in asked) == extending.load("term", name).twice_differentiable


@every_term
def test_it_is_described_and_its_settings_are_frozen(name):
    term = extending.load("term", name)
    assert issubclass(term, Term)
    for described in (sys.modules[term.__module__], term, term.Settings, term.__call__):
        assert described.__doc__
    settings = term.Settings()
    for field in term.Settings.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, field, getattr(settings, field))
    with pytest.raises(ValidationError, match="extra"):
        term.Settings(no_such_setting=1)


def test_no_two_terms_and_no_input_policy_share_a_setting():
    """A recipe's settings are those of its policy and of its terms side by side. What several terms inherit is one."""
    kinds = [Adversarial.Settings, *(extending.load("term", name).Settings for name in NAMES)]
    keys = [
        key
        for kind in {base for kind in kinds for base in kind.__mro__}
        for key in vars(kind).get("__annotations__", {})
    ]
    own = {key for kind in kinds for key in kind.model_fields}
    assert sorted(key for key in keys if key in own) == sorted(own)
