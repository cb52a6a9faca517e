"""Networks built by the name of their architecture, with preprocessing and evaluation transforms."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from PIL.Image import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn

from advalign.errors import InputError, quoted
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.origins import origin_of


def create_network(
    architecture: str, classes: int, input_size: int, arguments: dict[str, Any] | None = None
) -> nn.Module:
    """Build an untrained network.

    Args:
        architecture: a timm name, torchvision:NAME or python:package.module:function.
        classes: number of logits.
        input_size: side of the square input in pixels; passed to timm's architectures with a fixed size (transformers).
        arguments: further keyword arguments of the architecture (patch_size, pad_type, ...).

    Raises:
        InputError: unknown name (offers the nearest), arguments that the architecture refuses, code that is not
            trusted, or a network that does not give one logit per class.
    """
    origin = origin_of(architecture)
    origin.check()
    arguments = dict(arguments or {})
    origin.check_arguments(arguments)
    try:
        network = origin.build(classes, input_size, arguments)
        found = _answer(network, input_size) if origin.tried else (1, classes)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  what an architecture raises on wrong arguments is its own affair
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(f"model {architecture!r} cannot be built with {arguments}: {reason}") from None
    if found != (1, classes):
        raise InputError(
            f"model {architecture!r} gives {found} for an image of {input_size} x {input_size} pixels; expected one "
            f"logit for each of {classes} classes, {(1, classes)}: fix its code or its arguments"
        )
    return network


def check_input(architecture: str, classes: int, size: int, arguments: dict[str, Any] | None = None) -> None:
    """Refuse an input that a network of timm cannot take, on a network without storage, before anything starts.

    `create_network` tries networks of other origins.

    Args:
        architecture, classes, arguments: as `create_network`.
        size: side of the input in pixels.

    Raises:
        InputError: as `create_network`; or the network fails on an image of that size, or does not give one logit per
            class.
    """
    if origin_of(architecture).tried:
        return
    what = f"model {architecture!r} cannot be used with an image of {size} x {size} pixels"
    try:
        with torch.device("meta"):
            found = _answer(create_network(architecture, classes, size, arguments), size)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  what an architecture raises on an input is its own affair
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{what}: choose another size, such as the published weights'; it says {reason}") from None
    if found != (1, classes):
        raise InputError(f"{what}: it gives {found}, expected one logit per class, {(1, classes)}: name a classifier")


@torch.no_grad()
def _answer(network: nn.Module, size: int) -> object:
    """Shape of the output for one grey image in evaluation mode, or its type where it is no tensor."""
    training = network.training
    first = next((parameter for parameter in network.parameters()), torch.zeros(()))
    found = network.eval()(torch.zeros(1, 3, size, size, device=first.device))
    network.train(training)
    return tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__


def default_preprocessing(architecture: str, input_size: int, crop: float = 1.0) -> Preprocessing:
    """Preprocessing that the architecture's origin documents, at the given input size and crop."""
    known = origin_of(architecture).preprocessing()
    return Preprocessing(**{**known, "input_size": input_size, "crop": crop, "crop_mode": "center"})


def create_classifier(
    architecture: str,
    classes: int,
    input_size: int,
    *,
    seed: int,
    arguments: dict[str, Any] | None = None,
    crop: float = 1.0,
    twice_differentiable: bool = False,
) -> Classifier:
    """Build a classifier with random weights that depend on the seed alone.

    Args:
        architecture, classes, input_size, arguments: as `create_network`.
        seed: of the weights; the global random state does not change.
        crop: share of the image that is kept when it is evaluated.
        twice_differentiable: replace layers without a second derivative (hard activations, fused attention).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = create_network(architecture, classes, input_size, arguments)
    if getattr(network, "aux_logits", False) is True:
        raise InputError(
            f"model {architecture!r} gives several outputs while it is trained: build it with the argument "
            "aux_logits: false"
        )
    if twice_differentiable:
        make_twice_differentiable(network)
        if origin_of(architecture).tried:
            _check_twice_differentiable(network, architecture, input_size)
    return Classifier(network, default_preprocessing(architecture, input_size, crop))


def evaluation_transform(preprocessing: Preprocessing) -> Callable[[Image], Tensor]:
    """timm's own evaluation transform without its normalisation: image -> (3, size, size) pixels in [0, 1]."""
    size = preprocessing.input_size
    transform: Callable[[Image], Tensor] = create_transform(
        input_size=(3, size, size),
        is_training=False,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        interpolation=preprocessing.interpolation,
        crop_pct=preprocessing.crop,
        crop_mode=preprocessing.crop_mode,
    )
    return transform


class SmoothHardsigmoid(nn.Module):
    """relu6(x + 3) / 6: hardsigmoid in a form whose gradient can be differentiated again."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return F.relu6(x + 3) / 6


class SmoothHardswish(nn.Module):
    """x relu6(x + 3) / 6: hardswish in a form whose gradient can be differentiated again."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x * F.relu6(x + 3) / 6


def _check_twice_differentiable(network: nn.Module, architecture: str, size: int) -> None:
    """Check that a network can be differentiated twice; networks of timm need no check.

    Raises:
        InputError: some layer has no second derivative.
    """
    training = network.training
    image = torch.full((1, 3, size, size), 0.5, requires_grad=True)
    try:
        (gradient,) = torch.autograd.grad(network.eval()(image * 1.0).sum(), image, create_graph=True)
        torch.autograd.grad(gradient.square().sum(), list(network.parameters()), allow_unused=True)
    except RuntimeError as error:
        reason = quoted(error)
        raise InputError(
            f"model {architecture!r} cannot be differentiated twice, which this recipe requires: {reason}: choose a "
            "recipe without a map term, or write that layer without its fused kernel"
        ) from None
    network.train(training)


def make_twice_differentiable(network: nn.Module) -> None:
    """Replace, in place, what PyTorch cannot differentiate twice: hard activations and fused attention kernels."""
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]
        for name, child in module.named_children():
            kind = type(child).__name__.lower()
            if kind.startswith("hardsigmoid"):
                setattr(module, name, SmoothHardsigmoid())
            elif kind.startswith("hardswish"):
                setattr(module, name, SmoothHardswish())
