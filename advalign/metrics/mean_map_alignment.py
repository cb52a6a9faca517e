"""Alignment as in the 2023 results (Linsley et al. 2023): the map |mean over channels|, undivided by the ceiling."""

import numpy as np
from torch import Tensor

from advalign.averages import mean_with_interval
from advalign.metrics.base import AttackedShard, Evaluation, Metric
from advalign.tensors.heatmaps import mean_map
from advalign.tensors.ranks import average_ranks, correlation

RHO_MEAN = "rho_mean"  # rank correlation in [-1, 1] of the mean map and the human map


class MeanMapAlignment(Metric):
    """Mean Spearman correlation of |mean over channels of the perturbation| and human map."""

    probe = "minimum-norm-unnormalised"
    needs = ("human_ranks",)

    def measure(self, shard: AttackedShard) -> dict[str, Tensor]:
        """Rank correlation under the mean map; NaN for constant maps."""
        ranks = average_ranks(mean_map(shard.perturbations).flatten(1))
        return {RHO_MEAN: correlation(ranks, shard.extras["human_ranks"])}

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """The mean over valid stimuli that have a rank correlation, with its interval."""
        rho = evaluation.valid[RHO_MEAN].dropna().to_numpy(np.float64)
        name = "adversarial_human_alignment_mean_map_raw"
        return mean_with_interval(name, rho, evaluation.resamples, evaluation.seed)
