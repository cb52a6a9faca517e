"""Protocols side by side: the tolerance under true minimum norms against the tolerance as released, model by model.

The published table comes from an attack whose projection does nothing (`attacks/feng2025_released.py`). Does the
trade-off of tolerance and alignment survive under minimum norms? The answer has both tolerances per model, the rank
correlation between them, and the trade-off under each. Values of two protocols are never pooled.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pandas as pd

from advalign.analysis.statistics import spearman
from advalign.analysis.table import check_table, is_standard


def compare_protocols(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Compare the results of several protocols for the same models.

    Args:
        tables: protocol -> one row per model (`table.check_table`), the headline protocol first.

    Returns:
        "models": per model PT and AA under each protocol (None where it was not evaluated);
        "trade_off": per protocol Spearman's rho of PT with AA over the standard models, and over all models;
        "agreement": per pair of protocols Spearman's rho of PT (and of AA) over the models that both have, and the
        ratio of mean PT. What cannot be computed is NaN with a `note`.
    """
    checked = {name: check_table(table, name).set_index("model") for name, table in tables.items()}
    models = sorted(set().union(*(table.index for table in checked.values()))) if checked else []
    return {
        "models": [_row(model, checked) for model in models],
        "trade_off": [_trade_off(name, table) for name, table in checked.items()],
        "agreement": [_agreement(first, second, checked) for first, second in combinations(checked, 2)],
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


def _agreement(first: str, second: str, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    shared = tables[first].index.intersection(tables[second].index)
    one, two = tables[first].loc[shared], tables[second].loc[shared]
    tolerance, alignment = spearman(one["pt"], two["pt"]), spearman(one["aa"], two["aa"])
    mean = float(two["pt"].mean())
    return {
        "first": first,
        "second": second,
        "n": tolerance.n,
        "rho_pt": tolerance.rho,
        "p_pt": tolerance.p,
        "rho_aa": alignment.rho,
        "p_aa": alignment.p,
        "ratio_of_mean_pt": float(one["pt"].mean()) / mean if mean else float("nan"),
        "note": tolerance.note or None,
    }
