"""The saliency-alignment term: the model's Grad-CAM or attention rollout is pulled onto the object's mask.

Source: Kannappan 2025, eq. 12 and 13: MSE(sigmoid(S), M). As printed it cannot reach zero, since S is rectified (eq. 5)
and its sigmoid is never below one half: 0.25 (1 - p) remains, p the mask's share. So S is standardised here and keeps
its sign. The printed losses .089 and .095 are below the printed form's floor unless masks cover 62 to 64 % of an image.
"""

from contextlib import AbstractContextManager
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.models.watched import METHODS, Watched
from advalign.recipes.terms.base import Term
from advalign.strict_settings import Strict
from advalign.tensors.heatmaps import standardise
from advalign.tensors.localisation import enlarged


class Saliency(Term):
    """Mean squared difference of the squashed saliency map and the mask."""

    twice_differentiable = True
    needs_maps = True

    class Settings(Strict):
        """Weight and kind of map."""

        beta: float = Field(0.1, ge=0)
        explanation: Literal["grad-cam", "rollout"] = Field("grad-cam", description="rollout: for vision transformers")
        layer: str | None = Field(None, description="of grad-cam; default: the last feature map")
        released: bool = Field(False, description="as printed: the rectified map itself, which leaves a floor")

    @property
    def weight(self) -> float:
        """Beta of the paper; its alpha, the weight of the cross-entropy, is 1."""
        return float(self.settings.beta)

    @property
    def passes(self) -> float:
        """None worth counting: the gradient ends at the last layers, and rollout needs none."""
        return 0.0

    def watching(self, classifier: nn.Module) -> AbstractContextManager[object]:
        """See what the explained layers compute."""
        self._watched: Watched | None = METHODS[self.settings.explanation](classifier, self.settings.layer)
        return self._watched

    def __call__(self, classifier: nn.Module, logits: Tensor, batch: Batch) -> Tensor:
        """See `alignment`."""
        assert self._watched is not None, "the batch's pass was watched"
        maps = self._watched.maps(logits, batch.target, differentiable=True)
        self._watched = None  # it holds the pass
        masks = batch.heatmaps
        squashed = squash(enlarged(maps, (masks.shape[1], masks.shape[2])), released=self.settings.released)
        return alignment(squashed, masks, batch.has_heatmap)

    def noted(self, batch: Batch) -> dict[str, Tensor]:
        """`floor`: what the best map would leave."""
        return {"floor": floor(batch.heatmaps, batch.has_heatmap, released=self.settings.released)}


def squash(maps: Tensor, *, released: bool) -> Tensor:
    """Maps (N, H, W) in (0, 1): sigmoid of the standardised map; as printed, of the rectified one."""
    return torch.sigmoid(maps.relu() if released else standardise(maps))


def alignment(squashed: Tensor, masks: Tensor, has_mask: Tensor) -> Tensor:
    """Mean over batch and pixels of t_b (S - M)^2.

    Args:
        squashed: (N, H, W) in [0, 1].
        masks: (N, H, W) in [0, 1]; any values where there is none.
        has_mask: (N,) bool, t_b: images without a mask add zero but stay in the mean.
    """
    return (has_mask.to(squashed)[:, None, None] * (squashed - masks).square()).mean()


def floor(masks: Tensor, has_mask: Tensor, *, released: bool) -> Tensor:
    """What `alignment` leaves of the best map: as printed 0.25 (1 - p), p the share of a two-valued mask.

    Of the standardised form it is what the mask itself leaves as a map.

    Args:
        masks, has_mask: as `alignment`.
        released: the printed form.
    """
    best = masks.clamp(min=0.5) if released else squash(masks, released=False)
    return alignment(best, masks, has_mask).detach()
