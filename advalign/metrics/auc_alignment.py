"""AUC of perturbations: how well they rank the pixels that people look at above the others."""

from torch import Tensor

from advalign.averages import mean_with_interval
from advalign.metrics.base import AttackedShard, Evaluation, Metric
from advalign.rows import AUC
from advalign.tensors.agreement import auc_of_ranks


class AucAlignment(Metric):
    """Chance that one of the most human pixels is perturbed more than another pixel."""

    needs = ("human_map",)

    def measure(self, shard: AttackedShard) -> dict[str, Tensor]:
        """auc_released, in [0, 1], .5 at chance: of the released map against the top 10 % of the human map.

        NaN where one of the maps is constant.
        """
        return {AUC: auc_of_ranks(shard.released_ranks, shard.clicked)}

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """`auc_alignment`: the mean over valid stimuli with a value; nothing of rows that were not measured so."""
        if AUC not in evaluation.rows:
            return {}
        values = evaluation.valid[AUC].dropna()
        return mean_with_interval("auc_alignment", values, evaluation.resamples, evaluation.seed)
