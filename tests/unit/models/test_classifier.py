"""Pixels in, logits out: normalisation, resizing, grouping by value; what timm is asked for and what is made of it."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import nn

from advalign.errors import InputError
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.superclasses import GroupedClassifier
from advalign.models.zoo import (
    SmoothHardsigmoid,
    SmoothHardswish,
    create_classifier,
    create_network,
    default_preprocessing,
    evaluation_transform,
)

torch.set_num_threads(1)

MEAN, STD = (0.1, 0.4, 0.7), (0.5, 0.25, 2.0)
TWICE = ["mobilenetv3_small_050", "test_vit", "test_resnet"]


def pixels(size, count=2, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def bare(size, mode="bicubic"):
    """A classifier whose network hands its input through."""
    return Classifier(nn.Identity(), Preprocessing(input_size=size, mean=MEAN, std=STD, interpolation=mode))


def test_normalisation_by_value():
    image = torch.tensor([0.6, 0.4, 0.7]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    found = bare(8)(image)
    assert found[0, :, 3, 5].tolist() == pytest.approx([(0.6 - 0.1) / 0.5, 0.0, 0.0], abs=1e-7)
    black = bare(8)(torch.zeros(1, 3, 8, 8))
    assert black[0, :, 0, 0].tolist() == pytest.approx([-0.2, -1.6, -0.35])


@pytest.mark.parametrize(
    ("mode", "used"),
    [("bilinear", "bilinear"), ("bicubic", "bicubic"), ("nearest", "bilinear"), ("lanczos", "bilinear")],
)
@pytest.mark.parametrize(("size", "wanted"), [(16, 24), (24, 16), (64, 224)])
def test_images_of_another_size_are_resized_in_the_networks_mode(mode, used, size, wanted):
    images = pixels(size)
    resized = F.interpolate(images, size=(wanted, wanted), mode=used, align_corners=False, antialias=False)
    expected = (resized - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    found = bare(wanted, mode)(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    other = {"bilinear": "bicubic", "bicubic": "bilinear"}[used]
    assert (bare(wanted, other)(images) - found).abs().max() > 1e-3


def test_images_of_the_networks_size_are_not_resized():
    images = pixels(16)
    expected = (images - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    assert torch.equal(bare(16)(images), expected)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_gradients_flow_through_the_resize(mode):
    images = pixels(12).double().requires_grad_()
    classifier = bare(20, mode).double()
    (gradient,) = torch.autograd.grad(classifier(images).square().sum(), images)
    step = torch.zeros_like(images)
    step[1, 2, 5, 7] = 1e-6
    with torch.no_grad():
        slope = (classifier(images + step).square().sum() - classifier(images - step).square().sum()) / 2e-6
    assert gradient[1, 2, 5, 7].item() == pytest.approx(slope.item(), rel=1e-6)
    assert (gradient != 0).all()


def test_the_preprocessing_is_not_part_of_the_weights_but_moves_with_them():
    classifier = create_classifier("test_resnet", 3, 32, seed=0)
    assert set(classifier.state_dict()) == {f"network.{name}" for name in classifier.network.state_dict()}
    assert classifier.double().mean.dtype == torch.float64


def test_groups_by_hand():
    logits = torch.tensor([[1.0, -2.0, 5.0, 0.5], [-3.0, -4.0, -1.0, -9.0]])
    for reduction, expected in (("max", [[5.0, 0.5], [-1.0, -4.0]]), ("sum", [[6.0, -1.5], [-4.0, -13.0]])):
        grouped = GroupedClassifier(lambda _: logits, [0, 1, 0, 1], reduction)
        assert grouped(torch.zeros(2, 3, 4, 4)).tolist() == expected
    three = GroupedClassifier(lambda _: logits, [2, 0, 1, 0])
    assert three(torch.zeros(2, 3, 4, 4)).tolist() == [[0.5, 5.0, 1.0], [-4.0, -1.0, -3.0]]


def test_the_gradient_of_a_group_goes_to_its_largest_logit():
    logits = torch.tensor([[1.0, -2.0, 5.0, 0.5]], requires_grad=True)
    (gradient,) = torch.autograd.grad(GroupedClassifier(lambda _: logits, [0, 1, 0, 1])(None)[0, 1], logits)
    assert gradient.tolist() == [[0.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize("architecture", TWICE)
@pytest.mark.parametrize("training", [True, False])
def test_the_input_gradient_can_be_differentiated(architecture, training):
    plain = create_classifier(architecture, 5, 64, seed=0)
    swapped = create_classifier(architecture, 5, 64, seed=0, twice_differentiable=True).train(training)
    images = pixels(64).requires_grad_()
    torch.testing.assert_close(swapped.eval()(images), plain.eval()(images), rtol=0, atol=1e-5)
    swapped.train(training)
    (gradient,) = torch.autograd.grad(swapped(images)[:, 0].sum(), images, create_graph=True)
    (once,) = torch.autograd.grad(plain.train(training)(images)[:, 0].sum(), images)
    torch.testing.assert_close(gradient.detach(), once, rtol=1e-3, atol=1e-5 * float(once.abs().max()) + 1e-9)
    gradient.square().sum().backward()
    reached = [float(p.grad.abs().sum()) for p in swapped.parameters() if p.grad is not None]
    assert sum(value > 0 for value in reached) >= 5
    assert np.isfinite(reached).all()


def test_hard_activations_by_value():
    """The swapped forms of hardsigmoid and hardswish equal PyTorch's, kinks included."""
    x = torch.tensor([-5.0, -3.0, -1.5, 0.0, 0.3, 2.9, 3.0, 8.0])
    torch.testing.assert_close(SmoothHardsigmoid()(x), F.hardsigmoid(x))
    torch.testing.assert_close(SmoothHardswish()(x), F.hardswish(x))


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    first = create_classifier("test_resnet", 5, 32, seed=7)
    assert torch.equal(torch.random.get_rng_state(), state), "the global random state must be left as it was"
    torch.manual_seed(456)
    torch.rand(10)
    second = create_classifier("test_resnet", 5, 32, seed=7)
    third = create_classifier("test_resnet", 5, 32, seed=8)
    weights = [torch.cat([p.flatten() for p in c.parameters()]) for c in (first, second, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet81", "did you mean 'resnet18'"),
        ("test_resnett", "did you mean 'test_resnet'"),
        ("", "unknown model ''"),
        ("resnet18.no_such_tag", "resnet18"),
    ],
)
def test_unknown_architectures_offer_the_nearest(name, says):
    with pytest.raises(InputError, match=says) as caught:
        create_classifier(name, 5, 32, seed=0)
    assert "\n" not in str(caught.value)


def test_arguments_reach_the_architecture():
    assert create_network("test_vit", 5, 32, {"patch_size": 8}).patch_embed.grid_size == (4, 4)
    assert create_network("test_vit", 5, 64).patch_embed.img_size == (64, 64)


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("resnet18", {"patch_sise": 8}),
        ("resnet18", {"block": "basic"}),
        ("test_vit", {"num_heads": 0}),
        ("test_vit", {"num_heads": 7}),
        ("resnet18", {"num_classes": 3}),
    ],
)
def test_arguments_that_the_architecture_cannot_take_are_refused_in_one_line(architecture, arguments):
    with pytest.raises(InputError, match=f"{architecture}.*{next(iter(arguments))}") as caught:
        create_network(architecture, 5, 32, arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("architecture", ["resnet18", "test_vit", "test_efficientnet"])
def test_preprocessing_is_timms_at_the_wanted_size(architecture):
    config = timm.get_pretrained_cfg(architecture)
    found = default_preprocessing(architecture, 48)
    assert found.mean == pytest.approx(config.mean)
    assert found.std == pytest.approx(config.std)
    assert (found.interpolation, found.input_size, found.crop) == (config.interpolation, 48, 1.0)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop", [1.0, 0.875])
@pytest.mark.parametrize("shape", [(64, 64), (50, 81)])
def test_the_evaluation_transform_is_timms_with_the_normalisation_moved_into_the_classifier(interpolation, crop, shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    expected = create_transform(
        input_size=(3, 32, 32), is_training=False, mean=MEAN, std=STD, interpolation=interpolation, crop_pct=crop
    )(image)
    preprocessing = Preprocessing(input_size=32, mean=MEAN, std=STD, interpolation=interpolation, crop=crop)
    found = evaluation_transform(preprocessing)(image)
    assert found.shape == (3, 32, 32)
    assert 0 <= found.min() < found.max() <= 1
    classifier = Classifier(nn.Identity(), preprocessing)
    torch.testing.assert_close(classifier(found[None])[0], expected, rtol=0, atol=2e-6)
