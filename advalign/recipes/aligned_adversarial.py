"""Alignment and adversarial training at once: each batch is clean or adversarial, its saliency pulled onto masks.

    advalign train aligned-adversarial --model resnet18_cifar --eps 8/255 --constraint linf

Whether alignment and robustness can be had together is RobustSight's question (Kannappan 2025); it has no such model.
"""

from advalign.recipes._aligned import AlignedSettings, OnMasks
from advalign.recipes.adversarial import SomeBatches


class AlignedAdversarial(OnMasks):
    """`aligned` on the images of `adversarial`."""

    class Settings(SomeBatches.Settings, AlignedSettings):
        """The threat model, which batches it is for, and the terms of `aligned`."""

    inputs = SomeBatches
    group = "robust"

    def published_name(self, architecture: str) -> str:
        """resnet18 -> resnet18_linf_eps8_255.aligned."""
        return f"{architecture}_{self.settings.suffix()}.{self.settings.ending()}"
