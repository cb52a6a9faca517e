"""Protocols side by side: values by hand, models that only one protocol has, nothing mixed."""

import math

import pandas as pd
import pytest

from advalign.analysis.protocols import compare_protocols


def table(protocol: str, pt: dict[str, float], aa: dict[str, float], group: str = "cnn") -> pd.DataFrame:
    rows = [
        {"model": name, "protocol": protocol, "pt": pt[name], "aa": aa[name], "group": group, "big_data": 0}
        for name in pt
    ]
    return pd.DataFrame(rows)


MINIMUM = table("fmn", {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}, {"a": 0.9, "b": 0.7, "c": 0.8, "d": 0.1})
RELEASED = table(
    "feng2025-released", {"a": 1.0, "b": 2.0, "d": 1.5, "e": 3.0}, {"a": 0.1, "b": 0.2, "d": 0.3, "e": 0.4}
)


def test_each_protocol_has_its_own_trade_off():
    found = compare_protocols({"fmn": MINIMUM, "feng2025-released": RELEASED})
    first, second = found["trade_off"]
    # ranks of AA in order of PT: 4 2 3 1, sum of squared rank differences 9 + 0 + 0 + 9 = 18, rho = 1 - 6 * 18 / 60
    assert (first["n"], first["rho"]) == (4, pytest.approx(-0.8))
    # PT in the order a d b e, AA in it 1 3 2 4: one exchange, rho = 1 - 6 * 2 / 60
    assert (second["n"], second["rho"]) == (4, pytest.approx(0.8))


def test_agreement_is_over_shared_models_only():
    (found,) = compare_protocols({"fmn": MINIMUM, "feng2025-released": RELEASED})["agreement"]
    assert found["n"] == 3  # a, b, d
    assert found["rho_pt"] == pytest.approx(0.5)  # ranks 1 2 3 against 1 3 2
    assert found["ratio_of_mean_pt"] == pytest.approx((0.1 + 0.2 + 0.4) / (1.0 + 2.0 + 1.5))


def test_models_keep_what_they_lack():
    rows = {row["model"]: row for row in compare_protocols({"fmn": MINIMUM, "feng2025-released": RELEASED})["models"]}
    assert rows["c"]["pt"] == {"fmn": 0.3, "feng2025-released": None}
    assert rows["e"]["aa"] == {"fmn": None, "feng2025-released": 0.4}


def test_degenerate_tables_give_notes():
    robust = table("fmn", {"a": 0.1, "b": 0.2}, {"a": 0.5, "b": 0.5}, group="robust")
    (trade_off,) = compare_protocols({"fmn": robust})["trade_off"]
    assert trade_off["n"] == 0
    assert math.isnan(trade_off["rho"])
    assert trade_off["note"]
    assert compare_protocols({"fmn": robust})["agreement"] == []
    assert compare_protocols({}) == {"norms": {}, "models": [], "trade_off": [], "agreement": []}
