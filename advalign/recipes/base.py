"""What every recipe shares: an input policy, loss terms, settings, and what its models are called and compared with."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.names import baseline_name
from advalign.recipes._position import Position as Position
from advalign.recipes.terms.base import Term
from advalign.settings import Strict

STANDARD_GROUP = "standard"
"""Group of a recipe whose models count as their architecture does: cnn, vit or hybrid, as registry/zoo.yaml says."""


class Inputs(ABC):
    """Base of input policies: which images the loss is taken at.

    Args:
        settings: of the recipe, whose `Settings` derive from the policy's.
    """

    class Settings(Strict):
        """The policy's own settings."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @property
    def passes(self) -> float:
        """What the policy adds to a step's arithmetic, in forward passes."""
        return 0.0

    @abstractmethod
    def __call__(self, classifier: nn.Module, batch: Batch, position: Position) -> Tensor:
        """Make the images.

        Args:
            classifier: pixels in [0, 1] -> logits, in training mode, which it is in afterwards too.
            batch: images, labels, human maps; stays as it is.
            position: for schedules.

        Returns:
            (N, 3, H, W) in [0, 1], without a gradient.
        """


class Clean(Inputs):
    """The images as they are."""

    def __call__(self, classifier: nn.Module, batch: Batch, position: Position) -> Tensor:
        """Nothing is done."""
        return batch.images


class Recipe(ABC):
    """Cross-entropy at the input policy's images, plus loss terms. A recipe names both, its settings, and its models.

    Args:
        settings: the recipe's own: those of its input policy and of its terms, side by side.
        label_smoothing: shared by twins.
    """

    class Settings(Strict):
        """The recipe's own settings."""

    inputs: ClassVar[type[Inputs]] = Clean
    terms: ClassVar[tuple[type[Term], ...]] = ()
    group: ClassVar[str]  # of its models: STANDARD_GROUP, "harmonized" or "robust"; by default the recipe's own name
    twice_differentiable: ClassVar[bool] = False  # whether a term holds an input gradient that is differentiated
    needs_maps: ClassVar[bool] = False  # whether a term needs images with human maps

    def __init_subclass__(cls) -> None:
        """Models of a recipe that says no group are in one of its own: nothing counts as standard by inheritance."""
        super().__init_subclass__()
        if "group" not in vars(cls):
            cls.group = _entry(cls).replace("_", "-")
        cls.twice_differentiable = any(term.twice_differentiable for term in cls.terms)
        cls.needs_maps = any(term.needs_maps for term in cls.terms)

    def __init__(self, settings: Strict, label_smoothing: float = 0.0) -> None:
        self.settings: Any = settings
        self.label_smoothing = label_smoothing
        self._inputs = self.inputs(settings)
        self._terms = {_entry(term): term(settings) for term in self.terms}

    @abstractmethod
    def published_name(self, architecture: str) -> str:
        """The registered model's name, as published models are named."""

    @classmethod
    def baseline(cls, architecture: str) -> str | None:
        """Published name of the twin that its models are compared with; None where there is nothing to compare with."""
        return baseline_name(architecture)

    @property
    def passes(self) -> float:
        """The least arithmetic of a step, in forward passes; a gradient of images or of weights costs one each."""
        return 3.0 + sum(term.passes for term in self._terms.values()) + self._inputs.passes

    def __call__(self, classifier: nn.Module, batch: Batch, position: Position) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            classifier: pixels in [0, 1] -> logits, in training mode.
            batch: images, labels, human maps.
            position: for schedules.

        Returns:
            "loss" (scalar, differentiable), "logits" (N, classes) of what the loss was taken at, and scalar parts to
            log: of a recipe with terms "cross_entropy", and NAME_term of each term that enters this step.
        """
        entering = {name: term for name, term in self._terms.items() if term.enters(position)}
        watched = any(term.twice_differentiable for term in entering.values())
        images = self._inputs(classifier, batch, position).detach().requires_grad_(watched)
        batch = replace(batch, images=images)
        logits = classifier(images)
        loss = F.cross_entropy(logits, batch.target, label_smoothing=self.label_smoothing)
        result = {"loss": loss, "logits": logits}
        if self._terms:
            result["cross_entropy"] = loss.detach()
        for name, term in entering.items():
            value = term(classifier, logits, batch)
            result["loss"] = result["loss"] + term.weight * value
            result[f"{name}_term"] = value.detach()
        return result


def _entry(entry: type) -> str:
    """Name of the file that an entry of the catalog is defined in."""
    return entry.__module__.rpartition(".")[2]
