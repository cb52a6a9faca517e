"""The removal term: a decision must stay when everything off the object is removed.

A map can lie on the object while the decision rests on the background: a position of the last feature map sees more
than its own cell, and the saliency term says nothing of that. So the surroundings are removed (explaining by removing,
Covert et al. 2021), and the two decisions are compared. docs/saliency.md has what it does, and what was tried instead.
"""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel

from advalign.data.batches import Batch
from advalign.recipes.terms.base import Term
from advalign.strict_settings import Strict


class Removal(Term):
    """Divergence of the decision about the object alone from the decision about the image."""

    needs_maps = True

    class Settings(Strict):
        """Weight of the term."""

        removal: float = Field(1.0, ge=0)

    @property
    def weight(self) -> float:
        """Its factor in the loss; no paper names one."""
        return float(self.settings.removal)

    @property
    def passes(self) -> float:
        """Cost of a second pass and its gradients."""
        return 3.0 if self.settings.removal else 0.0

    def __call__(self, classifier: nn.Module, logits: Tensor, batch: Batch) -> Tensor:
        """See `divergence`. Batch norms normalise the second pass by its own statistics and keep none of them."""
        bare = classifier.module if isinstance(classifier, DistributedDataParallel) else classifier
        removed = without_surroundings(batch.images.detach(), batch.heatmaps)
        buffers = {name: buffer.clone() for name, buffer in bare.named_buffers()}  # what the pass would change
        return divergence(logits, functional_call(bare, buffers, (removed,)), batch.has_heatmap)


def without_surroundings(images: Tensor, masks: Tensor) -> Tensor:
    """Images in whose surroundings every pixel has the image's mean colour.

    Args:
        images: (N, 3, H, W).
        masks: (N, H, W) in [0, 1]: the share of a pixel that stays.
    """
    kept = masks[:, None]
    return kept * images + (1 - kept) * images.mean((2, 3), keepdim=True)


def divergence(logits: Tensor, removed: Tensor, has_mask: Tensor) -> Tensor:
    """Mean over the images of t_b KL(p || q), p the decision about the image and q that without surroundings, in nats.

    Args:
        logits, removed: (N, classes), of the images and of those without surroundings; both have a gradient.
        has_mask: (N,) bool, t_b: images without a mask add zero but stay in the mean.
    """
    apart = F.kl_div(removed.log_softmax(1), logits.log_softmax(1), reduction="none", log_target=True).sum(1)
    return (has_mask.to(apart) * apart).mean()
