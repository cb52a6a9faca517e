"""Guidance by the geometry of classes in the brain: how close a class's responses are, and where they spread.

    advalign train manifold-guided --model resnet18 --set responses=nsd-subject1 --set roi=V4

Shao et al., ICLR 2026 submission, in our own form: see `terms/manifold.py`. We know of no published weights; a0 .1, a1
and a2 .45 are ours. `released: true` has the released code's sign, which pushes features out of the neural subspace.
Batches need several images per class: with few, raise train.batch_size.
"""

from pydantic import model_validator

from advalign.recipes._guided import GuidedSettings, guided_name
from advalign.recipes.base import Recipe
from advalign.recipes.terms.manifold import Manifold


class ManifoldGuided(Recipe):
    """L = a0 CE + manifold term, divided by a0 unless as released."""

    class Settings(Manifold.Settings, GuidedSettings):
        """The manifold term's settings, and the authors' form: `released` is normalise_ce: false, push_out: true."""

        @model_validator(mode="after")
        def _control_says_something(self) -> "ManifoldGuided.Settings":
            if self.control == "shuffled-within-class":
                raise ValueError(
                    "control shuffled-within-class leaves the geometry of classes as it is: give shuffled or class-code"
                )
            return self

    terms = (Manifold,)

    @property
    def cross_entropy_weight(self) -> float:
        """1, or a0."""
        return 1.0 if self.settings.normalise_ce else float(self.settings.a0)

    def published_name(self, architecture: str) -> str:
        """resnet18 -> resnet18.manifold.guided.nsd.subject1.v4."""
        return f"{architecture}.{guided_name('manifold.guided', self.settings)}"
