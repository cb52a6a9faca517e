"""The cost of a training before it starts: arithmetic that is counted, not time that is guessed."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from advalign.data.classes import read_classes
from advalign.data.training_images import training_images
from advalign.errors import DataError
from advalign.files import Project
from advalign.models.zoo import check_input, create_classifier
from advalign.names import plain_architecture
from advalign.recipes.base import Recipe
from advalign.settings import Settings, Training, TrainSettings
from advalign.training.plan import resolve, settled

IMAGENET_IMAGES, IMAGENET_CLASSES = 1_281_167, 1000  # of the ILSVRC 2012 training set


def estimate(project: Project, settings: Settings, training: Training) -> dict[str, Any]:
    """The training that the settings describe, and its arithmetic.

    Returns:
        name, model, recipe, images, steps, gflop_per_image (one forward pass), passes (per image and step, in forward
        passes: the recipe's least), pflop (of the whole training), and the settings. If ImageNet is not imported, its
        published size is assumed.

    Raises:
        InputError: unknown recipe, key or architecture.
    """
    training = settled(training)
    recipe, train = resolve(settings, training)
    images, classes = _size(project, train)
    forward = forward_flops(training, train, classes)
    steps = train.epochs * (images // train.batch_size)
    return {
        "name": recipe.published_name(plain_architecture(training.model)),
        "model": training.model,
        "recipe": training.recipe,
        "images": images,
        "steps": steps,
        "gflop_per_image": forward / 1e9,
        "passes": recipe.passes,
        "pflop": training_flops(forward, recipe, train, images) / 1e15,
        "settings": {"recipe": recipe.settings.model_dump(), "train": train.model_dump()},
    }


def training_flops(forward: float, recipe: Recipe, train: TrainSettings, images: int) -> float:
    """Floating-point operations of a training, from those of a forward pass of one image."""
    return forward * recipe.passes * train.epochs * (images // train.batch_size) * train.batch_size


def forward_flops(training: Training, train: TrainSettings, classes: int) -> float:
    """Floating-point operations of a forward pass of one image, counted on a network without storage."""
    check_input(training.model, classes, train.size, training.arguments)
    with torch.device("meta"):
        classifier = create_classifier(training.model, classes, train.size, seed=0, arguments=training.arguments).eval()
        image = torch.zeros(1, 3, train.size, train.size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        classifier(image)
    return float(counter.get_total_flops())


def _size(project: Project, train: TrainSettings) -> tuple[int, int]:
    try:
        classes = read_classes(project.data / "classes.yaml")
        return len(training_images(project, classes, train)), len(classes)
    except DataError:
        if train.images != "imagenet":
            raise
        return IMAGENET_IMAGES, IMAGENET_CLASSES
