"""What every loss term shares: settings, a weight, the steps that it enters, and a batch turned into a number."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.recipes._position import Position
from advalign.settings import Strict


class Term(ABC):
    """A summand of the loss beside the cross-entropy.

    Args:
        settings: of the recipe that holds the term, whose `Settings` derive from the term's: their keys lie side by
            side, so no two terms may share one.
    """

    class Settings(Strict):
        """The term's own settings."""

    twice_differentiable: ClassVar[bool] = False  # whether it holds an input gradient that is differentiated
    needs_maps: ClassVar[bool] = False  # whether it does nothing for images without human maps

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @property
    @abstractmethod
    def weight(self) -> float:
        """What the term is multiplied by, at least 0; with 0 it is not computed."""

    @property
    def passes(self) -> float:
        """What the term adds to a step's arithmetic, in forward passes, on the average over steps."""
        return 0.0

    def enters(self, position: Position) -> bool:
        """Whether the term is part of the loss of a step."""
        return self.weight > 0

    @abstractmethod
    def __call__(self, classifier: nn.Module, logits: Tensor, batch: Batch) -> Tensor:
        """Compute the term, unweighted.

        Args:
            classifier: pixels in [0, 1] -> logits, in training mode; it has seen the batch once, and batch norms
                must not see it again.
            logits: (N, classes), of the batch.
            batch: what the loss is taken at; its images require a gradient where the term is `twice_differentiable`.

        Returns:
            A differentiable scalar: a mean over the images, so that parts of a batch add up to it.
        """
