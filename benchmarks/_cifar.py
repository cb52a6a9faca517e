"""Four CIFAR-10 networks and the first test images, from shared/reference/cifar where it lies beside the project."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from advalign.models.classifier import Classifier, Preprocessing

CLASSES, SIZE = 10, 32
RESNET20 = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RESNET4B = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
CNN_A = (125.3 / 255, 123 / 255, 113.9 / 255), (63 / 255, 62.1 / 255, 66.7 / 255)
KW = (0.485, 0.456, 0.406), (0.225, 0.225, 0.225)


class _PaddedBlock(nn.Module):
    """A basic block whose shortcut takes every second pixel and pads channels with zeros (He et al. 2016, option A)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.stride, self.padding = (1 if before == after else 2), (after - before) // 2
        self.conv1 = nn.Conv2d(before, after, 3, self.stride, 1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)

    def forward(self, found: Tensor) -> Tensor:
        inside = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(found)))))
        shortcut = functional.pad(found[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *[self.padding] * 2))
        return functional.relu(inside + shortcut)


class _ResNet20(nn.Module):
    """He et al. 2016, section 4.2, n = 3."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = (self._stage(*widths) for widths in ((16, 16), (16, 32), (32, 64)))
        self.linear = nn.Linear(64, CLASSES)

    @staticmethod
    def _stage(before: int, after: int) -> nn.Sequential:
        return nn.Sequential(_PaddedBlock(before, after), _PaddedBlock(after, after), _PaddedBlock(after, after))

    def forward(self, images: Tensor) -> Tensor:
        found = self.layer3(self.layer2(self.layer1(functional.relu(self.bn1(self.conv1(images))))))
        scores: Tensor = self.linear(found.mean((2, 3)))
        return scores


class _PlainBlock(nn.Module):
    """Two convolutions with bias and no batch norm; a 1x1 convolution as shortcut where the size or width changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(before, after, 3, stride, 1), nn.Conv2d(after, after, 3, 1, 1)
        changes = stride > 1 or before != after
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride)) if changes else nn.Sequential()

    def forward(self, found: Tensor) -> Tensor:
        return functional.relu(self.conv2(functional.relu(self.conv1(found))) + self.shortcut(found))


class _ResNet4b(nn.Module):
    """The adversarially trained network without batch norm of the verification competitions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 2, 1)
        self.layer1 = nn.Sequential(_PlainBlock(16, 32, 2), _PlainBlock(32, 32, 1))
        self.layer2 = nn.Sequential(_PlainBlock(32, 32, 2), _PlainBlock(32, 32, 1))
        self.linear1, self.linear2 = nn.Linear(512, 100), nn.Linear(100, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        found = self.layer2(self.layer1(functional.relu(self.conv1(images)))).flatten(1)
        scores: Tensor = self.linear2(functional.relu(self.linear1(found)))
        return scores


def _small() -> nn.Sequential:
    """Two convolutions, trained to be certified (Wong and Kolter 2018), or against attacks."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(2048, 100), nn.ReLU(), nn.Linear(100, CLASSES),
    )  # fmt: skip


def networks(folder: Path) -> dict[str, Classifier]:
    """Name -> classifier, in evaluation mode."""
    networks = {
        "resnet20": (_ResNet20(), *RESNET20),
        "resnet4b": (_ResNet4b(), *RESNET4B),
        "cnn_a_mix": (_small(), *CNN_A),
        "kw8": (_small(), *KW),
    }
    found = {}
    for name, (network, mean, std) in networks.items():
        network.load_state_dict(load_file(folder / f"{name}.safetensors"))
        found[name] = Classifier(network, Preprocessing(input_size=SIZE, mean=mean, std=std)).eval()
    return found


def first_test_images(folder: Path) -> tuple[Tensor, Tensor]:
    """(1000, 3, 32, 32) pixels in [0, 1], and (1000,) labels."""
    with np.load(folder / "first1000_test_images.npz") as stored:
        return torch.from_numpy(stored["images"]).float() / 255, torch.from_numpy(stored["labels"]).long()
