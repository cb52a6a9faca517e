"""Controls for AA: a fixed centred Gaussian can beat every model on raw AA, so AA alone shows no specificity."""

import math

import torch
from torch import Tensor

from advalign.metrics.base import AttackedShard, Evaluation, Metric
from advalign.rows import RHO
from advalign.tensors.heatmaps import centre_distance, energy_on_top
from advalign.tensors.ranks import average_ranks, correlation, partial_correlation


class AlignmentControls(Metric):
    """AA against other stimuli's maps, given distance from the centre, and energy on the most human pixels."""

    needs = ("human_map", "human_ranks", "other_ranks")

    def measure(self, shard: AttackedShard) -> dict[str, Tensor]:
        """rho_released (the reference), rho_shuffled, rho_partial, energy_top10; NaN for constant maps."""
        found, human, maps = shard.released_ranks, shard.extras["human_ranks"], shard.extras["human_map"]
        distance = average_ranks(centre_distance(*maps.shape[1:]).flatten()).to(found)
        constant = maps.amax((1, 2)) == maps.amin((1, 2))  # any pixels could be its top 10 %
        return {
            RHO: correlation(found, human),
            "rho_shuffled": correlation(found, shard.extras["other_ranks"]),
            "rho_partial": partial_correlation(found, human, distance),
            "energy_top10": energy_on_top(shard.perturbations, maps).masked_fill(constant, torch.nan),
        }

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """Means over valid stimuli, undivided by the ceiling."""
        valid = evaluation.valid
        if not len(valid):
            names = ("aligned_minus_shuffled", "alignment_shuffled", "alignment_given_centre", "energy_on_human_top10")
            return dict.fromkeys(names, math.nan)
        return {
            "aligned_minus_shuffled": float((valid[RHO] - valid["rho_shuffled"]).mean()),
            "alignment_shuffled": float(valid["rho_shuffled"].mean()),
            "alignment_given_centre": float(valid["rho_partial"].mean()),
            "energy_on_human_top10": float(valid["energy_top10"].mean()),
        }
