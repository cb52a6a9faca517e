"""The zoo's statistics on tables with known answers, and the published zoo to the printed digits."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from advalign.analysis.zoo import plain, read_table, zoo_statistics
from advalign.errors import InputError
from tests.conftest import REFERENCE

pytestmark = pytest.mark.filterwarnings("error")

PUBLISHED_T = {
    ("vit_vs_cnn", "pt"): (9.11, 163),
    ("vit_vs_cnn", "aa"): (-12.5, 153),
    ("ssl_vs_other", "pt"): (7.85, 65),
    ("ssl_vs_other", "aa"): (-7.49, 98),
    ("big_data_vs_other", "pt"): (5.65, 32),
    ("big_data_vs_other", "aa"): (-2.54, 40),
    ("robust_vs_other", "pt"): (6.41, 41),
    ("robust_vs_other", "aa"): (20.85, 106),
}


def zoo(rows=40, seed=0):
    """A table of every group in which PT rises and AA falls with accuracy."""
    generator = np.random.default_rng(seed)
    groups = np.resize(["cnn", "vit", "hybrid", "ssl", "robust", "harmonized"], rows)
    accuracy = generator.uniform(0.6, 0.9, rows)
    return pd.DataFrame(
        {
            "model": [f"net{chr(97 + place % 7)}_{place}" for place in range(rows)],
            "pt": 4 * accuracy + generator.normal(0, 0.1, rows),
            "aa": 1 - accuracy + generator.normal(0, 0.05, rows),
            "multilabel_accuracy": accuracy,
            "group": groups,
            "big_data": (np.arange(rows) % 5 == 0).astype(int),
        }
    )


def contrasts(result):
    return {(entry["name"], entry["metric"]): entry for entry in result["contrasts"]}


def test_keys_are_those_of_the_contract_and_the_result_is_strict_json():
    result = zoo_statistics(zoo().assign(protocol="fmn-fast"))
    assert {"protocol", "correlations", "contrasts", "pareto", "paired"} <= set(result)
    assert result["protocol"] == "fmn-fast"
    assert {"x", "y", "n", "rho", "p"} <= set(result["correlations"][0])
    assert {"name", "metric", "n1", "n2", "t", "df", "p", "p_holm", "d"} <= set(result["contrasts"][0])
    names = {"vit_vs_cnn", "ssl_vs_other", "big_data_vs_other", "robust_vs_other"}
    assert set(contrasts(result)) == {
        (name, metric) for name in names for metric in ("pt", "aa", "multilabel_accuracy")
    }
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_correlations_are_over_standard_models_as_scipy():
    table = zoo()
    standard = table[table["group"].isin(["cnn", "vit", "hybrid", "ssl"])]
    result = {(entry["x"], entry["y"]): entry for entry in zoo_statistics(table)["correlations"]}
    assert set(result) == {("multilabel_accuracy", "pt"), ("multilabel_accuracy", "aa"), ("pt", "aa")}
    for (x, y), entry in result.items():
        expected = stats.spearmanr(standard[x], standard[y])
        assert (entry["rho"], entry["p"]) == pytest.approx((expected.statistic, expected.pvalue))
        assert entry["n"] == len(standard)
        assert entry["quadratic"]["coefficients"] == pytest.approx(list(np.polyfit(standard[x], standard[y], 2)))
        means = standard.assign(family=standard["model"].str[:4]).groupby("family")[[x, y]].mean()
        assert entry["families"]["n"] == len(means) == 7
        assert entry["families"]["rho"] == pytest.approx(stats.spearmanr(means[x], means[y]).statistic)


def test_contrasts_take_the_rows_of_the_methods_page():
    table = zoo(60)
    group, big = table["group"], table["big_data"] == 1
    supervised, standard = group.isin(["cnn", "vit", "hybrid"]), group.isin(["cnn", "vit", "hybrid", "ssl"])
    sides = {
        "vit_vs_cnn": (group == "vit", group == "cnn"),
        "ssl_vs_other": (group == "ssl", supervised),
        "big_data_vs_other": (supervised & big, supervised & ~big),
        "robust_vs_other": (group == "robust", standard),
    }
    for (name, metric), entry in contrasts(zoo_statistics(table)).items():
        a, b = (table.loc[rows, metric] for rows in sides[name])
        expected = stats.ttest_ind(a, b, equal_var=False)
        assert (entry["n1"], entry["n2"]) == (len(a), len(b))
        assert (entry["t"], entry["df"], entry["p"]) == pytest.approx(
            (expected.statistic, expected.df, expected.pvalue)
        )
        pooled = math.sqrt(((len(a) - 1) * a.var() + (len(b) - 1) * b.var()) / (len(a) + len(b) - 2))
        assert entry["d"] == pytest.approx((a.mean() - b.mean()) / pooled)


def test_holm_is_over_all_contrasts_of_the_report():
    entries = zoo_statistics(zoo())["contrasts"]
    ordered = sorted(entries, key=lambda entry: entry["p"])
    running = 0.0
    for rank, entry in enumerate(ordered):
        running = min(1.0, max(running, (len(entries) - rank) * entry["p"]))
        assert entry["p_holm"] == pytest.approx(running)


def test_front_and_beyond():
    rows = [
        ("a", 1.0, 0.4, "cnn"),
        ("b", 2.0, 0.2, "vit"),
        ("c", 0.9, 0.3, "ssl"),
        ("d", 1.5, 0.3, "harmonized"),
        ("e", 2.0, 0.2, "robust"),
        ("f", 9.0, -0.5, "robust"),
        ("g", 0.5, 0.1, "harmonized"),
    ]
    table = pd.DataFrame(rows, columns=["model", "pt", "aa", "group"]).assign(big_data=0)
    result = zoo_statistics(table)
    assert [(point["model"], point["pt"], point["aa"]) for point in result["pareto"]] == [
        ("a", 1.0, 0.4),
        ("b", 2.0, 0.2),
    ]
    assert [point["model"] for point in result["beyond_front"]] == ["d", "f"]


def test_missing_values_are_left_out_and_said():
    table = zoo()
    table.loc[table.index[:6], "pt"] = np.nan
    result = zoo_statistics(table)
    link = result["correlations"][0]
    assert link["n"] == 24
    assert link["note"] == "4 of 28 models lack multilabel_accuracy or pt and are left out"
    entry = contrasts(result)["vit_vs_cnn", "pt"]
    assert (entry["n1"], entry["n2"]) == (6, 6)
    assert "vit: 1 of 7 models lack pt" in entry["note"]


def test_without_accuracy_its_statistics_are_null_with_a_reason():
    result = zoo_statistics(zoo().drop(columns="multilabel_accuracy"))
    link = result["correlations"][0]
    assert (link["n"], link["rho"], link["p"], link["quadratic"]["r2"]) == (0, None, None, None)
    assert "x has 0 values" in link["note"]
    entry = contrasts(result)["vit_vs_cnn", "multilabel_accuracy"]
    assert (entry["t"], entry["p_holm"]) == (None, None)
    assert "the group 'vit' has 0 values" in entry["note"]
    assert any("multi-label accuracy" in note for note in result["notes"])
    assert result["correlations"][2]["rho"] is not None


@pytest.mark.parametrize(
    "table",
    [
        zoo().iloc[:0],
        zoo().iloc[:1],
        zoo().assign(pt=1.0, aa=0.5, multilabel_accuracy=0.9),
        zoo().assign(pt=np.nan, aa=np.nan),
        zoo().query("group == 'robust'"),
        zoo().query("group != 'ssl' and group != 'harmonized' and group != 'robust'"),
    ],
    ids=["empty", "one model", "all ties", "all missing", "only robust", "no ssl, no twins"],
)
def test_degenerate_tables_give_nulls_with_reasons(table):
    result = zoo_statistics(table)
    json.dumps(result, allow_nan=False)
    for entry in [*result["correlations"], *result["contrasts"]]:
        key = "rho" if "rho" in entry else "t"
        assert entry[key] is not None or entry["note"]


def test_statistics_of_351_models_are_quick_and_do_not_change_the_table():
    table = zoo(351)
    before = table.copy(deep=True)
    zoo_statistics(table)
    pd.testing.assert_frame_equal(table, before)


def test_flagged_models_are_out_of_every_statistic_and_named():
    table = zoo(60)
    loud = table.index[[4, 7, 21, 33, 50]]
    flags = pd.Series("", index=table.index)
    flags[loud] = ["stochastic", "train-mode,stochastic", "zero-gradients", "probabilities", "train-mode"]
    spoilt = table.assign(flags=flags)
    spoilt.loc[loud, ["pt", "aa"]] = 1e3  # would be on the front, and beyond it, and in every mean
    result, clean = zoo_statistics(spoilt), zoo_statistics(table.drop(index=loud))
    assert {key: value for key, value in result.items() if key != "notes"} == {
        key: value for key, value in clean.items() if key != "notes"
    }
    assert result["notes"][1:] == clean["notes"]
    for row in loud:
        assert f"{table['model'][row]} ({flags[row]})" in result["notes"][0]
    assert result["notes"][0].count("(") == len(loud)
    assert "correlations, contrasts and front" in result["notes"][0]


@pytest.mark.parametrize("empty", ["", None, np.nan, "  "])
def test_empty_flags_change_nothing(empty):
    assert zoo_statistics(zoo().assign(flags=empty)) == zoo_statistics(zoo())


def test_flags_that_are_read_from_a_file_count_too(tmp_path):
    table = zoo().assign(flags="")
    table.loc[table.index[3], "flags"] = "non-finite-gradients"
    table.to_csv(tmp_path / "zoo.csv", index=False)
    result = zoo_statistics(read_table(tmp_path / "zoo.csv"))
    assert result["correlations"][0]["n"] == zoo_statistics(zoo())["correlations"][0]["n"] - 1
    assert f"{table['model'].iloc[3]} (non-finite-gradients)" in result["notes"][0]


def test_a_zoo_in_which_every_model_is_flagged_has_no_statistics_but_says_why():
    result = zoo_statistics(zoo(12).assign(flags="stochastic"))
    assert (result["correlations"][0]["n"], result["pareto"], result["beyond_front"]) == (0, [], [])
    assert all(entry["t"] is None for entry in result["contrasts"])
    assert result["notes"][0].count("(stochastic)") == 12
    json.dumps(result, allow_nan=False)


def test_a_group_that_a_recipe_has_of_its_own_changes_no_statistic_and_is_named():
    table = zoo()
    strange = table.iloc[[0, 1, 2]].assign(
        model=["a.noisy", "b.noisy", "c.blurred"], group=["noisy", "noisy", "blurred"]
    )
    strange[["pt", "aa"]] = [[99.0, 9.0], [98.0, 8.0], [97.0, 7.0]]
    result, plainly = zoo_statistics(pd.concat([table, strange], ignore_index=True)), zoo_statistics(table)
    for key in ("correlations", "contrasts", "pareto"):
        assert result[key] == plainly[key]
    assert {"a.noisy", "b.noisy", "c.blurred"} <= {entry["model"] for entry in result["beyond_front"]}
    told = "Groups that recipes have of their own stand in no correlation and no contrast: blurred (1), noisy (2)."
    assert told in result["notes"]


def test_plain():
    assert plain([np.float32(0.5), np.bool_(True), float("inf"), {"a": np.array([1.0, np.nan])}]) == [
        0.5,
        True,
        None,
        {"a": [1.0, None]},
    ]


def test_twins_of_another_protocol_are_refused():
    with pytest.raises(InputError, match="the table is of protocol fmn, the twins of fmn-fast"):
        zoo_statistics(zoo().assign(protocol="fmn"), [{"protocol": "fmn-fast"}])


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the published tables (../shared/reference) are not on this machine")
def test_published_zoo_gives_the_published_figures(tmp_path):
    from timm.models import get_pretrained_cfg

    results = pd.read_csv(REFERENCE / "feng2025_released_results.csv")
    table = results.merge(pd.read_csv(REFERENCE / "zoo_groups.csv"), on="model", validate="one_to_one")
    real = pd.read_csv(REFERENCE / "results-imagenet-real.csv")
    sizes = {model: get_pretrained_cfg(model) for model in table.loc[table["group"] != "robust", "model"]}
    real = real[[model in sizes for model in real["model"]]]
    own_size = [
        size == sizes[model].input_size[-1] for model, size in zip(real["model"], real["img_size"], strict=True)
    ]
    accuracy = real[own_size].set_index("model")["top1"]
    assert accuracy.index.is_unique
    table["multilabel_accuracy"] = table["model"].map(accuracy)
    table.to_csv(tmp_path / "published.csv", index=False)

    read = read_table(tmp_path / "published.csv")
    result = zoo_statistics(read)
    assert len(read) == 351
    links = {(entry["x"], entry["y"]): entry for entry in result["correlations"]}
    pt, aa = links["multilabel_accuracy", "pt"], links["multilabel_accuracy", "aa"]
    assert (pt["n"], aa["n"]) == (305, 305)
    assert (round(pt["rho"], 3), round(aa["rho"], 3)) == (0.818, -0.743)
    assert max(pt["p"], aa["p"]) < 0.001
    found = contrasts(result)
    for key, (t, df) in PUBLISHED_T.items():
        # The paper cuts where it does not round: t = -12.58 is printed as -12.5 and df = 106.64 as 106.
        digits = 1 if t == -12.5 else 2
        assert t in (round(found[key]["t"], digits), math.trunc(found[key]["t"] * 10**digits) / 10**digits)
        assert df in (round(found[key]["df"]), math.trunc(found[key]["df"]))
    assert round(found["big_data_vs_other", "aa"]["p"], 3) == 0.015
    assert (found["robust_vs_other", "pt"]["n1"], found["robust_vs_other", "pt"]["n2"]) == (42, 309)
