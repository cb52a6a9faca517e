"""AA beside itself: judged by what people agree on image by image (docs/methods.md, section AA beside itself)."""

import torch
from torch import Tensor

from advalign.averages import mean_with_interval
from advalign.metrics.base import AttackedShard, Evaluation, Metric
from advalign.rows import (
    HUMAN_CEILING_CORRECTED,
    HUMAN_FLOOR,
    HUMAN_SPAN,
    RHO,
    RHO_BY_IMAGE,
    RHO_OVER_FLOOR,
)
from advalign.tensors.ranks import correlation

BY_IMAGE, OVER_FLOOR = "adversarial_human_alignment_by_image", "adversarial_human_alignment_over_floor"


class AlignmentByImage(Metric):
    """AA divided by each image's own ceiling, and AA above what centre bias alone gives.

    Both need ceilings and floors of single images, which only come from trials of single participants. Without them the
    metric has no columns and no numbers.
    """

    needs = ("human_ranks",)

    def measure(self, shard: AttackedShard) -> dict[str, Tensor]:
        """rho_released, rho_by_image and rho_over_floor; none without people, NaN for constant maps.

        rho_by_image is NaN, too, where the image's corrected ceiling is not above its floor and above 0.
        """
        if HUMAN_FLOOR not in shard.extras:
            return {}
        rho = correlation(shard.released_ranks, shard.extras["human_ranks"])
        ceiling, floor, span = (shard.extras[name] for name in (HUMAN_CEILING_CORRECTED, HUMAN_FLOOR, HUMAN_SPAN))
        return {
            RHO: rho,
            RHO_BY_IMAGE: torch.where(ceiling > floor.clamp(min=0), rho / ceiling, torch.nan),
            RHO_OVER_FLOOR: torch.where(span > 0, (rho - floor) / span, torch.nan),
        }

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """Means over valid stimuli, and how many have a rank correlation but are left out of the means.

        `n_below_floor` have a corrected ceiling that is not above the floor (or not above 0), and are left out of the
        mean by image; `n_without_ceiling` have no trials, and are left out of both.
        """
        if RHO_BY_IMAGE not in evaluation.rows:
            return {}
        known = evaluation.valid.dropna(subset=[RHO])
        judged = known.dropna(subset=[HUMAN_CEILING_CORRECTED, HUMAN_FLOOR])
        below = judged[HUMAN_CEILING_CORRECTED] <= judged[HUMAN_FLOOR].clip(lower=0)
        drawn = evaluation.resamples, evaluation.seed
        return {
            **mean_with_interval(BY_IMAGE, known[RHO_BY_IMAGE].dropna(), *drawn),
            **mean_with_interval(OVER_FLOOR, known[RHO_OVER_FLOOR].dropna(), *drawn),
            "n_below_floor": float(below.sum()),
            "n_without_ceiling": float(len(known) - len(judged)),
        }
