"""Adversarial Human Alignment (AA): do perturbations fall where people look? (Feng et al. 2025)."""

import numpy as np
from torch import Tensor

from advalign.averages import mean_with_interval
from advalign.metrics.base import AttackedShard, Evaluation, Metric
from advalign.rows import RHO, RHO_MAGNITUDE
from advalign.tensors.heatmaps import magnitude_map
from advalign.tensors.ranks import average_ranks, correlation


class AdversarialHumanAlignment(Metric):
    """Mean Spearman correlation of perturbation map and human map, divided by the human ceiling."""

    needs = ("human_ranks",)

    def measure(self, shard: AttackedShard) -> dict[str, Tensor]:
        """Rank correlation under the released map (the default) and under the magnitude map; NaN for constant maps."""
        magnitude = average_ranks(magnitude_map(shard.perturbations).flatten(1))
        return {
            RHO: correlation(shard.released_ranks, shard.extras["human_ranks"]),
            RHO_MAGNITUDE: correlation(magnitude, shard.extras["human_ranks"]),
        }

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """AA (divided by the ceiling) and raw AA (undivided) under the released map, and AA under the magnitude map.

        Stimuli with a constant perturbation map have no rank correlation: they are counted and left out of the means.
        """
        valid = evaluation.valid
        rho = valid[RHO].dropna().to_numpy(np.float64)
        magnitude = valid[RHO_MAGNITUDE].dropna().to_numpy(np.float64)
        raw = mean_with_interval("adversarial_human_alignment_raw", rho, evaluation.resamples, evaluation.seed)
        by_superclass = valid.groupby("superclass")[RHO].mean() / evaluation.human_ceiling
        return {
            **raw,
            **{name.replace("_raw", ""): value / evaluation.human_ceiling for name, value in raw.items()},
            **mean_with_interval(
                "adversarial_human_alignment_magnitude",
                magnitude / evaluation.human_ceiling,
                evaluation.resamples,
                evaluation.seed,
            ),
            "n_without_rank_correlation": float(len(valid) - len(rho)),
            **{f"adversarial_human_alignment.{name}": float(mean) for name, mean in by_superclass.items()},
        }
