"""Twins image by image: which stimuli enter, against scipy, and pairs that cannot be compared."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from advalign.analysis.twins import find_twins, paired_statistics
from advalign.analysis.zoo import plain
from advalign.errors import InputError

pytestmark = pytest.mark.filterwarnings("error")


def frame(norms, rhos, status=None, stimuli=None, protocol="fmn-fast"):
    stimuli = list(range(len(norms))) if stimuli is None else stimuli
    return pd.DataFrame(
        {
            "stimulus": stimuli,
            "status": status or ["ok"] * len(norms),
            "norm_l2": norms,
            "rho_released": rhos,
            "protocol": protocol,
        }
    )


def test_twins_are_what_the_table_says_and_not_what_names_look_like():
    table = pd.DataFrame(
        [
            ("wide_resnet50_2.baseline", ""),
            ("wide_resnet50_2_l2_eps0.5.combined", "wide_resnet50_2.baseline"),
            ("mine", "wide_resnet50_2.baseline"),
            ("test_vit.baseline", None),
            ("test_vit.harmonized", float("nan")),
            ("resnet18.harmonized", "resnet18.baseline"),
            ("of_itself", "of_itself"),
        ],
        columns=["model", "baseline"],
    )
    assert find_twins(table) == [
        ("wide_resnet50_2.baseline", "mine"),
        ("wide_resnet50_2.baseline", "wide_resnet50_2_l2_eps0.5.combined"),
    ]
    assert find_twins(table.drop(columns="baseline")) == []


def test_twins_are_compared_over_the_stimuli_both_got_right():
    generator = np.random.default_rng(0)
    n = 200
    base = frame(generator.gamma(2, 0.3, n), generator.normal(0.2, 0.3, n))
    base.loc[:19, "status"] = "misclassified_clean"
    twin = frame(generator.gamma(3, 0.4, n), generator.normal(0.4, 0.3, n)).sample(frac=1, random_state=1)
    twin.loc[twin["stimulus"] >= 190, "status"] = "attack_failed"
    pt, aa = paired_statistics({"a": base, "b": twin}, [("a", "b")], seed=3, resamples=500, ceiling=0.5)
    ordered = twin.sort_values("stimulus")
    for entry, column, scale in ((pt, "norm_l2", 1.0), (aa, "rho_released", 0.5)):
        first, second = base[column].to_numpy()[20:190] / scale, ordered[column].to_numpy()[20:190] / scale
        expected = stats.ttest_rel(second, first)
        assert entry["n"] == 170
        assert (entry["t"], entry["p"]) == pytest.approx((expected.statistic, expected.pvalue))
        assert entry["wilcoxon_p"] == pytest.approx(stats.wilcoxon(second, first).pvalue)
        assert (entry["baseline_mean"], entry["twin_mean"]) == pytest.approx((first.mean(), second.mean()))
        assert entry["d_z"] == pytest.approx((second - first).mean() / (second - first).std(ddof=1))
        assert entry["ci_low"] < entry["difference"] < entry["ci_high"]
        assert entry["note"] is None
    assert (pt["metric"], aa["metric"], pt["ceiling"], aa["ceiling"]) == ("pt", "aa", None, 0.5)
    smaller, larger = sorted([pt["p"], aa["p"]])
    assert sorted([pt["p_holm"], aa["p_holm"]]) == pytest.approx([2 * smaller, max(2 * smaller, larger)])


def test_further_measures_are_tested_where_both_have_them_and_do_not_change_the_verdict_on_the_headline():
    generator = np.random.default_rng(1)
    count = 50
    models = {name: frame(generator.gamma(2, 0.3, count), generator.normal(0.3, 0.2, count)) for name in "abc"}
    plain = paired_statistics(models, [("a", "b"), ("a", "c")], seed=0, resamples=200, ceiling=0.5)
    for name, shift in (("a", 0.0), ("b", 0.3)):
        models[name]["rho_by_image"] = generator.normal(0.4 + shift, 0.2, count)
        models[name]["emd_released"] = generator.uniform(0.1, 0.4 - shift, count)
    models["b"].loc[3, "rho_by_image"] = np.nan  # below its floor
    found = paired_statistics(models, [("a", "b"), ("a", "c")], seed=0, resamples=200, ceiling=0.5)
    assert [(entry["twin"], entry["metric"]) for entry in found] == [
        ("b", "pt"), ("b", "aa"), ("b", "aa_by_image"), ("b", "aa_emd"), ("c", "pt"), ("c", "aa"),
    ]  # fmt: skip
    assert [entry for entry in found if entry["metric"] in ("pt", "aa")] == plain
    by_image, emd = found[2:4]
    values = [models[name].drop(index=3)["rho_by_image"] for name in "ba"]
    expected = stats.ttest_rel(*values)
    assert (by_image["n"], by_image["t"], by_image["p"]) == pytest.approx((49, expected.statistic, expected.pvalue))
    assert by_image["ceiling"] is None  # the column is divided already
    assert emd["difference"] == pytest.approx((models["b"]["emd_released"] - models["a"]["emd_released"]).mean())
    smaller, larger = sorted([by_image["p"], emd["p"]])
    assert sorted([by_image["p_holm"], emd["p_holm"]]) == pytest.approx([2 * smaller, max(2 * smaller, larger)])


def test_stimuli_without_a_rank_correlation_are_left_out_and_counted():
    base = frame([1.0, 2, 3, 4], [0.1, float("nan"), 0.3, 0.2])
    twin = frame([2.0, 2, 5, 4], [0.3, 0.5, 0.4, 0.6])
    pt, aa = paired_statistics({"a": base, "b": twin}, [("a", "b")], seed=0, resamples=100)
    assert (pt["n"], aa["n"]) == (4, 3)
    assert aa["note"] == "1 of 4 shared stimuli have no rho_released and are left out"


def test_twins_that_share_nothing_or_are_not_there():
    base, twin = frame([1.0, 2], [0.1, 0.2]), frame([1.0, 2], [0.1, 0.2], stimuli=[7, 8])
    pairs = [("a", "b"), ("a", "missing")]
    entries = plain(paired_statistics({"a": base, "b": twin}, pairs, seed=0))
    assert [entry["n"] for entry in entries] == [0, 0, 0, 0]
    assert all(entry["p"] is None and entry["difference"] is None for entry in entries)
    assert entries[0]["note"] == "no stimulus that both models got right"
    assert entries[2]["note"] == "missing not evaluated"


def test_bad_evaluations_are_refused():
    good = frame([1.0, 2], [0.1, 0.2])
    with pytest.raises(InputError, match="evaluation of b lacks the columns norm_l2"):
        paired_statistics({"a": good, "b": good.drop(columns="norm_l2")}, [("a", "b")], seed=0)
    with pytest.raises(InputError, match="evaluation of b has stimulus 1 twice"):
        paired_statistics({"a": good, "b": frame([1.0, 2], [0.1, 0.2], stimuli=[1, 1])}, [("a", "b")], seed=0)
    with pytest.raises(InputError, match=r"different protocols \(fmn, fmn-fast\)"):
        paired_statistics({"a": good, "b": frame([1.0], [0.1], protocol="fmn")}, [("a", "b")], seed=0)


def test_twins_in_linf_are_compared_in_grey_levels():
    base, twin = (frame(norms, [0.1, 0.2, 0.4]) for norms in ([1.0, 2.0, 3.0], [2.0, 4.0, 3.0]))
    l2 = paired_statistics({"a": base, "b": twin}, [("a", "b")], seed=0, resamples=100)[0]
    both = {"a": base, "b": twin}
    linf = {name: one.drop(columns="norm_l2").assign(norm_linf=one["norm_l2"] / 255) for name, one in both.items()}
    found = paired_statistics(linf, [("a", "b")], seed=0, resamples=100)[0]
    assert (found["metric"], found["twin_mean"], found["difference"]) == ("pt", pytest.approx(3.0), pytest.approx(1.0))
    assert found["p"] == pytest.approx(l2["p"])
    with pytest.raises(InputError, match="evaluation of b lacks the columns norm_linf"):
        paired_statistics({"a": linf["a"], "b": twin}, [("a", "b")], seed=0)
