"""Both remedies at once: x' = PGD(x), then cross-entropy and the map term, both computed at x'.

    advalign train combined --model test_resnet --eps 0.5   # sample: harmonized AA and several times the baseline's PT

The paper's open question (Feng et al. 2025, discussion); no published value exists.
"""

from advalign.recipes._pgd import Adversarial
from advalign.recipes.base import Recipe
from advalign.recipes.terms.map import Map


class Combined(Recipe):
    """The harmonizer on adversarial images."""

    class Settings(Adversarial.Settings, Map.Settings):
        """The threat model and the map term's weight."""

    inputs = Adversarial
    terms = (Map,)
    group = "robust"

    def published_name(self, architecture: str) -> str:
        """resnet18 -> resnet18_l2_eps0.25.combined."""
        return f"{architecture}_{self.settings.suffix()}.combined"
