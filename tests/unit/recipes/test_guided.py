"""The neural and the manifold term by value, as released, and with which images they are computed."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from advalign.errors import InputError
from advalign.recipes.guided import Guided
from advalign.recipes.manifold_guided import ManifoldGuided
from advalign.recipes.terms.manifold import manifold_parts
from advalign.recipes.terms.neural import read_out_error, unlikeness
from advalign.strict_settings import parse
from advalign.tensors.class_manifolds import class_manifolds
from tests.tiny_recipes import DIMENSIONS, POSITION, batch, double, gradients, smooth_net, told

torch.set_num_threads(1)
NONE = torch.zeros(6, dtype=torch.bool)


def guided(**values):
    return told(Guided(Guided.Settings(**values)))


def manifold(**values):
    return told(ManifoldGuided(ManifoldGuided.Settings(**values)))


def penultimate(model, images):
    return model[:-1](images)


def head_of(recipe, model, sample, seed=0):
    (head,) = recipe.learned(model, sample.images[:1], seed).values()
    return head


def test_the_read_out_error_is_a_mean_over_all_images():
    read_out = torch.tensor([[1.0, 2], [3, 4], [9, 9]])
    responses = torch.tensor([[0.0, 0], [3, 2], [0, 0]])
    has = torch.tensor([True, True, False])
    assert read_out_error(read_out, responses, has).item() == pytest.approx((1 + 4 + 0 + 4) / 6)


@pytest.mark.parametrize("released", [False, True])
def test_the_guided_loss_by_hand(released):
    model, sample = smooth_net(), double(batch())
    recipe = guided(alpha=0.8, released=released)
    head = head_of(recipe, model, sample)
    result = recipe(model, sample, POSITION)
    read_out = penultimate(model, sample.images) @ head.weight.T + head.bias
    own = sample.has_response
    error = (read_out[own] - sample.responses[own]).square().sum() / (6 * DIMENSIONS)
    cross_entropy = nn.functional.cross_entropy(model(sample.images), sample.labels)
    expected = (1 - 0.8) * cross_entropy + 0.8 * error
    torch.testing.assert_close(result["loss"], expected if released else expected / (1 - 0.8))
    torch.testing.assert_close(result["neural_term"], error)
    torch.testing.assert_close(result["cross_entropy"], cross_entropy)
    both = [*model.parameters(), *head.parameters()]
    found = torch.autograd.grad(result["loss"], both)
    wanted = torch.autograd.grad(expected if released else 5 * expected, both)
    assert all(torch.allclose(one, two) for one, two in zip(found, wanted, strict=True))


def test_the_guided_loss_with_cka_by_hand():
    model, sample = smooth_net(), double(batch())
    recipe = guided(alpha=0.5, loss="cka")
    assert len(recipe.learned(model, sample.images[:1], 0)) == 0, "it compares the features themselves"
    result = recipe(model, sample, POSITION)
    own = sample.has_response
    one, two = penultimate(model, sample.images)[own], sample.responses[own].double()
    one, two = one - one.mean(0), two - two.mean(0)
    expected = 1 - (two.T @ one).square().sum() / ((one.T @ one).norm() * (two.T @ two).norm())
    torch.testing.assert_close(result["neural_term"], expected.detach())
    torch.testing.assert_close(
        result["loss"], nn.functional.cross_entropy(model(sample.images), sample.labels) + expected
    )
    assert recipe.whole_batch
    assert not guided().whole_batch


def test_where_nothing_can_be_compared_cka_asks_for_nothing():
    """A class code in a batch of one class, say: no NaN stops the training."""
    one = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for features, responses in (
        (one[:1], one[:1]),
        (one, torch.full((5, 2), 0.3)),
        (one[:1].expand(5, 3), one.detach()),
    ):
        found = unlikeness(features, responses)
        assert found == 0
        assert not found.requires_grad
    assert unlikeness(one, 2 * one.detach() + 1).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("recipe", [guided(), guided(loss="cka"), manifold()], ids=["mse", "cka", "manifold"])
def test_without_a_response_in_the_batch_the_loss_is_the_cross_entropy(recipe):
    """Whatever stands in place of the responses; the head has a gradient, as another process may have responses."""
    model, sample = smooth_net(), double(batch())
    sample = replace(sample, has_response=NONE, responses=sample.responses * 99)
    learned = recipe.learned(model, sample.images[:1], 0)
    result = recipe(model, sample, POSITION)
    expected = nn.functional.cross_entropy(model(sample.images), sample.labels)
    torch.testing.assert_close(result["loss"], expected)
    torch.testing.assert_close(gradients(model, result["loss"]), gradients(model, expected))
    result = recipe(model, sample, POSITION)
    result["loss"].backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() == 0 for parameter in learned.parameters())


POINTS = torch.tensor([[2.0, 0, 0], [-2, 0, 0], [0, 3, 1], [0, 3, -1], [7, 7, 7], [0, 0, 9]])
LABELS = torch.tensor([0, 0, 1, 1, 2, 1])
NEURAL = class_manifolds(
    torch.tensor([[0.0, 1, 0], [0, -1, 0], [0, 2, 0.5], [0, 2, -0.5], [7, 7, 7]]), torch.tensor([0, 0, 1, 1, 2]), 0.9
)


def test_both_parts_by_hand():
    """Class 0: distance 2 beyond radius 1, variance along x, neural along y. Class 1 without its last image: centre
    one too far, distance sqrt(1 + 1), radius .5, variance along z as the neural one. Class 2 has one image.
    """
    far, out = manifold_parts(POINTS, LABELS, torch.tensor([True] * 5 + [False]), NEURAL)
    assert far.item() == pytest.approx(((2 - 1) + (math.sqrt(2) - 0.5)) / 2)
    assert out.item() == pytest.approx((1 + 0) / 2)
    far, out = manifold_parts(POINTS, LABELS, torch.tensor([True, True, True, False, True, False]), NEURAL)
    assert (far.item(), out.item()) == pytest.approx((1, 1)), "two images of a class are needed"
    far, out = manifold_parts(POINTS, LABELS, NONE, NEURAL)
    assert (far.item(), out.item()) == (0, 0)


def test_half_of_the_variance_inside():
    points = torch.tensor([[1.0, 1, 0], [-1, -1, 0]])
    _, out = manifold_parts(points, torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.bool), NEURAL)
    assert out.item() == pytest.approx(0.5)


def test_a_class_code_has_centres_and_no_subspaces():
    points = class_manifolds(torch.eye(3)[LABELS], LABELS, 0.9)
    far, out = manifold_parts(POINTS, LABELS, torch.tensor([True, True, False, False, False, False]), points)
    assert far.item() == pytest.approx(math.sqrt((1 + 9) / 2))
    assert out == 0


@pytest.mark.parametrize("released", [False, True])
def test_the_manifold_loss_by_hand(released):
    model, sample = smooth_net(), double(batch())
    recipe = manifold(a0=0.2, a1=0.3, a2=0.5, released=released)
    head = head_of(recipe, model, sample)
    result = recipe(model, sample, POSITION)
    read_out = penultimate(model, sample.images) @ head.weight.T + head.bias
    (term,) = recipe._terms.values()
    far, out = manifold_parts(read_out, sample.labels, sample.has_response, term._manifolds.to(read_out))
    assert 0 < out < 1
    second = 1 - out if released else out
    expected = 0.2 * nn.functional.cross_entropy(model(sample.images), sample.labels) + 0.3 * far + 0.5 * second
    torch.testing.assert_close(result["loss"], expected if released else expected / 0.2)
    torch.testing.assert_close(result["manifold_excess"], far.detach())
    torch.testing.assert_close(result["manifold_outside"], out.detach())


def test_the_released_sign_pushes_features_out_of_the_subspace():
    """A step down its gradient: more variance outside; with ours, less."""
    sample = double(batch())
    for released, sign in ((True, 1), (False, -1)):
        model, recipe = smooth_net(), manifold(a0=1, a1=0, a2=1, released=released)
        recipe.learned(model, sample.images[:1], 0)
        before = recipe(model, sample, POSITION)
        (before["loss"] - before["cross_entropy"]).backward()
        with torch.no_grad():
            for parameter in model[0].parameters():
                parameter -= 1e-3 * parameter.grad / parameter.grad.norm()
        after = recipe(model, sample, POSITION)
        assert sign * (after["manifold_outside"] - before["manifold_outside"]) > 0


@pytest.mark.parametrize("recipe", [guided(alpha=0.0), manifold(a1=0, a2=0)], ids=["guided", "manifold"])
def test_without_weight_there_is_neither_term_nor_head(recipe):
    model, sample = smooth_net(), double(batch())
    assert len(recipe.learned(model, sample.images[:1], 0)) == 0
    result = recipe(model, sample, POSITION)
    assert torch.equal(result["loss"], result["cross_entropy"])


def test_a_head_depends_on_the_seed_alone_and_leaves_the_network_as_it_was():
    model, sample = smooth_net().train(), double(batch())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(4)
    state = torch.random.get_rng_state()
    one, same, other = (head_of(guided(), model, sample, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one.weight, same.weight)
    assert not torch.equal(one.weight, other.weight)
    assert one.weight.shape == (DIMENSIONS, 96)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_named_layer_is_guided():
    model, sample = smooth_net(), double(batch())
    recipe = guided(guided_layer="2")
    head = head_of(recipe, model, sample)
    assert head.weight.shape == (DIMENSIONS, 6)
    read_out = model[:3](sample.images).mean((2, 3)) @ head.weight.T + head.bias
    expected = read_out_error(read_out, sample.responses, sample.has_response)
    torch.testing.assert_close(recipe(model, sample, POSITION)["neural_term"], expected.detach())


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        (Guided, {"alpha": 1.0}, "alpha: input should be less than 1, got 1.0"),
        (Guided, {"loss": "cosine"}, "loss: input should be 'mse' or 'cka', got 'cosine'"),
        (Guided, {"control": "shufled"}, "control: input should be 'class-code', 'shuffled' or"),
        (Guided, {"layer": "layer4"}, "unknown key 'layer'; did you mean 'guided_layer'"),
        (
            Guided,
            {"released": True, "normalise_ce": True},
            "released means normalise_ce: false: leave normalise_ce out",
        ),
        (Guided, {"variance": 1.5}, "variance: input should be less than or equal to 1, got 1.5"),
        (ManifoldGuided, {"released": True, "push_out": False}, "released means push_out: true: leave push_out out"),
        (ManifoldGuided, {"control": "shuffled-within-class"}, "leaves the geometry of classes as it is"),
        (ManifoldGuided, {"a0": 0}, "a0: input should be greater than 0, got 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(kind, values, says):
    with pytest.raises(InputError) as caught:
        parse(kind.Settings, values, "recipe")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_released_is_a_preset():
    assert not Guided.Settings(released=True).normalise_ce
    found = ManifoldGuided.Settings(released=True)
    assert (found.normalise_ce, found.push_out) == (False, True)
    assert Guided.Settings(released=False).normalise_ce
