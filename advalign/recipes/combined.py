"""Both remedies at once: x' = PGD(x), then cross-entropy and the map term, both taken at x'.

    advalign train combined --model test_resnet --eps 0.5   # sample: harmonized AA and several times the baseline's PT

The paper's open question (Feng et al. 2025, discussion); no published value exists.
"""

from dataclasses import replace

from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.recipes._pgd import BallSettings, worst_case
from advalign.recipes.base import Position
from advalign.recipes.harmonized import Harmonized


class Combined(Harmonized):
    """The harmonizer on adversarial images."""

    class Settings(BallSettings, Harmonized.Settings):
        """The threat model and the map term's weight."""

    def published_name(self, architecture: str) -> str:
        """resnet18 -> resnet18_l2_eps0.25.combined."""
        return f"{architecture}_{self.settings.suffix()}.combined"

    @property
    def passes(self) -> float:
        """The search's on top of the harmonizer's."""
        return super().passes + 2.0 * float(self.settings.steps)

    def __call__(self, classifier: nn.Module, batch: Batch, position: Position) -> dict[str, Tensor]:
        """The harmonizer's loss at PGD's last iterate."""
        images = worst_case(classifier, batch.images, batch.target, self.settings, position)
        return self.harmonize(classifier, replace(batch, images=images), position)
