"""Architectures by way of timm: networks, their preprocessing and evaluation transforms."""

from collections.abc import Callable
from typing import Any

import timm
import torch
import torch.nn.functional as F
from PIL.Image import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn

from advalign.errors import InputError, shown, unknown_name
from advalign.models.classifier import Classifier, Preprocessing

NO_ARGUMENTS = ("checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit", "features_only", "feature_cfg",
                "feature_cls", "out_indices", "kwargs_filter", "model_cfg", "num_classes")  # fmt: skip
"""What timm takes beside the arguments of an architecture (and all that begins with "pretrained"): it reads files,
fetches from the network or returns what is no classifier."""


def create_network(
    architecture: str, classes: int, input_size: int, arguments: dict[str, Any] | None = None
) -> nn.Module:
    """Build an untrained network.

    Args:
        architecture: a timm name.
        classes: number of logits.
        input_size: side of the square input in pixels; handed to architectures that fix it (transformers).
        arguments: further keyword arguments of the architecture (patch_size, pad_type, ...).

    Raises:
        InputError: unknown name (offers the nearest), or arguments that the architecture refuses.
    """
    if not timm.is_model(architecture):
        raise unknown_name("model", architecture, timm.list_models())
    arguments = dict(arguments or {})
    try:
        sized = with_size(architecture, input_size, arguments)
        network: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=classes, **sized)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  what an architecture raises on wrong arguments is its own affair
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"model {architecture!r} cannot be built with {arguments}: {reason}") from None
    return network


def check_arguments(architecture: str, arguments: dict[str, Any]) -> None:
    """Refuse arguments that are timm's own and not the architecture's.

    Raises:
        InputError: there is one; it would read a file, use the network, or build something else than a classifier.
    """
    for name in arguments:
        if name in NO_ARGUMENTS or name.startswith("pretrained"):
            raise InputError(
                f"model {architecture!r}: {shown(name)} is no argument of the architecture, and weights come from "
                "model.safetensors or where the zoo says: take it out of the arguments"
            )


def default_preprocessing(architecture: str, input_size: int, crop: float = 1.0) -> Preprocessing:
    """What timm says the architecture wants, at the input size and crop that it is trained for."""
    config = timm.get_pretrained_cfg(architecture)
    assert config is not None, f"timm knows no configuration of {architecture}"
    return Preprocessing(
        input_size=input_size,
        mean=(config.mean[0], config.mean[1], config.mean[2]),
        std=(config.std[0], config.std[1], config.std[2]),
        interpolation=config.interpolation,
        crop=crop,
    )


def with_size(architecture: str, input_size: int, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments, with the input's size for architectures that fix it.

    Raises:
        InputError: an argument that is not the architecture's.
    """
    check_arguments(architecture, arguments)
    config = timm.get_pretrained_cfg(architecture)
    fixed = config is not None and config.fixed_input_size
    return {**({"img_size": input_size} if fixed else {}), **arguments}


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
        seed: of the weights; the global random state is left as it was.
        crop: share of the image that is kept when it is evaluated.
        twice_differentiable: replace what has no second derivative (hard activations, fused attention).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = create_network(architecture, classes, input_size, arguments)
    if twice_differentiable:
        make_twice_differentiable(network)
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


def make_twice_differentiable(network: nn.Module) -> None:
    """Swap, in place, what PyTorch cannot differentiate twice: hard activations and fused attention kernels."""
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]
        for name, child in module.named_children():
            kind = type(child).__name__.lower()
            if kind.startswith("hardsigmoid"):
                setattr(module, name, SmoothHardsigmoid())
            elif kind.startswith("hardswish"):
                setattr(module, name, SmoothHardswish())
