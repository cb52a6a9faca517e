"""The neural harmonizer: cross-entropy plus a term that pulls the model's saliency towards human maps.

    advalign train harmonized --model test_resnet    # sample: AA well above its baseline at the same accuracy

Published: nine models, PT and AA above their baselines at the same accuracy (Feng et al. 2025, Table 1).
"""

from advalign.recipes.base import Recipe
from advalign.recipes.terms.map import Map


class Harmonized(Recipe):
    """L = CE + lambda_1 * map term; lambda_2 of the paper is the optimiser's weight decay."""

    class Settings(Map.Settings):
        """Weight of the map term, and how often it is computed."""

    terms = (Map,)
    group = "harmonized"

    def published_name(self, architecture: str) -> str:
        """resnet50 -> resnet50.harmonized."""
        return f"{architecture}.harmonized"
