"""What a model looks at while it learns: the saliency of a few images next to their human maps."""

from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from advalign.data.batches import Share, TrainingData
from advalign.tensors.heatmaps import min_max_scale
from advalign.tensors.saliency import saliency

COUNT = 8


@dataclass(frozen=True)
class Pictures:
    """A few images outside the training set.

    Attributes:
        images: (K, 3, H, W) float32 in [0, 1].
        heatmaps: (K, H, W) float32 human maps in [0, 1].
        saliency: (K, H, W) float32, rectified, as the harmonizer compares it.
        labels: K class indices.
    """

    images: NDArray[np.float32]
    heatmaps: NDArray[np.float32]
    saliency: NDArray[np.float32]
    labels: list[int]


def take_pictures(model: nn.Module, data: TrainingData, device: torch.device) -> Pictures:
    """The saliency of one image of each of the first classes, with the model in evaluation mode."""
    training = model.training
    model.eval()
    batch = next(iter(data.all(Share(device=device))))
    first: dict[int, int] = {}
    for position, label in enumerate(batch.labels.tolist()):
        first.setdefault(label, position)
    chosen = list(islice(first.values(), COUNT))
    images = batch.images[chosen].requires_grad_(True)
    found = saliency(model(images), batch.labels[chosen], images, differentiable=False)
    model.train(training)
    return Pictures(
        images=images.detach().cpu().numpy(),
        heatmaps=min_max_scale(batch.heatmaps[chosen]).cpu().numpy(),
        saliency=found.relu().cpu().numpy(),
        labels=batch.labels[chosen].tolist(),
    )
