"""The neural term: a linear read-out of a layer is pulled onto brain responses to the same images.

Source: Shao et al., ICLR 2026 submission (guidance by responses of consecutive visual areas).
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.recipes.terms._gathered import gathered, of_all
from advalign.recipes.terms._neural import Neural, NeuralSettings, responses_of
from advalign.tensors.representations import linear_cka


class NeuralTerm(Neural):
    """Distance of the read-out, or of the features, from the responses."""

    class Settings(NeuralSettings):
        """Weight and kind of the distance."""

        alpha: float = Field(0.9, ge=0, lt=1, description="weight of the term; the cross-entropy's is 1 - alpha")
        loss: Literal["mse", "cka"] = Field(
            "mse", description="of a linear read-out; or 1 - linear CKA of the features themselves, over the batch"
        )

    @property
    def weight(self) -> float:
        """Alpha; divided by 1 - alpha where the cross-entropy keeps weight 1."""
        alpha = float(self.settings.alpha)
        return alpha / (1 - alpha) if self.settings.normalise_ce else alpha

    @property
    def whole_batch(self) -> bool:
        """CKA compares images with each other."""
        return bool(self.settings.loss == "cka")

    @property
    def has_head(self) -> bool:
        """CKA needs no map: a head could do all the work, and the features stay as they are."""
        return super().has_head and self.settings.loss == "mse"

    def __call__(self, classifier: nn.Module, logits: Tensor, batch: Batch) -> Tensor:
        """See `read_out_error` and `unlikeness`."""
        if self.settings.loss == "mse":
            return read_out_error(self.mapped(batch), *responses_of(batch))
        features = gathered(self.features())
        responses, has_response = (gathered(each) for each in responses_of(batch))
        with torch.autocast(features.device.type, enabled=False):
            return of_all(unlikeness(features[has_response], responses[has_response]) + 0 * features.sum())


def read_out_error(read_out: Tensor, responses: Tensor, has_response: Tensor) -> Tensor:
    """Mean over batch and dimensions of t_b (y - r)^2.

    Args:
        read_out: (N, D), y.
        responses: (N, D), r.
        has_response: (N,) bool, t_b: images without a response add zero but stay in the mean.
    """
    return (has_response.to(read_out)[:, None] * (read_out - responses).square()).mean()


def unlikeness(features: Tensor, responses: Tensor) -> Tensor:
    """1 - linear CKA of features and responses to the same images; 0 where there is nothing to compare.

    The plain form: a batch's features are compared with always as many images, and its size biases every step alike.

    Args:
        features: (N, F).
        responses: (N, D).
    """
    if len(features) < 2 or not (_varies(features) and _varies(responses)):
        return features.new_zeros(())
    return 1 - linear_cka(features, responses, debiased=False).to(features.dtype)


def _varies(values: Tensor) -> bool:
    return bool((values - values[:1]).abs().max() > 1e-6 * values.abs().max())
