"""Base of loss terms: settings, a weight, the steps that include the term, and its value on a batch."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.recipes._position import Position
from advalign.strict_settings import Strict


class Term(ABC):
    """A summand of the loss, added to the cross-entropy.

    Args:
        settings: of the recipe with the term; its `Settings` derive from those of all its terms, so no two terms
            may share a key.
    """

    class Settings(Strict):
        """The term's own settings."""

    twice_differentiable: ClassVar[bool] = False  # whether the term differentiates an input gradient
    needs_maps: ClassVar[bool] = False  # whether the term ignores images without human maps
    needs_responses: ClassVar[bool] = False  # whether the term ignores images without brain responses

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @property
    @abstractmethod
    def weight(self) -> float:
        """Factor of the term, at least 0; with 0 the term is not computed."""

    @property
    def passes(self) -> float:
        """Cost that the term adds to a step, in forward passes, averaged over steps."""
        return 0.0

    @property
    def whole_batch(self) -> bool:
        """Whether the term compares images of the batch with each other, so that its parts do not add up to it."""
        return False

    def guided_by(self, responses: Tensor, labels: Tensor) -> None:  # noqa: B027  most terms need nothing
        """Take what is known of all training images with a response, before the training starts.

        Args:
            responses: (n, D) float32, as in batches.
            labels: (n,) int64.
        """

    def learned(self, classifier: nn.Module, images: Tensor, seed: int) -> nn.Module | None:
        """Parameters of the term, which are trained with the network and are no part of the checkpoint.

        Args:
            classifier: pixels in [0, 1] -> logits; not changed.
            images: (N, 3, H, W), such as will come.
            seed: of the first weights.
        """
        return None

    def enters(self, position: Position) -> bool:
        """Whether the term is part of the loss of a step."""
        return self.weight > 0

    def watching(self, classifier: nn.Module) -> AbstractContextManager[object]:
        """Context of the batch's pass, for a term that reads what layers compute in it; nothing by default."""
        return nullcontext()

    def noted(self, batch: Batch) -> dict[str, Tensor]:
        """Further scalars of a batch to log, without gradients: means over the images, as the term; none by default."""
        return {}

    @abstractmethod
    def __call__(self, classifier: nn.Module, logits: Tensor, batch: Batch) -> Tensor:
        """Compute the term, unweighted.

        Args:
            classifier: pixels in [0, 1] -> logits, in training mode; it has already processed the batch, so batch
                norms must not update again.
            logits: (N, classes), of the batch.
            batch: what the loss is computed on; its images require a gradient where the term is `twice_differentiable`.

        Returns:
            A differentiable scalar: a mean over the images, so that parts of a batch add up to it; of a term of the
            whole batch (`whole_batch`) anything else that processes compute alike.
        """
