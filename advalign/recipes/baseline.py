"""Cross-entropy, nothing else.

advalign train baseline --model test_resnet      # sample: about 15 s on 2 cores, iid accuracy about 0.94
"""

import torch.nn.functional as F
from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.recipes.base import Position, Recipe


class Baseline(Recipe):
    """The twin that every other recipe is compared with."""

    def published_name(self, architecture: str) -> str:
        """resnet18 -> resnet18.baseline."""
        return f"{architecture}.baseline"

    def __call__(self, classifier: nn.Module, batch: Batch, position: Position) -> dict[str, Tensor]:
        """Cross-entropy of the batch."""
        logits = classifier(batch.images)
        return {"loss": F.cross_entropy(logits, batch.target, label_smoothing=self.label_smoothing), "logits": logits}
