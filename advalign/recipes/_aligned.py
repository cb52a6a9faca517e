"""What the alignment recipes share: their terms, and the masks that these are computed on."""

from dataclasses import replace
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.errors import InputError
from advalign.recipes.base import Position, Recipe
from advalign.recipes.terms.removal import Removal
from advalign.recipes.terms.saliency import Saliency
from advalign.tensors.localisation import discs

Masks = Literal["own", "shuffled", "centre"]


class AlignedSettings(Saliency.Settings, Removal.Settings):
    """Both terms' settings, and whose masks they are computed on."""

    removal: float = Field(0.0, ge=0, description="weight of the removal term; 0: none, as published")
    masks: Masks = Field("own", description="controls: another image's mask, or a centred disc of the mask's area")

    def ending(self) -> str:
        """The end of a published name: aligned, aligned.shuffled, aligned.released."""
        control = "" if self.masks == "own" else f".{self.masks}"
        return f"aligned{control}{'.released' if self.released else ''}"


class OnMasks(Recipe):
    """Cross-entropy, the saliency term and the removal term."""

    class Settings(AlignedSettings):
        """Both terms' settings."""

    terms = (Saliency, Removal)

    def __call__(self, classifier: nn.Module, batch: Batch, position: Position) -> dict[str, Tensor]:
        """See `Recipe.__call__`; the batch has the masks of `controlled`."""
        return super().__call__(classifier, controlled(batch, self.settings.masks), position)

    def published_name(self, architecture: str) -> str:
        """resnet18 -> resnet18.aligned; the controls resnet18.aligned.shuffled and resnet18.aligned.centre."""
        return f"{architecture}.{self.settings.ending()}"


def controlled(batch: Batch, masks: Masks) -> Batch:
    """The batch with its own masks, with those of the image before, or with centred discs of their areas.

    Raises:
        InputError: masks of a single image are to be shuffled.
    """
    if masks == "shuffled":
        if len(batch) < 2:
            raise InputError(
                f"masks: shuffled gives each image another's mask, and a part of a batch has {len(batch)}, expected 2 "
                "or more: raise train.batch_size, or lower train.accumulate"
            )
        return replace(batch, heatmaps=batch.heatmaps.roll(1, 0), has_heatmap=batch.has_heatmap.roll(1, 0))
    if masks == "centre":
        return replace(batch, heatmaps=discs(batch.heatmaps > 0.5).to(batch.heatmaps))
    return batch
