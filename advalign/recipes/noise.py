"""Cross-entropy under Gaussian noise: the base of a smoothed model (Cohen et al. 2019, section 3.3).

    advalign train noise --model resnet18_cifar --set sigma=0.25   # as long as the baseline

The probe `smoothing` lets a model vote over images with such noise. A model that never saw noise gives other decisions
there, so its certificates are valid and small. Train and certify with the same sigma.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.recipes.base import Inputs, Position, Recipe
from advalign.strict_settings import Strict


class GaussianNoise(Inputs):
    """The images with independent noise on every pixel, drawn anew in every step.

    The training loop seeds the draw with the training's seed, the step, and the part of the batch, so a resumed
    training draws the same. Noisy pixels are not clipped to [0, 1], as in the probe `smoothing`.
    """

    class Settings(Strict):
        """The noise."""

        sigma: float = Field(0.25, gt=0, description="standard deviation, pixels in [0, 1]")

    def __call__(self, classifier: nn.Module, batch: Batch, position: Position) -> Tensor:
        """Draw the noise; values outside [0, 1] stay."""
        images = batch.images
        noise = torch.randn(images.shape, dtype=images.dtype, device=images.device)  # whatever the memory layout
        sigma: float = self.settings.sigma
        return images + sigma * noise


class NoiseRecipe(Recipe):
    """Cross-entropy of noisy images."""

    class Settings(GaussianNoise.Settings):
        """The noise."""

    inputs = GaussianNoise

    def published_name(self, architecture: str) -> str:
        """resnet18_cifar -> resnet18_cifar_noise0.25."""
        return f"{architecture}_noise{self.settings.sigma:g}"
