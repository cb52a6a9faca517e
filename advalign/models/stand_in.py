"""A cheaper stand-in for a classifier, for searches whose results a full-precision judge verifies."""

import copy
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

Precision = Literal["float32", "bfloat16"]
AGREEMENT = 2e-4  # the largest difference to the classifier, relative to the spread of its logits, that is rounding


def stand_in(classifier: nn.Module, example: Tensor, precision: Precision = "float32") -> Callable[[Tensor], Tensor]:
    """Build a function (N, 3, H, W) in [0, 1] -> logits that is cheaper than the classifier and equal up to rounding.

    Batch norms are folded into the convolutions before them. With bfloat16, products run under autocast, but input,
    normalisation and the first layer stay in float32: at 224 pixels a minimum-norm perturbation is about 1e-3 per
    value, less than bfloat16 can resolve near 0.5.

    Args:
        classifier: pixels -> logits, in evaluation mode; not changed.
        example: (N, 3, H, W) images to see the layers' order on and to check the folding with.
        precision: of the products.
    """
    folded = fold_batch_norms(classifier, example)
    if precision == "float32":
        return folded
    for first in _layers_in_order(folded, example)[:1]:
        _keep_in_float32(first)

    def logits(pixels: Tensor) -> Tensor:
        with torch.autocast(example.device.type, torch.bfloat16):
            found: Tensor = folded(pixels)
            return found.float()

    return logits


@torch.no_grad()
def fold_batch_norms(classifier: nn.Module, example: Tensor) -> nn.Module:
    """Copy a classifier with its batch norms folded into the convolutions that feed them.

    One pass shows which convolution feeds which norm. If the folded copy's logits differ (a convolution whose output
    also goes elsewhere, or that changes its weights on the way), an unfolded copy is returned.
    """
    folded = copy.deepcopy(classifier)
    names = {module: name for name, module in folded.named_modules()}
    for convolution, norm in _convolutions_before_norms(folded, example):
        assert norm.running_mean is not None, "a norm without running statistics was paired"
        assert norm.running_var is not None, "a norm without running statistics was paired"
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        rest = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]  # timm's norms hold both
        folded.set_submodule(names[norm], nn.Sequential(*rest))
    wanted, got = classifier(example), folded(example)
    agrees = bool(((wanted - got).abs() <= AGREEMENT * wanted.std()).all())
    return folded if agrees else copy.deepcopy(classifier)


def _convolutions_before_norms(module: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Pairs where a norm's input is the very output of a convolution, each of them called once."""
    made: list[tuple[Tensor, nn.Conv2d]] = []
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after_convolution(layer: nn.Conv2d, _: object, output: Tensor) -> None:
        made.append((output, layer))

    def before_norm(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        if norm.running_mean is not None:
            pairs.extend((layer, norm) for output, layer in made if output is inputs[0])

    hooks = []
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            hooks.append(layer.register_forward_hook(after_convolution))
        elif isinstance(layer, nn.BatchNorm2d):
            hooks.append(layer.register_forward_pre_hook(before_norm))
    module(example)
    for hook in hooks:
        hook.remove()
    layers = [layer for _, layer in made]
    norms = [norm for _, norm in pairs]
    return [(layer, norm) for layer, norm in pairs if layers.count(layer) == norms.count(norm) == 1]


@torch.no_grad()
def _layers_in_order(module: nn.Module, example: Tensor) -> list[nn.Module]:
    """Convolutions and linear layers as they are called."""
    called: list[nn.Module] = []
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_pre_hook(lambda layer, _: called.append(layer)) for layer in layers]
    module(example)
    for hook in hooks:
        hook.remove()
    return called


def _keep_in_float32(layer: nn.Module) -> None:
    """Take a layer out of autocast, without replacing it."""
    entered: list[torch.autocast] = []

    def enter(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        context = torch.autocast(inputs[0].device.type, enabled=False)
        context.__enter__()  # type: ignore[no-untyped-call]
        entered.append(context)
        return (inputs[0].float(),)

    def leave(*_: object) -> None:
        entered.pop().__exit__(None, None, None)

    layer.register_forward_pre_hook(enter)
    layer.register_forward_hook(leave, always_call=True)  # also where the pass runs out of memory
