"""Normalised scanpath saliency of perturbations (Peters et al. 2005): how far they stand out where people look."""

from torch import Tensor

from advalign.averages import mean_with_interval
from advalign.metrics.base import AttackedShard, Evaluation, Metric
from advalign.rows import NSS
from advalign.tensors.agreement import nss
from advalign.tensors.heatmaps import released_map


class NssAlignment(Metric):
    """How much the most human pixels are perturbed, in standard deviations of the perturbation map."""

    needs = ("human_map",)

    def measure(self, shard: AttackedShard) -> dict[str, Tensor]:
        """nss_released, 0 at chance: of the released map on the top 10 % of the human map.

        NaN where one of the maps is constant.
        """
        return {NSS: nss(released_map(shard.perturbations).flatten(1), shard.clicked)}

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """`nss_alignment`: the mean over valid stimuli with a value; nothing of rows that were not measured so."""
        if NSS not in evaluation.rows:
            return {}
        values = evaluation.valid[NSS].dropna()
        return mean_with_interval("nss_alignment", values, evaluation.resamples, evaluation.seed)
