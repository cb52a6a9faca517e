"""Cross-entropy without further terms.

advalign train baseline --model test_resnet      # sample: about 15 s on 2 cores, iid accuracy about 0.94
"""

from advalign.names import baseline_name
from advalign.recipes.base import STANDARD_GROUP, Recipe


class Baseline(Recipe):
    """The twin that every other recipe is compared with."""

    group = STANDARD_GROUP

    def published_name(self, architecture: str) -> str:
        """resnet18 -> resnet18.baseline."""
        return baseline_name(architecture)

    @classmethod
    def baseline(cls, architecture: str) -> None:
        """None: a baseline has no twin to be compared with."""
