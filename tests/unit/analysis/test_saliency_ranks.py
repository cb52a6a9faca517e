"""Saliency beside perturbations: columns, ranks and figure by given numbers."""

import math

import pandas as pd
import pytest

from advalign.analysis.assembly import with_added, zoo_table
from advalign.analysis.figures import comparison_plots
from advalign.analysis.plots import Points
from advalign.analysis.saliency import (
    compare_saliency,
    measures_saliency,
    saliency_columns,
    saliency_scatter,
)
from advalign.models.declared import Zoo
from advalign.vocabulary import SALIENCY, ZOO, describe

MODELS = ("a", "b", "c", "d", "e", "f")


def headline(aa_raw, shuffled=None, norm="l2"):
    rows = {
        "model": MODELS[: len(aa_raw)], "group": "cnn", "protocol": "fmn-fast", "norm": norm, "pt": 1.0, "aa": 0.5,
        "aa_raw": aa_raw, "aligned_minus_shuffled": shuffled or aa_raw, "big_data": 0, "flags": "",
    }  # fmt: skip
    return pd.DataFrame(rows)


def saliency(models, rho, shuffled=None):
    rows = {"model": list(models), **dict.fromkeys(SALIENCY, 0.1), "saliency_rho": rho}
    return pd.DataFrame(rows).assign(rho_vs_shuffled=shuffled or rho)


def compared(table, **others):
    both = with_added(table, others)
    return both, compare_saliency(both, list(others), seed=1, resamples=500)


def test_a_zoo_table_of_saliency_has_its_numbers_under_their_short_names():
    numbers = {describe(short).name: place / 10 for place, short in enumerate(SALIENCY)}
    said = {
        "model": "a", "architecture": "test_resnet", "recipe": "pretrained", "group": "cnn", "baseline": None,
        "declared": None, "protocol": "seen", "flags": [], "metrics": {"pt": 1.0, **numbers},
        "protocol_metrics": list(numbers),
    }  # fmt: skip
    table = zoo_table([said], Zoo())
    assert measures_saliency(table)
    assert table[list(SALIENCY)].iloc[0].tolist() == [place / 10 for place in range(len(SALIENCY))]
    assert all(describe(short).short == short for short in SALIENCY)
    as_companion = zoo_table([said | {"protocol_metrics": []}], Zoo())  # the headline's own numbers are others
    assert not measures_saliency(as_companion)
    assert set(ZOO) < set(as_companion)


def test_each_protocol_has_columns_and_models_keep_what_they_lack():
    table = headline([0.1, 0.2, 0.3])
    both, _ = compared(table, grad_cam=saliency("ab", [0.5, 0.4]), rollout=saliency("c", [0.3]))
    assert both[["model", "aa_raw"]].equals(table[["model", "aa_raw"]])
    assert both["saliency_rho"].tolist()[:2] == [0.5, 0.4]
    assert both["saliency_rho"].isna().tolist() == [False, False, True]
    assert both["rollout.saliency_rho"].isna().tolist() == [True, True, False]
    assert saliency_columns(both) == [
        "saliency_rho", "rho_vs_shuffled", "rho_vs_centre",
        "rollout.saliency_rho", "rollout.rho_vs_shuffled", "rollout.rho_vs_centre",
    ]  # fmt: skip


def test_ranks_by_hand_raw_and_minus_shuffled():
    table = headline([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    _, (raw, controlled) = compared(table, seen=saliency(MODELS, [0.2, 0.1, 0.3, 0.4, 0.6, 0.5], [1, 2, 3, 4, 5, 6]))
    assert (raw["first"], raw["second"], raw["n"]) == ("fmn-fast", "seen", 6)
    assert (raw["perturbations"], raw["saliency"]) == ("aa_raw", "saliency_rho")
    assert raw["rho"] == pytest.approx(1 - 6 * 4 / (6 * 35))  # two exchanges of neighbours
    assert raw["rho_ci_low"] < raw["rho"] < raw["rho_ci_high"]
    assert raw["verdict"].startswith("Whether the rankings agree is open (rho 0.89 over 6 models, 95 % interval ")
    assert (controlled["perturbations"], controlled["saliency"]) == ("aligned_minus_shuffled", "rho_vs_shuffled")
    assert controlled["verdict"].startswith("The rankings do not agree: one is the other's reverse (rho -1.00 over 6")


def test_only_models_that_have_both_are_ranked():
    table = headline([0.1, 0.2, 0.3, 0.4, 0.5, math.nan])
    _, (raw, _) = compared(table, seen=saliency("bcdef", [0.1, 0.3, 0.2, 0.4, 0.9]))
    assert (raw["n"], raw["rho"]) == (4, pytest.approx(0.8))  # b, c, d, e: one exchange


def test_two_models_have_no_interval():
    _, (raw, _) = compared(headline([0.1, 0.2]), seen=saliency("ab", [0.1, 0.2]))
    assert raw["n"] == 2
    assert all(math.isnan(raw[name]) for name in ("rho", "rho_ci_low", "rho_ci_high"))
    assert raw["verdict"].startswith("Whether the rankings of 2 models agree cannot be said: x has 2 values, at least")


def test_under_a_headline_in_linf_the_words_say_so():
    _, (raw, controlled) = compared(headline([0.1, 0.2], norm="linf"), seen=saliency("ab", [0.1, 0.2]))
    assert raw["what"] == "AA raw linf and saliency rho"
    assert controlled["what"] == "aligned − shuffled linf and saliency rho − shuffled"


def test_the_figure_has_a_panel_per_protocol_and_points_by_group():
    table = headline([0.1, 0.2, 0.3]).assign(group=["cnn", "harmonized", "cnn"])
    both, entries = compared(table, seen=saliency("abc", [0.3, 0.2, 0.4]), rollout=saliency("c", [0.3]))
    kinds = dict(zip(table["model"], table["group"], strict=True))
    plot = saliency_scatter(both, entries, kinds, 0.625)
    (panel,) = plot.panels  # one point shows no relation
    assert (panel.x.title, panel.y.title) == ("AA raw under fmn-fast (ρ)", "saliency under seen (ρ)")
    assert all(isinstance(mark, Points) for mark in panel.marks)
    points = {tuple(mark.names): (mark.x.tolist(), mark.y.tolist(), mark.y_error.tolist()) for mark in panel.marks}
    assert points == {("a", "c"): ([0.1, 0.3], [0.3, 0.4], [0.1, 0.1]), ("b",): ([0.2], [0.2], [0.1])}
    assert [label.text for label in panel.labels] == ["a", "b", "c"]
    assert f"fmn-fast and seen: {entries[0]['verdict']}" in plot.notes
    assert "2 of 3 models cannot be shown: they lack saliency under rollout, or alignment under fmn-fast." in plot.notes
    assert plot.notes[-1].endswith("scores ρ = 0.62.")


def test_the_figure_is_a_sentence_where_there_is_one_model_and_absent_without_saliency():
    both, entries = compared(headline([0.1]), seen=saliency("a", [0.3]))
    plot = saliency_scatter(both, entries, {"a": "cnn"})
    assert not plot.panels
    assert "Whether the rankings of 1 model agree cannot be said" in plot.detail
    statistics = {"paired": [], "reference": {"centred_gaussian_aa_raw": None}}
    names = set(comparison_plots(both, statistics))
    assert set(comparison_plots(both, statistics | {"saliency": entries})) - names == {"saliency_alignment"}
