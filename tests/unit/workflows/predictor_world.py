"""A project in which the responses of an area are a linear function of a layer's features, and noise."""

import numpy as np
import pandas as pd
import torch
from PIL import Image

from advalign.data.classes import read_classes
from advalign.data.image_digests import image_digests
from advalign.data.response_writer import About, writing_responses
from advalign.models.checkpoints import load_checkpoint
from advalign.models.layer_vectors import LayerVectors
from advalign.models.zoo import create_classifier, evaluation_transform
from advalign.tensors.encoding import DIMENSIONS
from advalign.workflows.predictors import image_sets
from tests.conftest import save_untrained
from tests.unit.workflows.guided_world import made

NET = "test_resnet.teacher"
UNITS, CEILING = 6, 0.9


def features_of(project, images, numbers):
    """Penultimate features of some images, computed here: timm's evaluation transform, then one pass."""
    classifier, card = load_checkpoint(project.checkpoints / NET)
    transform = evaluation_transform(card.preprocessing)
    pixels = torch.stack([transform(Image.fromarray(images.read(int(number)).image)) for number in numbers])
    with torch.no_grad(), LayerVectors(classifier, None, DIMENSIONS, 0) as watched:
        classifier(pixels)
    return watched.values.double().numpy()


def linear_world(root):
    """A project whose stores `exact` and `noisy` have responses to every other training image.

    Returns:
        The project, digests and labels of its training images, and the numbers of those with responses.
    """
    project = made(root, scale=0.1)
    classes = len(read_classes(project.data / "classes.yaml"))
    classifier = create_classifier("test_resnet", classes, 32, seed=0)
    for name, buffer in classifier.named_buffers():  # batch norms whose statistics are not those of a batch
        if name.endswith("running_var"):
            buffer.fill_(3.0)
    save_untrained(project, NET, classifier)
    images, _ = image_sets(project)
    numbers = np.arange(0, len(images), 2)
    known = image_digests(images).iloc[numbers].reset_index(drop=True)
    features = features_of(project, images, numbers)
    means = (features - features.mean(0)) @ np.random.default_rng(0).normal(size=(features.shape[1], UNITS))
    means /= means.std(0)
    noise = np.random.default_rng(1).normal(size=means.shape) * np.sqrt(1 / CEILING - 1)
    table = known.assign(id=[f"i{number}" for number in numbers])
    for name, values, ceiling in (("exact", means, 1.0), ("noisy", means + noise, CEILING)):
        write(project, name, table, values, ceiling)
    return project, image_digests(images), numbers


def write(project, name, table, values, ceiling=np.nan, split="train", subjects=("A",)):
    units = pd.DataFrame({"roi": "IT", "subject": np.repeat(subjects, values.shape[1] // len(subjects))})
    path = project.data / "responses" / f"{name}.h5"
    path.parent.mkdir(exist_ok=True)
    with writing_responses(path, About("simulated", "none"), table, units.assign(noise_ceiling=ceiling)) as writer:
        writer.add_trials(np.arange(len(table)), values, split, 0)
    return path
