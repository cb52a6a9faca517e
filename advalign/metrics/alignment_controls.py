"""Controls for AA: a fixed centred Gaussian can beat every model on raw AA, so specificity must be shown."""

import math

from torch import Tensor

from advalign.metrics.base import AttackedShard, Evaluation, Metric
from advalign.tensors.heatmaps import centre_distance, energy_on_top, released_map
from advalign.tensors.ranks import partial_rank_correlation, rank_correlation


class AlignmentControls(Metric):
    """AA against other stimuli's maps, given distance from the centre, and energy on the most human pixels."""

    def measure(self, shard: AttackedShard) -> dict[str, Tensor]:
        """rho_released (what it is compared with), rho_shuffled, rho_partial, energy_top10; NaN for constant maps."""
        found = released_map(shard.perturbations).flatten(1)
        height, width = shard.heatmaps.shape[1:]
        distance = centre_distance(height, width).flatten().to(found)
        return {
            "rho_released": rank_correlation(found, shard.heatmaps.flatten(1)),
            "rho_shuffled": rank_correlation(found, shard.other_heatmaps.flatten(1)),
            "rho_partial": partial_rank_correlation(found, shard.heatmaps.flatten(1), distance),
            "energy_top10": energy_on_top(shard.perturbations, shard.heatmaps),
        }

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """Means over valid stimuli, undivided by the ceiling."""
        valid = evaluation.valid
        if not len(valid):
            names = ("aligned_minus_shuffled", "alignment_shuffled", "alignment_given_centre", "energy_on_human_top10")
            return dict.fromkeys(names, math.nan)
        return {
            "aligned_minus_shuffled": float((valid["rho_released"] - valid["rho_shuffled"]).mean()),
            "alignment_shuffled": float(valid["rho_shuffled"].mean()),
            "alignment_given_centre": float(valid["rho_partial"].mean()),
            "energy_on_human_top10": float(valid["energy_top10"].mean()),
        }
