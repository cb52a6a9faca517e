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


def tolerances(protocol: str, norm: str, *pt: float) -> pd.DataFrame:
    found = dict(zip("abcdefghijklmnopqrst", pt, strict=False))
    return table(protocol, found, dict.fromkeys(found, 0.5)).assign(norm=norm)


def test_the_ranking_in_two_norms_by_hand():
    l2 = tolerances("fmn-fast", "l2", 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    linf = tolerances("linf-curve", "linf", 1.0, 3.0, 2.0, 4.0, 6.0, 5.0)
    found = compare_protocols({"fmn-fast": l2, "linf-curve": linf}, seed=1, resamples=500)
    assert found["norms"] == {"fmn-fast": "l2", "linf-curve": "linf"}
    (both,) = found["agreement"]
    assert both["n"] == 6
    assert both["rho_pt"] == pytest.approx(1 - 6 * 4 / (6 * 35))  # two exchanges of neighbours
    assert math.isnan(both["ratio_of_mean_pt"])  # of two units
    again = compare_protocols({"fmn-fast": l2, "linf-curve": linf}, seed=1, resamples=500)["agreement"][0]
    assert (both["rho_pt_ci_low"], both["rho_pt_ci_high"]) == (again["rho_pt_ci_low"], again["rho_pt_ci_high"])
    assert both["rho_pt_ci_low"] < both["rho_pt"] < both["rho_pt_ci_high"] <= 1
    assert both["verdict"].startswith("Whether the rankings agree is open (rho 0.89 over 6 models, 95 % interval ")
    assert found["models"][1] == {
        "model": "b", "pt": {"fmn-fast": 0.2, "linf-curve": 3.0}, "aa": {"fmn-fast": 0.5, "linf-curve": 0.5},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (range(1, 11), "The rankings agree: both are the same (rho 1.00 over 10 models)."),
        ([2, 1, *range(3, 21)], "The rankings agree (rho 1.00 over 20 models, 95 % interval 0.9"),
        ([2, 1, *range(3, 11)], "Whether the rankings agree is open (rho 0.99 over 10 models, 95 % interval 0.7"),
        (range(10, 0, -1), "The rankings do not agree: one is the other's reverse (rho -1.00 over 10 models)."),
        ([6, 2, 9, 1, 8, 3, 10, 4, 7, 5], "The rankings do not agree (rho 0.14 over 10 models, 95 % interval "),
        ([1, 2, 3], "Whether the rankings agree is open (rho 1.00 over 3 models, no interval: "),
        ([1], "Whether the rankings of 1 model agree cannot be said: "),
    ],
)
def test_whether_rankings_agree_is_said_in_words(second, said):
    tables = {"fmn-fast": tolerances("fmn-fast", "l2", *range(1, 21)), "b": tolerances("b", "linf", *second)}
    assert compare_protocols(tables, resamples=500)["agreement"][0]["verdict"].startswith(said)


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
