"""The neural harmonizer's map term: the model's saliency is pulled towards human maps.

Source: Feng et al. 2025, A.3, eq. 1; where it differs from Fel et al. 2022, the latter is followed.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.recipes._position import Position
from advalign.recipes.terms.base import Term
from advalign.strict_settings import Strict
from advalign.tensors.heatmaps import standardise
from advalign.tensors.pyramid import gaussian_pyramid
from advalign.tensors.saliency import saliency

LEVELS = 5
SCALE_FLOOR = 1e-6


class Map(Term):
    """`map_term` between the gradient of the target logit and the human map."""

    twice_differentiable = True
    needs_maps = True

    class Settings(Strict):
        """Weight of the map term, and how often it is computed."""

        lambda_1: float = Field(4.0, ge=0)
        every: int = Field(2, ge=1, description="the map term enters every n-th step; it costs a double backward")

    @property
    def weight(self) -> float:
        """lambda_1 of the paper; its lambda_2 is the optimiser's weight decay."""
        return float(self.settings.lambda_1)

    @property
    def passes(self) -> float:
        """Cost of the image's gradient and of differentiating both passes again, by images and by weights."""
        return 3.0 / self.settings.every if self.settings.lambda_1 else 0.0

    def enters(self, position: Position) -> bool:
        """Every n-th step."""
        return position.step % self.settings.every == 0 and super().enters(position)

    def __call__(self, classifier: nn.Module, logits: Tensor, batch: Batch) -> Tensor:
        """See `map_term`."""
        return map_term(saliency(logits, batch.target, batch.images), batch.heatmaps, batch.has_heatmap)


def map_term(model_maps: Tensor, human_maps: Tensor, has_map: Tensor) -> Tensor:
    """Mean over pyramid levels of the mean over batch and pixels of t_b (S_l - H_l)^2.

    Both maps are standardised per map and rectified; the human one is scaled to the model one's (detached) maximum.

    Args:
        model_maps: (N, H, W), saliency.
        human_maps: (N, H, W).
        has_map: (N,) bool, t_b: images without a human map add zero but stay in the mean.
    """
    model_maps = standardise(model_maps).relu()
    human_maps = standardise(human_maps).relu()
    scale = model_maps.detach().amax((1, 2), keepdim=True) / (human_maps.amax((1, 2), keepdim=True) + SCALE_FLOOR)
    token = has_map.to(model_maps)[:, None, None]
    pairs = zip(gaussian_pyramid(model_maps, LEVELS), gaussian_pyramid(human_maps * scale, LEVELS), strict=True)
    return torch.stack([(token * (model - human).square()).mean() for model, human in pairs]).mean()
