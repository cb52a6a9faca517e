"""What the terms share that are guided by brain responses: a layer's features, and a linear map of them."""

from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.data.response_targets import TargetSettings
from advalign.models.layer_features import LayerFeatures
from advalign.recipes.terms.base import Term


class NeuralSettings(TargetSettings):
    """Whose responses, and which features."""

    guided_layer: str | None = Field(
        None, description="whose output is guided; null: the penultimate features, which the last linear layer reads"
    )
    normalise_ce: bool = Field(
        True, description="divide the loss so that the cross-entropy keeps weight 1, as in every other recipe"
    )


class Neural(Term):
    """Base of terms that compare a layer's features, mapped by a linear head, with responses.

    The head is trained with the network and is no part of the checkpoint.
    """

    needs_responses = True

    class Settings(NeuralSettings):
        """Whose responses, and which features."""

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self._head: nn.Linear | None = None
        self._dimensions = 0

    @property
    def has_head(self) -> bool:
        """Whether the term maps features at all."""
        return self.weight > 0

    def guided_by(self, responses: Tensor, labels: Tensor) -> None:
        """Take the number of dimensions."""
        self._dimensions = responses.shape[1]

    def learned(self, classifier: nn.Module, images: Tensor, seed: int) -> nn.Module | None:
        """The head, for the features of the classifier; weights depend on the seed alone."""
        if not self.has_head:
            return None
        training = classifier.training
        with torch.no_grad(), self.watching(classifier):
            classifier.eval()(images)
        classifier.train(training)
        self._head = _head(self.features(), self._dimensions, seed)
        return self._head

    def watching(self, classifier: nn.Module) -> AbstractContextManager[object]:
        """See what the guided layer computes."""
        self._watched: LayerFeatures | None = LayerFeatures(classifier, self.settings.guided_layer)
        return self._watched

    def features(self) -> Tensor:
        """Features of the watched pass, (N, F), in float32 at least."""
        assert self._watched is not None, "the batch's pass was watched"
        values = self._watched.values
        self._watched = None  # it holds the pass
        return values.to(torch.promote_types(values.dtype, torch.float32))

    def mapped(self, batch: Batch) -> Tensor:
        """Features in the space of the responses, (N, D)."""
        features, responses = self.features(), responses_of(batch)[0]
        if self._head is None:  # outside of a training; the loop asks for `learned`, and trains it
            self._head = _head(features, responses.shape[1], 0)
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(features, self._head.weight, self._head.bias)


def responses_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """Responses (N, D) of a batch, and the token (N,) bool that says which images have one."""
    assert batch.responses is not None and batch.has_response is not None, "the recipe needs responses"
    return batch.responses, batch.has_response


def _head(features: Tensor, dimensions: int, seed: int) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(features.shape[1], dimensions).to(features.device, features.dtype)
