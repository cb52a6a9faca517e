"""Smallest perturbations of a network that gets pixels as they are: without its mean and std (Linsley et al. 2023).

A classifier normalises pixels with the mean and std that the network was trained with. The 2023 results were made
without: networks saw pixels in [0, 1], and many were wrong on most images. What is left out is part of the question, so
it is in this probe; the model and its card stay as they are.
"""

from dataclasses import replace

from advalign.data.sets.base import Items
from advalign.models.classifier import Classifier
from advalign.probes.base import Conditions, Measured, Model
from advalign.probes.minimum_norm import MinimumNormProbe


class UnnormalisedMinimumNorm(MinimumNormProbe):
    """The smallest perturbation of every item that the network gets right without its mean and std."""

    image_set = "stimuli-classes"

    def measure(self, model: Model, items: Items, conditions: Conditions) -> Measured:
        """Rows: those of `minimum-norm`, of the network without its mean and std."""
        return super().measure(replace(model, classifier=unnormalised(model.classifier)), items, conditions)


def unnormalised(classifier: Classifier) -> Classifier:
    """The same network, resizing included, with mean 0 and std 1; in evaluation mode."""
    preprocessing = classifier.preprocessing.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3})
    return Classifier(classifier.network, preprocessing).eval().to(classifier.mean.device)
