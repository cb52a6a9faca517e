"""The attacked models: the sample's trained ones, others trained for this, real ones where available."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from advalign.data.centre_crop import centre_crop
from advalign.data.sets.stimuli import load_stimuli
from advalign.errors import InputError
from advalign.files import Project
from advalign.models.checkpoints import load_checkpoint
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.superclasses import GroupedClassifier
from advalign.models.zoo import create_network
from advalign.settings import Training, load_settings
from advalign.tensors.heatmaps import min_max_scale
from advalign.training.plan import plan
from advalign.training.train import train
from benchmarks import _cifar

SAMPLE = ("test_resnet.baseline", "test_resnet_l2_eps1", "test_efficientnet.harmonized")
TRANSFORMER = Training(model="test_vit", recipe="baseline", arguments={"patch_size": 8})
SCHEDULE = {"learning_rate": 2e-3, "epochs": 48}  # the sample's own is too short for a transformer
REAL: dict[str, tuple[str, dict[str, Any]]] = {
    "mobilenetv2_100": ("mobilenetv2_100_same", {"pad_type": "same"}),
    "tf_efficientnet_lite0": ("tf_efficientnet_lite0", {}),
}
PANEL = ("resnet20", "resnet4b")  # of CIFAR-10, in the panels of minimum l2 norms
LINF = ("kw8", "cnn_a_mix", "resnet4b", "resnet20")
ANIMATE = 398  # ImageNet's first classes are animals


@dataclass(frozen=True)
class Victim:
    """A model with images that it gets right."""

    name: str
    classifier: Classifier
    groups: Tensor
    images: Tensor
    labels: Tensor

    @property
    def grouped(self) -> GroupedClassifier:
        """The decision as other libraries want it: a module with two outputs."""
        return GroupedClassifier(self.classifier, self.groups.tolist()).eval()

    def first(self, count: int) -> "Victim":
        """The same with fewer images."""
        return Victim(self.name, self.classifier, self.groups, self.images[:count], self.labels[:count])


def sample_victims(project: Project, count: int) -> list[Victim]:
    """The sample's trained models and the transformer, each on its right ones of the first `count` stimuli."""
    stimuli = load_stimuli(project)
    folders = [project.checkpoints / name for name in SAMPLE]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder.name} is not trained yet: run `make repro` first")
    victims = []
    for folder in (*folders, _trained(project, TRANSFORMER, SCHEDULE)):
        classifier, card = load_checkpoint(folder)
        groups = torch.tensor(card.group_of_class)
        victims.append(_right_ones(card.name, classifier, groups, stimuli.images[:count], stimuli.labels[:count]))
    return victims


def real_victim(project: Project, name: str = "mobilenetv2_100") -> Victim | None:
    """An ImageNet network of REAL and 240 real images, where shared/reference/real lies beside the project."""
    folder = project.root.parent / "shared/reference/real"
    if not folder.is_dir():
        return None
    file, arguments = REAL[name]
    network = create_network(name, 1000, 224, arguments)
    network.load_state_dict(load_file(folder / f"{file}.safetensors"))
    half = (0.5, 0.5, 0.5)
    classifier = Classifier(network, Preprocessing(input_size=224, mean=half, std=half)).eval()
    files = sorted((folder / "images").iterdir())
    pixels = [centre_crop(np.asarray(Image.open(file).convert("RGB")), 224, 0.875) for file in files]
    images = min_max_scale(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float())
    classes = torch.tensor([int(file.name.split("_")[0]) for file in files])
    groups = (torch.arange(1000) < ANIMATE).long()
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0))  # the files are sorted by class
    return _right_ones(f"{name} (real)", classifier, groups, images[order], groups[classes][order])


def cifar_victims(project: Project, names: Sequence[str] = PANEL) -> list[Victim]:
    """CIFAR-10 networks, every class a decision, where shared/reference/cifar lies beside the project; else none."""
    folder = project.root.parent / "shared/reference/cifar"
    if not folder.is_dir():
        return []
    images, labels = _cifar.first_test_images(folder)
    groups = torch.arange(_cifar.CLASSES)
    return [
        _right_ones(f"{name} (real, CIFAR-10)", classifier, groups, images, labels)
        for name, classifier in _cifar.networks(folder).items()
        if name in names
    ]


def trained_victim(project: Project, training: Training, schedule: dict[str, float], count: int) -> Victim:
    """A network trained on the sample for this, on its right ones of the first `count` stimuli."""
    stimuli = load_stimuli(project)
    classifier, card = load_checkpoint(_trained(project, training, schedule))
    groups = torch.tensor(card.group_of_class)
    return _right_ones(card.name, classifier, groups, stimuli.images[:count], stimuli.labels[:count])


def _trained(project: Project, training: Training, schedule: dict[str, float]) -> Path:
    settings = load_settings(project.root)
    settings = settings.model_copy(update={"train": settings.train.model_copy(update=schedule)})
    folder = project.root / f"outputs/benchmarks/models/{training.model}"
    threads = torch.get_num_threads()
    train(project, plan(project, settings, training), folder, list, device="cpu")
    torch.set_num_threads(threads)
    return folder


def _right_ones(name: str, classifier: Classifier, groups: Tensor, images: Tensor, labels: Tensor) -> Victim:
    classifier.requires_grad_(False).to(memory_format=torch.channels_last)
    with torch.no_grad():
        found = torch.cat([groups[classifier(part).argmax(1)] for part in torch.split(images, 32)])
    right = found == labels
    return Victim(name, classifier, groups, images[right], labels[right])


@dataclass
class Passes:
    """Images that a model was asked about, and how many of them with an input gradient."""

    forwards: int = 0
    with_gradient: int = 0


class Metered(nn.Module):
    """A model that counts what it is asked, whoever asks; copies of it share the count."""

    def __init__(self, model: nn.Module, passes: Passes) -> None:
        super().__init__()
        self.model, self.passes = model, passes

    def forward(self, images: Tensor) -> Tensor:
        """Pass on."""
        self.passes.forwards += len(images)
        self.passes.with_gradient += len(images) * (torch.is_grad_enabled() and images.requires_grad)
        found: Tensor = self.model(images)
        return found

    def __deepcopy__(self, memo: dict[int, object]) -> "Metered":
        return Metered(copy.deepcopy(self.model, memo), self.passes)
