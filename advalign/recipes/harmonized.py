"""The neural harmonizer: cross-entropy plus a term that pulls the model's saliency towards human maps.

    advalign train harmonized --model test_resnet    # sample: AA well above its baseline at the same accuracy

Published: nine models, PT and AA above their baselines at the same accuracy (Feng et al. 2025, Table 1).
"""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.recipes._map_term import map_term
from advalign.recipes.base import Position, Recipe
from advalign.settings import Strict
from advalign.tensors.saliency import saliency


class Harmonized(Recipe):
    """L = CE + lambda_1 * map term; lambda_2 of the paper is the optimiser's weight decay."""

    twice_differentiable = True

    class Settings(Strict):
        """Weight of the map term, and how often it is computed."""

        lambda_1: float = Field(4.0, ge=0)
        every: int = Field(2, ge=1, description="the map term enters every n-th step; it costs a double backward")

    def published_name(self, architecture: str) -> str:
        """resnet50 -> resnet50.harmonized."""
        return f"{architecture}.harmonized"

    @property
    def passes(self) -> float:
        """With the map term: forward, gradient of the image, and both differentiated by images and weights."""
        return 3.0 + (3.0 / self.settings.every if self.settings.lambda_1 else 0.0)

    def __call__(self, classifier: nn.Module, batch: Batch, position: Position) -> dict[str, Tensor]:
        """Cross-entropy, and on every n-th step the map term."""
        return self.harmonize(classifier, batch, position)

    def harmonize(self, classifier: nn.Module, batch: Batch, position: Position) -> dict[str, Tensor]:
        """The loss at the batch's images, whatever made them."""
        with_maps = position.step % self.settings.every == 0 and self.settings.lambda_1 > 0
        images = batch.images.detach().requires_grad_(with_maps)
        logits = classifier(images)
        loss = F.cross_entropy(logits, batch.target, label_smoothing=self.label_smoothing)
        result = {"loss": loss, "logits": logits, "cross_entropy": loss.detach()}
        if with_maps:
            term = map_term(saliency(logits, batch.target, images), batch.heatmaps, batch.has_heatmap)
            result["loss"] = loss + self.settings.lambda_1 * term
            result["map_term"] = term.detach()
        return result
