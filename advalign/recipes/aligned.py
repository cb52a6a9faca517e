"""Alignment training: cross-entropy plus a term that pulls saliency onto object masks (Kannappan 2025, section 3.4).

    advalign train aligned --model resnet18_cifar    # a network that ends in a 1x1 map needs less stride

Published: accuracy .921 and .887, IoU .423 and .387 (Kannappan 2025, Table 4), with masks from a model's own saliency.
The controls are settings: `masks: shuffled` and `masks: centre`, which say nothing of where the image's object is.
"""

from advalign.recipes.base import Recipe
from advalign.recipes.terms.saliency import Saliency


class Aligned(Recipe):
    """L = CE + beta * saliency term."""

    class Settings(Saliency.Settings):
        """Weight of the saliency term, and what it is computed from."""

    terms = (Saliency,)

    def published_name(self, architecture: str) -> str:
        """resnet18 -> resnet18.aligned; the controls resnet18.aligned.shuffled and resnet18.aligned.centre."""
        return f"{architecture}.{self.settings.ending()}"
