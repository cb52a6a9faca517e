"""Adversarial training as RobustSight does it: each batch is clean or adversarial (Kannappan 2025, section 3.2.2).

    advalign train adversarial --eps 8/255 --constraint linf   # experiments/robustsight: about a minute on 2 cores

Published: ResNet-18 and ViT-Small on CIFAR-10, linf 8/255, PGD accuracy .452 and .387 (Kannappan 2025, Table 2). The
paper's standard training is the recipe `baseline`. Its adversarial models start from the standard ones; ours from
random weights.
"""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.recipes._pgd import Adversarial
from advalign.recipes.base import Position, Recipe
from advalign.tensors.norms import Norm


class SomeBatches(Adversarial):
    """PGD's last iterate on half of the batches, the images as they are on the others.

    Which it is depends on the training's seed and the step alone: all parts of a batch, in all processes, and a resumed
    training agree.
    """

    class Settings(Adversarial.Settings):
        """The threat model, and which batches it is for."""

        constraint: Norm = "linf"
        eps: float = Field(8 / 255, gt=0, description="radius of the ball, pixels in [0, 1]")
        steps: int = Field(10, ge=1)
        step_size: float | None = Field(None, gt=0, description="default: 2 eps / steps")
        random_start: bool = True
        mixture: Literal["coin", "alternating"] = Field(
            "coin", description="which batches are adversarial: by a fair coin each, or every second one"
        )
        stretch: ClassVar[float] = 2.0

    @property
    def passes(self) -> float:
        """Forward passes of the search, averaged over batches with and without it."""
        return super().passes / 2

    def __call__(self, classifier: nn.Module, batch: Batch, position: Position) -> Tensor:
        """The batch's images, or adversarial ones."""
        if not is_adversarial(self.settings.mixture, position):
            return batch.images
        return super().__call__(classifier, batch, position)


def is_adversarial(mixture: Literal["coin", "alternating"], position: Position) -> bool:
    """Whether a step's batch is attacked.

    >>> [is_adversarial("alternating", Position(step, 4)) for step in range(4)]
    [False, True, False, True]
    """
    if mixture == "alternating":
        return position.step % 2 == 1
    return bool(np.random.default_rng([position.seed, position.step]).random() < 0.5)


class AdversarialRecipe(Recipe):
    """Cross-entropy on clean and on adversarial batches in turn, with equal probability."""

    class Settings(SomeBatches.Settings):
        """The threat model, and which batches it is for."""

    inputs = SomeBatches
    group = "robust"

    def published_name(self, architecture: str) -> str:
        """resnet18 -> resnet18_linf_eps8_255.adversarial."""
        return f"{architecture}_{self.settings.suffix()}.adversarial"
