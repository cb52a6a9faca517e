"""Saliency maps by value: Grad-CAM against its closed form and Captum, rollout against a written-out product."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from advalign.errors import InputError
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.watched import METHODS, GradCam, InputGradient, Rollout
from advalign.models.zoo import create_classifier

torch.set_num_threads(1)


def made(architecture, size=32, **arguments):
    """A classifier with random weights, in float64, frozen as for a probe."""
    found = create_classifier(architecture, 10, size, seed=0, arguments=arguments)
    return found.double().eval().requires_grad_(False)


def explained(method, classifier, size=32, target=(1, 7, 3), layer=None):
    generator = torch.Generator().manual_seed(2)
    pixels = torch.rand(len(target), 3, size, size, generator=generator, dtype=torch.float64, requires_grad=True)
    with method(classifier, layer) as watched:
        logits = classifier(pixels)
    return watched.maps(logits, torch.tensor(target)), pixels.detach()


@pytest.mark.parametrize(
    ("architecture", "size", "head", "arguments"),
    [
        ("resnet18_cifar", 32, "fc", {}),
        ("test_resnet", 32, "fc", {"output_stride": 8}),
        ("test_resnet", 64, "fc", {}),
        ("test_efficientnet", 96, "classifier", {}),
    ],
)
def test_grad_cam_of_global_pooling_and_a_linear_layer_has_a_closed_form(architecture, size, head, arguments):
    """alpha = W[c] / Z."""
    classifier = made(architecture, size, **arguments)
    maps, pixels = explained(GradCam, classifier, size)
    features = classifier.network.forward_features((pixels - classifier.mean) / classifier.std)
    alpha = getattr(classifier.network, head).weight[[1, 7, 3]] / features.shape[2:].numel()
    expected = torch.einsum("nk,nkhw->nhw", alpha, features)
    assert expected.std() > 1e-6
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("layer", [None, "layer3", "layer2.0"])
def test_grad_cam_is_captums(layer):
    attr = pytest.importorskip("captum.attr")
    classifier = made("resnet18_cifar")
    maps, pixels = explained(GradCam, classifier, layer=layer)
    explained_layer = classifier.network.get_submodule(layer or "layer4")
    captums = attr.LayerGradCam(classifier, explained_layer).attribute(pixels.requires_grad_(), torch.tensor([1, 7, 3]))
    torch.testing.assert_close(maps, captums[:, 0].detach(), rtol=0, atol=1e-6)


def test_grad_cam_of_a_named_layer_is_written_out():
    """Without Captum: the gradient by finite differences of the logit along every channel of the layer's output."""
    classifier = made("test_resnet")
    maps, pixels = explained(GradCam, classifier, layer="layer2", target=(4,))
    network, kept = classifier.network, {}
    handle = network.layer2.register_forward_hook(lambda *call: kept.setdefault("features", call[2]))
    classifier(pixels)
    handle.remove()
    features, step = kept["features"], 1e-6

    def logit(moved):
        return network.forward_head(network.layer4(network.layer3(moved)))[0, 4]

    alpha = []
    for channel in range(features.shape[1]):
        moved = torch.zeros_like(features)
        moved[:, channel] = step  # along all positions at once: the sum of their gradients
        alpha.append((logit(features + moved) - logit(features - moved)) / (2 * step) / features.shape[2:].numel())
    expected = (torch.stack(alpha)[None, :, None, None] * features).sum(1)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("arguments", [{"patch_size": 8, "depth": 3}, {"patch_size": 8, "depth": 2, "reg_tokens": 2}])
def test_rollout_is_the_written_out_product(arguments):
    """R <- ((A + I) / 2) R with softmax(q k^T / sqrt(d)) from the weights, in NumPy."""
    classifier = made("vit_tiny_patch16_224", **arguments)
    network = classifier.network
    maps, pixels = explained(Rollout, classifier)
    prefix = 1 + arguments.get("reg_tokens", 0)
    tokens = network.patch_embed((pixels - classifier.mean) / classifier.std)
    tokens = network.norm_pre(network.patch_drop(network._pos_embed(tokens)))
    rolled = np.stack([np.eye(prefix + 16)] * 3)
    for block in network.blocks:
        inside = block.norm1(tokens)
        heads = block.attn.num_heads
        query, key, _ = (
            part.numpy() for part in block.attn.qkv(inside).reshape(3, prefix + 16, 3, heads, -1).unbind(2)
        )
        scores = np.einsum("nihd,njhd->nhij", query, key) / np.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        attention = (weights / weights.sum(-1, keepdims=True)).mean(1)
        rolled = (attention + np.eye(prefix + 16)) / 2 @ rolled
        tokens = block(tokens)
    np.testing.assert_allclose(maps.numpy(), rolled[:, 0, prefix:].reshape(3, 4, 4), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(rolled.sum(2), 1)
    assert maps.std() > 1e-6


def test_watching_changes_nothing_and_leaves_nothing():
    classifier = made("vit_tiny_patch16_224", patch_size=8, depth=2)
    fused = [block.attn.fused_attn for block in classifier.network.blocks]
    pixels = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    before = classifier(pixels)
    for method in (Rollout, InputGradient):
        with method(classifier):
            assert torch.allclose(classifier(pixels), before)
    assert [block.attn.fused_attn for block in classifier.network.blocks] == fused
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in classifier.modules())


def test_the_input_gradient_is_the_largest_over_channels():
    weights = torch.tensor([[[1.0, -3.0], [0.5, 0.0]], [[2.0, 1.0], [-0.5, 0.0]], [[0.0, 0.0], [-4.0, 0.0]]])
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False)).double()
    network[1].weight.data = torch.stack([weights.flatten(), -2 * weights.flatten()]).double()
    linear = Classifier(network, Preprocessing(input_size=2, mean=(0.5,) * 3, std=(0.25,) * 3)).requires_grad_(False)
    maps, _ = explained(InputGradient, linear, size=2, target=(0, 1))
    once = torch.tensor([[2.0, 3.0], [4.0, 0.0]], dtype=torch.float64) / 0.25
    torch.testing.assert_close(maps, torch.stack([once, 2 * once]))


class Functional(nn.Module):
    """Like torchvision's DenseNet: the last activation is a function that overwrites the feature map."""

    def __init__(self):
        super().__init__()
        self.features, self.fc = nn.Conv2d(3, 5, 3), nn.Linear(5, 10)

    def forward(self, pixels):
        return self.fc(F.relu(self.features(pixels), inplace=True).mean((2, 3)))


def test_a_feature_map_that_is_overwritten_is_explained_as_it_was_read():
    torch.manual_seed(0)
    network = Functional().double()
    classifier = Classifier(network, Preprocessing(input_size=8, mean=(0,) * 3, std=(1,) * 3)).double()
    maps, pixels = explained(GradCam, classifier, size=8)
    expected = torch.einsum("nk,nkhw->nhw", network.fc.weight[[1, 7, 3]] / 36, network.features(pixels).relu())
    torch.testing.assert_close(maps, expected)


VIT = {"patch_size": 8, "depth": 1}


@pytest.mark.parametrize(
    ("method", "architecture", "arguments", "layer", "said"),
    [
        (
            "grad-cam",
            "vit_tiny_patch16_224",
            VIT,
            None,
            "needs a convolutional feature map, and VisionTransformer ends",
        ),
        ("grad-cam", "vit_tiny_patch16_224", VIT, "blocks.0", "ends without one at 'blocks.0': use rollout"),
        ("grad-cam", "test_resnet", {}, None, "is 1x1 at this input size, so Grad-CAM says nothing: name an earlier"),
        ("grad-cam", "test_resnet", {}, "layer9", "ResNet has no layer 'layer9': it has conv1, bn1"),
        ("rollout", "test_resnet", {}, None, "rollout needs a vision transformer of timm, got ResNet: use grad-cam"),
        (
            "rollout",
            "vit_tiny_patch16_224",
            {**VIT, "global_pool": "avg"},
            None,
            "decides without one .global_pool: avg",
        ),
        ("rollout", "vit_tiny_patch16_224", VIT, "blocks.0", "goes through all layers: leave layer out"),
        ("input-gradient", "test_resnet", {}, "layer1", "explains pixels: leave layer out"),
    ],
)
def test_what_cannot_be_explained_is_said_in_one_line(method, architecture, arguments, layer, said):
    with pytest.raises(InputError, match=said) as error:
        explained(METHODS[method], made(architecture, **arguments), layer=layer)
    assert "\n" not in str(error.value)


def test_a_feature_map_with_channels_last_is_not_taken_for_another():
    network = timm.create_model(
        "swin_tiny_patch4_window7_224", num_classes=10, img_size=32, window_size=4, embed_dim=12, depths=(1, 1),
        num_heads=(1, 1),
    )  # fmt: skip
    classifier = Classifier(network, Preprocessing(input_size=32, mean=(0,) * 3, std=(1,) * 3)).double().eval()
    with pytest.raises(InputError, match="SwinTransformer ends without one"):
        explained(GradCam, classifier)
