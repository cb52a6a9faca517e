"""Whether a perturbation within a radius changes the decision, measured with a bounded attack (`pgd`)."""

import math

from advalign.attacks.base import Bounded
from advalign.averages import share_with_interval
from advalign.data.sets.base import Items
from advalign.metrics.base import Evaluation
from advalign.probes._attacked import attacked
from advalign.probes.base import Conditions, Measured, Model, Probe
from advalign.rows import STATUS, Status


class BoundedProbe(Probe):
    """Which of the model's right decisions a bounded attack changes."""

    attacks = Bounded

    def measure(self, model: Model, items: Items, conditions: Conditions) -> Measured:
        """Rows: those of `attacked`."""
        assert self.attack is not None
        return Measured(attacked(self.attack, model, items, conditions)[0])

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """Robust accuracy: the share of all items whose decision is right and stays right, with Wilson's 95 % interval.

        `attack_success_rate` is the share of right items that the attack changed: (clean - robust) / clean.
        """
        status = evaluation.rows[STATUS]
        total, held = len(status), int((status == Status.ATTACK_FAILED).sum())
        right = held + int((status == Status.OK).sum())
        return {
            **super().summarise(evaluation),
            **share_with_interval("robust_accuracy", held, total),
            "clean_decision_accuracy": right / total if total else math.nan,
            "attack_success_rate": (right - held) / right if right else math.nan,
            "n_valid": float(right),
        }
