"""Perturbation Tolerance (PT): mean norm of the smallest perturbation that flips the decision (Feng et al. 2025)."""

import math

import numpy as np
import pandas as pd

from advalign.averages import mean_with_interval
from advalign.metrics.base import Evaluation, Metric
from advalign.rows import AGREE, AUDIT, LARGEST_TRIED, NORMS, QUERIES, SCALES, SECOND_START, STATUS, Status


class PerturbationTolerance(Metric):
    """PT over valid stimuli, with n, the attack's success rate, how far the search converged, and a lower bound."""

    def summarise(self, evaluation: Evaluation) -> dict[str, float]:
        """Norms are in the stimulus space: l2 with pixels in [0, 1], linf in 1/255.

        `perturbation_tolerance_lower_bound` counts every failed attack with the largest norm it tried. Leaving failures
        out would bias PT down. `starts_agree` is the share of valid stimuli on which the two best starts of the search
        ended within 3 % of each other (AGREE). A small share says that the model's norms are loose upper bounds; of a
        single stimulus it says little (docs/fmn-fast.md). NaN for attacks without starts.
        """
        rows, column, scale = evaluation.rows, NORMS[evaluation.norm], SCALES[evaluation.norm]
        norms = evaluation.norms.to_numpy(np.float64)
        attacked = rows[rows[STATUS] != Status.MISCLASSIFIED_CLEAN]
        second = evaluation.valid[SECOND_START].dropna()
        bounded = scale * attacked[column].fillna(attacked[LARGEST_TRIED]).to_numpy(np.float64)
        return {
            **mean_with_interval("perturbation_tolerance", norms, evaluation.resamples, evaluation.seed),
            "perturbation_tolerance_lower_bound": float(bounded.mean()) if len(bounded) else math.nan,
            "n_valid": float(len(norms)),
            "attack_success_rate": len(norms) / len(attacked) if len(attacked) else math.nan,
            "starts_agree": float((second <= AGREE).mean()) if len(second) else math.nan,
            "clean_decision_accuracy": len(attacked) / len(rows) if len(rows) else math.nan,
            "queries_per_stimulus": float(attacked[QUERIES].mean()) if len(attacked) else math.nan,
            **_audited(rows),
        }


def _audited(rows: pd.DataFrame) -> dict[str, float]:
    """How many norms a second attack doubted, and how many of those it lowered; nothing of attacks without one."""
    if AUDIT not in rows:
        return {}
    return {"n_audited": float(rows[AUDIT].notna().sum()), "n_audit_fell": float((rows[AUDIT] == 1).sum())}
