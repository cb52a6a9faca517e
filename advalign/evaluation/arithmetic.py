"""Floating-point operations of a model's passes: what a task of fixed members would cost, on whatever machine."""

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from advalign.models.checkpoints import Card
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.zoo import create_network

_counted: dict[str, float | None] = {}


def pass_flops(classifier: Callable[[Tensor], Tensor], image: Tensor) -> float:
    """Floating-point operations of a forward pass with input gradient, as PyTorch's counter counts them.

    Args:
        classifier: its parameters require no gradient.
        image: (1, 3, H, W); on the device "meta" nothing is computed.
    """
    image = image.detach().clone().requires_grad_(True)
    with FlopCounterMode(display=False) as counter:  # cannot follow autograd.grad to a leaf, but can follow backward
        classifier(image).amax().backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops())


def card_flops(card: Card) -> float | None:
    """The same for one image of a checkpoint's model, by its card; None where its network needs more than shapes."""
    classes, side = len(card.classes), card.preprocessing.input_size
    key = json.dumps([card.architecture, card.arguments, classes, side])
    if key not in _counted:
        _counted[key] = _count(card.architecture, card.arguments, classes, side)
    return _counted[key]


def _count(architecture: str, arguments: dict[str, Any], classes: int, side: int) -> float | None:
    shape = Preprocessing(input_size=side, mean=(0.0,) * 3, std=(1.0,) * 3)
    try:
        with torch.device("meta"):
            network = create_network(architecture, classes, side, arguments)
            classifier = Classifier(network, shape).eval().requires_grad_(False)
        return pass_flops(classifier, torch.zeros(1, 3, side, side, device="meta"))
    except Exception:  # noqa: BLE001  a network of one's own may do anything; what is wrong shows when it is evaluated
        return None
