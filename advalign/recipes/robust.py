"""Adversarial training (Madry et al. 2018): minimise the loss at the worst point of a ball around each image.

    advalign train robust --model test_resnet --eps 1   # sample: PT several times the baseline's

Published: resnet18, resnet50 and wide_resnet50_2 at six l2 and five linf radii (Feng et al. 2025, Table 2).
"""

from advalign.recipes._pgd import Adversarial
from advalign.recipes.base import Recipe


class Robust(Recipe):
    """Cross-entropy at PGD's last iterate."""

    class Settings(Adversarial.Settings):
        """The threat model."""

    inputs = Adversarial
    group = "robust"

    def published_name(self, architecture: str) -> str:
        """resnet18 -> resnet18_l2_eps0.25."""
        return f"{architecture}_{self.settings.suffix()}"
