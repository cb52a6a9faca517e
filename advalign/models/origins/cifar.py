"""Networks for images of 32 pixels (Kannappan 2025, 3.1.2): architectures of timm with another stem or patches."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from advalign.models.origins.base import Origin
from advalign.models.origins.timm import Timm


@dataclass(frozen=True)
class Network:
    """How an architecture of timm becomes one for 32 pixels.

    Attributes:
        base: timm's name.
        arguments: of timm's constructor.
        small_stem: replace the 7x7 convolution of stride 2 by a 3x3 one of stride 1, and leave out the max pooling.
    """

    base: str
    arguments: dict[str, Any] = field(default_factory=dict)
    small_stem: bool = False


NETWORKS = {
    "resnet18_cifar": Network("resnet18", small_stem=True),
    "vit_small_patch2_32": Network("vit_small_patch16_224", {"patch_size": 2}),
    "vit_small_patch4_32": Network("vit_small_patch16_224", {"patch_size": 4}),
    "vit_small_patch8_32": Network("vit_small_patch16_224", {"patch_size": 8}),
}


class Cifar(Origin):
    """A network of `NETWORKS`; there are no published weights."""

    tried = False
    not_arguments = Timm.not_arguments

    def check(self) -> None:
        """Nothing: `origin_of` knows the names."""

    def build(self, classes: int, input_size: int, arguments: dict[str, Any]) -> nn.Module:
        """See `Origin`."""
        told = NETWORKS[self.name]
        network = Timm(told.base).build(classes, input_size, {**told.arguments, **arguments})
        if told.small_stem:
            conv = nn.Conv2d(3, network.conv1.out_channels, 3, padding=1, bias=False)  # type: ignore[arg-type, union-attr]
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as timm's other convolutions
            network.conv1, network.maxpool = conv, nn.Identity()
        return network

    def preprocessing(self) -> dict[str, Any]:
        """Mean and standard deviation of CIFAR-10's training images, as is usual; no crop."""
        return {
            "input_size": 32,
            "mean": (0.4914, 0.4822, 0.4465),
            "std": (0.2470, 0.2435, 0.2616),
            "interpolation": "bilinear",
            "crop": 1.0,
        }
