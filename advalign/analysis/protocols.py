"""Protocols side by side: does the ranking of models, and the trade-off, depend on protocol or norm?

The published table comes from an attack whose projection does nothing (`attacks/feng2025_released.py`). Does the
trade-off of tolerance and alignment survive under minimum norms? Does linf rank models as l2 does? The answer has all
tolerances per model, the rank correlation between them, and the trade-off under each. Values of two protocols are never
pooled.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from advalign.analysis.records import Spearman
from advalign.analysis.statistics import LEAST_FOR_INTERVAL, spearman, spearman_interval
from advalign.analysis.table import check_table, is_standard, norm_of_table
from advalign.averages import Interval

ROUNDING = 1e-9  # a rho of 1 is not always 1 in binary
REVERSE = "do not agree: one is the other's reverse"
ALIKE = 0.8
"""Rankings agree where the whole interval of rho lies at or above this, and do not where it lies below."""


@dataclass(frozen=True)
class Agreement:
    """Whether two columns rank models alike.

    Attributes:
        rho: Spearman's, over the models that have both; interval: of it, over models.
        verdict: whether the rankings agree, in a sentence; note: what could not be computed and why, else None.
    """

    rho: Spearman
    interval: Interval
    verdict: str
    note: str | None


def agreement(one: "pd.Series[float]", two: "pd.Series[float]", *, seed: int, resamples: int) -> Agreement:
    """Whether two columns rank models alike; models that lack one of them are left out.

    Args:
        one, two: A value per model, with the same index.
        seed, resamples: Of the interval (`statistics.spearman_interval`).
    """
    known = one.notna() & two.notna()
    rho = spearman(one[known], two[known])
    interval = spearman_interval(one[known], two[known], resamples, seed=seed)
    note = "; ".join(note for note in (rho.note, interval.note) if note) or None
    return Agreement(rho, interval, _verdict(rho, interval), note)


def compare_protocols(tables: Mapping[str, pd.DataFrame], *, seed: int = 0, resamples: int = 10_000) -> dict[str, Any]:
    """Compare the results of several protocols for the same models.

    Args:
        tables: protocol -> one row per model (`table.check_table`), the headline protocol first.
        seed, resamples: of the intervals of rho.

    Returns:
        "norms": per protocol with a tolerance the norm that it is in;
        "models": per model PT and AA under each protocol (None where it was not evaluated);
        "trade_off": per protocol Spearman's rho of PT with AA over the standard models, and over all models;
        "agreement": per pair of protocols Spearman's rho of PT with its bootstrap interval over models (and rho of AA)
        over the models that both have, a `verdict` in words on whether the rankings agree, and, in one norm, the ratio
        of mean PT. What cannot be computed is NaN with a `note`.
    """
    checked = {name: check_table(table, name).set_index("model") for name, table in tables.items()}
    models = sorted(set().union(*(table.index for table in checked.values()))) if checked else []
    return {
        "norms": {name: norm_of_table(table) for name, table in checked.items() if table["pt"].notna().any()},
        "models": [_row(model, checked) for model in models],
        "trade_off": [_trade_off(name, table) for name, table in checked.items()],
        "agreement": [
            _agreement(first, second, checked, seed, resamples) for first, second in combinations(checked, 2)
        ],
    }


def _row(model: str, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    values: dict[str, dict[str, float | None]] = {
        metric: {name: dict(table[metric]).get(model) for name, table in tables.items()} for metric in ("pt", "aa")
    }
    return {"model": model, **values}


def _trade_off(protocol: str, table: pd.DataFrame) -> dict[str, Any]:
    standard = table[is_standard(table)]
    over_standard = spearman(standard["pt"], standard["aa"])
    over_all = spearman(table["pt"], table["aa"])
    return {
        "protocol": protocol,
        "n": over_standard.n,
        "rho": over_standard.rho,
        "p": over_standard.p,
        "note": over_standard.note or None,
        "n_all": over_all.n,
        "rho_all": over_all.rho,
        "p_all": over_all.p,
    }


def _agreement(
    first: str, second: str, tables: Mapping[str, pd.DataFrame], seed: int, resamples: int
) -> dict[str, Any]:
    shared = tables[first].index.intersection(tables[second].index)
    one, two = tables[first].loc[shared], tables[second].loc[shared]
    tolerance = agreement(one["pt"], two["pt"], seed=seed, resamples=resamples)
    alignment = spearman(one["aa"], two["aa"])
    same, mean = norm_of_table(one) == norm_of_table(two), float(two["pt"].mean())
    return {
        "first": first,
        "second": second,
        "n": tolerance.rho.n,
        "rho_pt": tolerance.rho.rho,
        "rho_pt_ci_low": tolerance.interval.low,
        "rho_pt_ci_high": tolerance.interval.high,
        "p_pt": tolerance.rho.p,
        "rho_aa": alignment.rho,
        "p_aa": alignment.p,
        "ratio_of_mean_pt": float(one["pt"].mean()) / mean if same and mean else float("nan"),
        "verdict": tolerance.verdict,
        "note": tolerance.note,
    }


def _verdict(found: Spearman, interval: Interval) -> str:
    """Whether two rankings of models agree, in a sentence."""
    models = f"{found.n} model{'' if found.n == 1 else 's'}"
    if math.isnan(found.rho):
        return f"Whether the rankings of {models} agree cannot be said: {found.note}."
    rho = f"rho {found.rho:.2f} over {models}"
    if abs(found.rho) > 1 - ROUNDING and found.n >= LEAST_FOR_INTERVAL:
        same = found.rho > 0
        return f"The rankings {'agree: both are the same' if same else REVERSE} ({rho})."
    if math.isnan(interval.low):
        return f"Whether the rankings agree is open ({rho}, no interval: {interval.note})."
    said = f"{rho}, 95 % interval {interval.low:.2f} to {interval.high:.2f}"
    if interval.low >= ALIKE:
        return f"The rankings agree ({said})."
    if interval.high < ALIKE:
        return f"The rankings do not agree ({said})."
    return f"Whether the rankings agree is open ({said}, which includes {ALIKE:g})."
