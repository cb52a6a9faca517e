"""Classifiers of torchvision by their builders' names: torchvision:squeezenet1_1."""

from typing import Any

import torchvision
from torch import nn

from advalign.errors import unknown_name
from advalign.models.origins.base import Origin


class Torchvision(Origin):
    """A classifier of torchvision.models; nothing is downloaded."""

    not_arguments = ("weights", "progress", "num_classes", "pretrained")

    def check(self) -> None:
        """See `Origin`."""
        known = torchvision.models.list_models(module=torchvision.models)
        if self.name not in known:
            raise unknown_name("model of torchvision", self.name, known)

    def build(self, classes: int, input_size: int, arguments: dict[str, Any]) -> nn.Module:
        """See `Origin`; the input size of an architecture that has a fixed one is among its arguments (image_size)."""
        network: nn.Module = torchvision.models.get_model(self.name, weights=None, num_classes=classes, **arguments)
        return network

    def preprocessing(self) -> dict[str, Any]:
        """Preprocessing that torchvision documents for its default weights."""
        self.check()
        transform = torchvision.models.get_model_weights(self.name).DEFAULT.transforms()
        (size,), (resized,) = transform.crop_size, transform.resize_size
        return {
            "input_size": size,
            "mean": tuple(transform.mean),
            "std": tuple(transform.std),
            "interpolation": transform.interpolation.value,
            "crop": size / resized,
        }
