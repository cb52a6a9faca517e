"""Base of recipes: input policy, loss terms, settings, and the names, group and baseline of their models."""

from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.names import baseline_name
from advalign.recipes._position import Position as Position
from advalign.recipes.terms.base import Term
from advalign.strict_settings import Strict

STANDARD_GROUP = "standard"
"""Group of a recipe whose models are in their architecture's group (cnn, vit or hybrid in registry/zoo.yaml)."""


class Inputs(ABC):
    """Base of input policies: they make the images that the loss is computed on.

    Args:
        settings: of the recipe, whose `Settings` derive from the policy's.
    """

    class Settings(Strict):
        """The policy's own settings."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @property
    def passes(self) -> float:
        """Cost that the policy adds to a step, in forward passes."""
        return 0.0

    @abstractmethod
    def __call__(self, classifier: nn.Module, batch: Batch, position: Position) -> Tensor:
        """Make the images.

        Args:
            classifier: pixels in [0, 1] -> logits, in training mode before and after.
            batch: images, labels, human maps; not changed.
            position: for schedules.

        Returns:
            (N, 3, H, W) without a gradient, in [0, 1] unless the policy says otherwise.
        """


class Clean(Inputs):
    """The images as they are."""

    def __call__(self, classifier: nn.Module, batch: Batch, position: Position) -> Tensor:
        """Return the batch's images."""
        return batch.images


class Recipe(ABC):
    """Cross-entropy at the input policy's images, plus loss terms. A recipe names both, its settings, and its models.

    Args:
        settings: of the recipe: those of its input policy and of its terms in one mapping.
        label_smoothing: shared by twins.
    """

    class Settings(Strict):
        """The recipe's own settings."""

    inputs: ClassVar[type[Inputs]] = Clean
    terms: ClassVar[tuple[type[Term], ...]] = ()
    group: ClassVar[str]  # of its models: STANDARD_GROUP, "harmonized" or "robust"; by default the recipe's own name
    twice_differentiable: ClassVar[bool] = False  # whether a term differentiates an input gradient
    needs_maps: ClassVar[bool] = False  # whether a term needs images with human maps
    needs_responses: ClassVar[bool] = False  # whether a term needs images with brain responses
    watched: ClassVar[bool] = False  # whether a term reads what layers compute

    def __init_subclass__(cls) -> None:
        """Give a recipe without a group one of its own: no recipe inherits the standard group."""
        super().__init_subclass__()
        if "group" not in vars(cls):
            cls.group = _entry(cls).replace("_", "-")
        cls.twice_differentiable = any(term.twice_differentiable for term in cls.terms)
        cls.needs_maps = any(term.needs_maps for term in cls.terms)
        cls.needs_responses = any(term.needs_responses for term in cls.terms)
        cls.watched = any(term.watching is not Term.watching for term in cls.terms)

    def __init__(self, settings: Strict, label_smoothing: float = 0.0) -> None:
        self.settings: Any = settings
        self.label_smoothing = label_smoothing
        self._inputs = self.inputs(settings)
        self._terms = {_entry(term): term(settings) for term in self.terms}

    @abstractmethod
    def published_name(self, architecture: str) -> str:
        """The registered model's name, in the form of published names."""

    @classmethod
    def baseline(cls, architecture: str) -> str | None:
        """Published name of the baseline that a model is compared with; None where there is none."""
        return baseline_name(architecture)

    @property
    def cross_entropy_weight(self) -> float:
        """Factor of the cross-entropy."""
        return 1.0

    @property
    def whole_batch(self) -> bool:
        """Whether a term compares images of the batch with each other."""
        return any(term.whole_batch for term in self._terms.values())

    def guided_by(self, responses: Tensor, labels: Tensor) -> None:
        """Tell the terms what is known of the training images with a response: see `Term.guided_by`."""
        for term in self._terms.values():
            term.guided_by(responses, labels)

    def learned(self, classifier: nn.Module, images: Tensor, seed: int) -> nn.ModuleDict:
        """The terms' own parameters, by the terms' names: see `Term.learned`. The training loop asks once."""
        found = {name: term.learned(classifier, images, seed) for name, term in self._terms.items()}
        return nn.ModuleDict({name: module for name, module in found.items() if module is not None})

    @property
    def passes(self) -> float:
        """Least cost of a step in forward passes; a gradient of images and one of weights cost one pass each."""
        return 3.0 + sum(term.passes for term in self._terms.values()) + self._inputs.passes

    def __call__(self, classifier: nn.Module, batch: Batch, position: Position) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            classifier: pixels in [0, 1] -> logits, in training mode.
            batch: images, labels, human maps.
            position: for schedules.

        Returns:
            "loss" (scalar, differentiable), "logits" (N, classes) of the images that the loss is computed on, and
            scalar parts to log: in a recipe with terms "cross_entropy", and of each term in this step NAME_term and
            what it notes beside it.
        """
        entering = {name: term for name, term in self._terms.items() if term.enters(position)}
        watched = any(term.twice_differentiable for term in entering.values())
        images = self._inputs(classifier, batch, position).detach().requires_grad_(watched)
        batch = replace(batch, images=images)
        with ExitStack() as watching:
            for term in entering.values():
                watching.enter_context(term.watching(classifier))
            logits = classifier(images)
        loss = F.cross_entropy(logits, batch.target, label_smoothing=self.label_smoothing)
        result = {"loss": self.cross_entropy_weight * loss, "logits": logits}
        if self._terms:
            result["cross_entropy"] = loss.detach()
        for name, term in entering.items():
            value = term(classifier, logits, batch)
            result["loss"] = result["loss"] + term.weight * value
            result[f"{name}_term"] = value.detach()
            result |= {f"{name}_{key}": noted for key, noted in term.noted(batch).items()}
        return result


def _entry(entry: type) -> str:
    """Name of a catalog entry's file."""
    return entry.__module__.rpartition(".")[2]
