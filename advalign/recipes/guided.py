"""Neural guidance: cross-entropy plus the error of a linear read-out of brain responses (Shao et al., ICLR 2026).

    advalign train guided --model resnet18 --set responses=nsd-subject1 --set roi=V4    # as long as the baseline

Published: fMRI of one person, alpha .9; the higher the area, the more robust the model. The unguided control there has
cross-entropy of weight 1 and the guided models .1, which under SGD is a tenfold difference in learning rate: here the
cross-entropy has weight 1. `released: true` is the paper's loss. The rest of its setting is of `train`: optimiser
momentum, learning_rate .1, weight_decay 1e-4, batch_size 256, epochs 60, schedule step, decay_epochs 20, clip_norm
null. The controls are settings: `control: class-code`, `shuffled`, `shuffled-within-class`.
"""

from advalign.recipes._guided import GuidedSettings, guided_name
from advalign.recipes.base import Recipe
from advalign.recipes.terms.neural import NeuralTerm


class Guided(Recipe):
    """L = CE + a / (1 - a) * neural term; as released (1 - a) CE + a * neural term."""

    class Settings(NeuralTerm.Settings, GuidedSettings):
        """The neural term's settings, and the authors' form: `released` is normalise_ce: false."""

    terms = (NeuralTerm,)

    @property
    def cross_entropy_weight(self) -> float:
        """1, or 1 - alpha."""
        return 1.0 if self.settings.normalise_ce else 1 - float(self.settings.alpha)

    def published_name(self, architecture: str) -> str:
        """resnet18 -> resnet18.guided.nsd.subject1.v4; controls end in .class.code, .shuffled."""
        kind = "guided.cka" if self.settings.loss == "cka" else "guided"
        return f"{architecture}.{guided_name(kind, self.settings)}"
