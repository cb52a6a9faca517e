"""Earth mover's distance of perturbations from human maps (Rubner et al. 2000): how far off they lie."""

from torch import Tensor

from advalign.averages import mean_with_interval
from advalign.metrics.base import AttackedShard, Evaluation, Metric
from advalign.rows import EMD
from advalign.tensors.agreement import emd
from advalign.tensors.heatmaps import released_map


class EmdAlignment(Metric):
    """How far the perturbation map must be moved to become the human map, in shares of the image's side."""

    needs = ("human_map",)

    def measure(self, shard: AttackedShard) -> dict[str, Tensor]:
        """emd_released, lower is better: of the released map, on a grid of 8 x 8 cells; NaN where a map is constant."""
        return {EMD: emd(released_map(shard.perturbations), shard.extras["human_map"])}

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """`emd_alignment`: the mean over valid stimuli with a value; nothing of rows that were not measured so."""
        if EMD not in evaluation.rows:
            return {}
        values = evaluation.valid[EMD].dropna()
        return mean_with_interval("emd_alignment", values, evaluation.resamples, evaluation.seed)
