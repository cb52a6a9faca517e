"""Adversarial training (Madry et al. 2018): minimise the loss at the worst point of a ball around each image.

    advalign train robust --model test_resnet --eps 1   # sample: PT several times the baseline's

Published: resnet18, resnet50 and wide_resnet50_2 at six l2 and five linf radii (Feng et al. 2025, Table 2).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.recipes._pgd import BallSettings, worst_case
from advalign.recipes.base import Position, Recipe


class Robust(Recipe):
    """Cross-entropy at PGD's last iterate."""

    class Settings(BallSettings):
        """The threat model."""

    def published_name(self, architecture: str) -> str:
        """resnet18 -> resnet18_l2_eps0.25."""
        return f"{architecture}_{self.settings.suffix()}"

    @property
    def passes(self) -> float:
        """Each step of the search costs a forward and a backward pass to the image."""
        return 3.0 + 2.0 * float(self.settings.steps)

    def __call__(self, classifier: nn.Module, batch: Batch, position: Position) -> dict[str, Tensor]:
        """Cross-entropy of the adversarial images."""
        logits = classifier(worst_case(classifier, batch.images, batch.target, self.settings, position))
        return {"loss": F.cross_entropy(logits, batch.target, label_smoothing=self.label_smoothing), "logits": logits}
