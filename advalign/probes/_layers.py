"""Features of a model's layer for some items, with the checks that probes share."""

import torch
from torch import Tensor

from advalign.data.sets.base import Items
from advalign.errors import DataError
from advalign.models.layer_vectors import LayerVectors
from advalign.models.zoo import evaluation_transform
from advalign.probes._sanity import NOT_FINITE
from advalign.probes.base import Conditions, Model

IMAGES_AT_ONCE = 64  # images in one pass


@torch.no_grad()
def layer_features(
    model: Model, items: Items, conditions: Conditions, layer: str | None, dimensions: int, seed: int
) -> Tensor:
    """Features of all items.

    Args:
        model, items, conditions: as a probe gets them.
        layer, dimensions, seed: as `LayerVectors`.

    Returns:
        (N, F) float32 on the CPU.

    Raises:
        DataError: logits or features are not finite.
        InapplicableError: the model has no such layer, or it gives no features of images.
    """
    pixels = items.pixels(evaluation_transform(model.classifier.preprocessing))
    found = []
    with LayerVectors(model.classifier, layer, dimensions, seed) as watched:
        for some in torch.split(pixels, conditions.batch_size or IMAGES_AT_ONCE):
            logits = model.classifier(some.to(model.device))
            if not (logits.isfinite().all() and watched.values.isfinite().all()):
                raise DataError(f"{model.name}: {NOT_FINITE}")
            found.append(watched.values)
    return torch.cat(found)
