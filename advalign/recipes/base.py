"""What every recipe shares: settings, the published name, and a batch turned into {"loss": ..., parts}."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.settings import Strict


@dataclass(frozen=True)
class Position:
    """Where the training stands: step `step` (from 0) of `steps`."""

    step: int
    steps: int

    @property
    def progress(self) -> float:
        """Share of the training that is done, in [0, 1)."""
        return self.step / self.steps


class Recipe(ABC):
    """Base of all recipes.

    Args:
        settings: the recipe's own settings.
        label_smoothing: shared by twins.
    """

    class Settings(Strict):
        """The recipe's own settings."""

    twice_differentiable: ClassVar[bool] = False  # whether the loss holds an input gradient that is differentiated

    def __init__(self, settings: Strict, label_smoothing: float = 0.0) -> None:
        self.settings: Any = settings
        self.label_smoothing = label_smoothing

    @abstractmethod
    def published_name(self, architecture: str) -> str:
        """The registered model's name, as published models are named."""

    @property
    def passes(self) -> float:
        """The least arithmetic of a step, in forward passes; a gradient of images or of weights costs one each."""
        return 3.0

    @abstractmethod
    def __call__(self, classifier: nn.Module, batch: Batch, position: Position) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            classifier: pixels in [0, 1] -> logits, in training mode.
            batch: images, labels, human maps.
            position: for schedules.

        Returns:
            "loss" (scalar, differentiable), "logits" (N, classes) of what the loss was taken at, and scalar parts to
            log.
        """
