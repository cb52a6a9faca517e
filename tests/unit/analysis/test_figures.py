"""What the figures show, by value: points, front, arrows, bars, stars, and sentences in place of plots."""

import numpy as np
import pandas as pd
import pytest

from advalign.analysis.figures import comparison_plots, protocol_scatter, robust_accuracy_curves, twin_bars
from advalign.analysis.groups import LOOKS, kinds_of, look
from advalign.analysis.pareto import pareto_front
from advalign.analysis.plots import Arrow, Band, Bars, Line, Points, Words
from advalign.analysis.scatter import against_accuracy, points_of, pt_aa_plane
from advalign.analysis.table import STANDARD
from advalign.errors import InputError
from tests.unit.analysis.made_up import TWINS, large, pair, small

KINDS = {
    "test_resnet.harmonized": "harmonized",
    "test_resnet_l2_eps1": "robust",
    "x.combined": "combined",
}


def marks(plot, kind):
    (panel,) = plot.panels
    return [mark for mark in panel.marks if isinstance(mark, kind)]


def labelled(plot) -> list[str]:
    return [label.text for label in plot.panels[0].labels]


# --- groups --------------------------------------------------------------------------------------------------------


def test_a_group_of_a_recipes_own_has_a_look_of_its_own_and_stands_last():
    table = small()[["model", "pt", "aa", "group"]].assign(group=["cnn", "foveated", *["robust"] * 5])
    kinds = dict(zip(table["model"], table["group"], strict=True))
    *_, foveated = points_of(table, "pt", "aa", kinds)
    assert (foveated.label, foveated.x.tolist()) == ("foveated (1)", [0.46])
    assert foveated.colour == look("foveated").colour == "#661100"
    assert foveated.colour not in {known.colour for known in LOOKS.values()}


def test_kinds_are_groups_but_for_what_is_harmonized_and_robust():
    table = small()
    assert list(kinds_of(table).values()) == [
        "cnn", "harmonized", "robust", "robust", "combined", "vit", "harmonized",
    ]  # fmt: skip
    assert kinds_of(table.assign(recipe="combined"))["test_vit.baseline"] == "combined"


# --- the plane -----------------------------------------------------------------------------------------------------


def test_plane_has_a_point_per_model_in_the_look_of_its_kind():
    drawn = {points.label: points for points in marks(pt_aa_plane(small(), TWINS), Points)}
    assert list(drawn) == ["CNN (1)", "ViT (1)", "robust (2)", "harmonized (2)", "harmonized + robust (1)"]
    robust = drawn["robust (2)"]
    assert (robust.x.tolist(), robust.y.tolist()) == ([2.09, 2.64], [0.78, 0.78])
    assert (robust.x_error.tolist(), robust.y_error.tolist()) == ([0.04, 0.04], [0.02, 0.02])
    assert (robust.colour, robust.marker, robust.alpha) == ("#D55E00", "x", 1.0)
    assert robust.names == ["test_resnet_l2_eps1", "test_resnet_l2_eps2"]


def test_plane_names_every_model_of_a_small_table():
    plot = pt_aa_plane(small(), TWINS)
    assert set(labelled(plot)) == set(small()["model"])
    assert plot.panels[0].keep_all


def test_plane_draws_the_front_of_the_standard_models_as_steps():
    (front,) = marks(pt_aa_plane(small(), TWINS), Line)
    assert front.x.tolist() == [-np.inf, 0.49, 0.49, 0.62, 0.62]
    assert front.y.tolist() == [0.45, 0.45, 0.38, 0.38, -np.inf]
    assert front.guide


def test_plane_draws_an_arrow_from_each_baseline_to_its_twin_in_the_twins_colour():
    places = {row.model: (row.pt, row.aa) for row in small().itertuples()}
    kinds = kinds_of(small())
    expected = [Arrow(places[baseline], places[twin], look(kinds[twin]).colour) for baseline, twin in TWINS]
    assert marks(pt_aa_plane(small(), TWINS), Arrow) == expected


def test_plane_says_rho_protocol_and_what_is_missing():
    plot = pt_aa_plane(large().assign(protocol="fmn"), [])
    assert plot.detail.endswith("p < 0.001, 351 standard models; protocol fmn")
    assert plot.notes == ["No model here has its harmonized or robust twin in the table: no arrows."]
    plot = pt_aa_plane(small().assign(pt=lambda t: t["pt"].where(t.index != 3)), [*TWINS, ("a", "b")])
    assert plot.notes == ["1 of 7 models has no PT or AA and cannot be shown.", "1 of 5 twins have no point here."]
    assert plot.detail.startswith("2 standard models: too few")


def test_plane_of_a_large_zoo_is_pale_and_names_only_what_stands_out():
    table = large()
    front = set(table["model"][pareto_front(table["pt"], table["aa"])])
    assert set(labelled(pt_aa_plane(table))) == front
    table = pd.concat([large(), small()[["model", "pt", "aa", "group", "big_data", "recipe"]]], ignore_index=True)
    plot = pt_aa_plane(table, TWINS)
    special = [name for name in labelled(plot) if kinds_of(table)[name] not in STANDARD]
    assert special[0] == "test_resnet_l2_eps0.5.combined"
    assert set(special) == {name for name, kind in kinds_of(table).items() if kind not in STANDARD}
    assert {points.alpha for points in marks(plot, Points) if points.label.startswith("CNN")} == {0.45}
    assert {points.alpha for points in marks(plot, Points) if points.label.startswith("robust")} == {0.75}
    assert not plot.panels[0].keep_all


def test_plane_without_standard_models_has_no_front_and_says_so():
    plot = pt_aa_plane(small().query("group == 'robust'"))
    assert plot.notes[-1] == "There is no standard model here, hence no Pareto front."
    assert not marks(plot, Line)


def test_a_wide_range_of_tolerances_takes_a_logarithmic_axis():
    axis = pt_aa_plane(small().assign(pt=lambda t: t["pt"] * np.where(t.index == 3, 10, 1))).panels[0].x
    assert (axis.log, axis.title) == (True, "perturbation tolerance (PT, mean l2 norm, log scale)")
    assert not pt_aa_plane(small()).panels[0].x.log


# --- against accuracy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["pt", "aa"])
def test_accuracy_figure_has_band_fit_and_figures(metric):
    table = large()
    plot = against_accuracy(table, metric)
    (band,), (fit,) = marks(plot, Band), marks(plot, Line)
    assert (band.low, band.high, band.label) == (pytest.approx(93.12), pytest.approx(97.16), "people, 95.14 ± 2.02 %")
    expected = np.polyfit(table["multilabel_accuracy"], table[metric], 2)
    assert (fit.x[0], fit.x[-1]) == (table["multilabel_accuracy"].min(), table["multilabel_accuracy"].max())
    assert fit.y == pytest.approx(np.polyval(expected, fit.x), rel=1e-6, abs=1e-9)
    assert "351 standard models" in plot.detail


def test_shares_and_percent_give_the_same_figure():
    in_percent = small().assign(multilabel_accuracy=small()["multilabel_accuracy"] * 100)
    points = [marks(against_accuracy(table, "pt"), Points)[0] for table in (small(), in_percent)]
    assert points[0].x.tolist() == points[1].x.tolist() == pytest.approx([94.3])


def test_accuracy_figure_counts_models_without_accuracy_and_refuses_other_metrics():
    table = large()
    table.loc[:45, "multilabel_accuracy"] = np.nan
    told = ["46 of 351 models have no PT or multi-label accuracy and cannot be shown."]
    assert against_accuracy(table, "pt").notes == told
    with pytest.raises(InputError, match="unknown metric 'ptt'; did you mean 'pt'"):
        against_accuracy(table, "ptt")


# --- twins, curves, protocols --------------------------------------------------------------------------------------


def test_bars_have_the_means_and_the_stars_after_holm():
    entries = [
        pair(baseline_mean=0.4),
        pair(twin="test_resnet_l2_eps1", p_holm=0.004),
        pair(twin="x.combined", p_holm=0.3, d_z=None),
        pair(metric="aa"),
    ]
    plot = twin_bars(entries, "pt", KINDS)
    baselines, *twins = marks(plot, Bars)
    assert (baselines.label, baselines.lengths.tolist(), baselines.names) == (
        "baseline", [0.4, 0.5, 0.5], ["test_resnet.baseline"] * 3,
    )  # fmt: skip
    assert baselines.places == pytest.approx([-0.19, 0.81, 1.81])
    assert [(bars.label, bars.names, *bars.places) for bars in twins] == [
        ("harmonized", ["test_resnet.harmonized"], 0.19),
        ("robust", ["test_resnet_l2_eps1"], 1.19),
        ("harmonized + robust", ["x.combined"], 2.19),
    ]
    assert twins[2].facts == ["p (Holm) = 0.3, n = 40, d_z = ?"]
    notes = marks(plot, Words)
    assert [note.text for note in notes] == ["***  n = 40", "**  n = 40", "n.s.  n = 40"]
    assert [note.x for note in notes] == pytest.approx([0.73] * 3)
    assert plot.panels[0].y.ticks == ["test_resnet.harmonized", "test_resnet_l2_eps1", "x.combined"]
    assert plot.panels[0].x.high == pytest.approx(0.73 * 1.28)
    assert "protocol fmn-fast" in plot.detail


def test_bars_of_alignment_name_their_unit():
    divided = twin_bars([pair(metric="aa", ceiling=0.66)], "aa", KINDS).panels[0].x
    assert divided.title == "adversarial human alignment (AA, share of the human ceiling)"
    assert "Spearman's ρ" in twin_bars([pair(metric="aa")], "aa", KINDS).panels[0].x.title


def test_bars_without_p_show_a_question_mark_and_pairs_without_means_are_counted():
    plot = twin_bars([pair(p_holm=None, twin_sem=None), pair(twin_mean=None)], "pt", KINDS)
    assert [note.text for note in marks(plot, Words)] == ["?  n = 40"]
    assert plot.notes[-1] == "1 pair cannot be shown: no stimulus both got right."


def test_curves_are_drawn_in_order_of_eps():
    eps, accuracy = np.array([2.0, 0, 1, 3]), np.array([0.3, 0.9, 0.5, np.nan])
    curves = {"a": (eps, accuracy), "a.harmonized": ([0, 1], [0.9, 0.8]), "b": ([], [])}
    plot = robust_accuracy_curves({"l2": curves}, {"a": "vit", "a.harmonized": "harmonized"})
    first, second = marks(plot, Line)
    assert (first.x.tolist(), first.y.tolist()) == ([0, 1, 2], [0.9, 0.5, 0.3])
    assert [(line.label, line.name, line.colour) for line in (first, second)] == [
        ("a", "a", look("vit").colour),
        ("a.harmonized", "a.harmonized", look("harmonized").colour),
    ]
    assert plot.notes == ["No curve for b."]


def test_many_curves_have_a_legend_of_kinds():
    curves = {f"net_{place}": ([0, 1], [1.0, 0.1]) for place in range(20)} | {"n_l2_eps1": ([0, 1], [1.0, 0.5])}
    lines = marks(robust_accuracy_curves({"l2": curves}, dict.fromkeys(curves, "cnn") | {"n_l2_eps1": "robust"}), Line)
    assert [line.label for line in lines] == ["CNN (20)"] * 20 + ["robust (1)"]
    assert {line.name for line in lines} == set(curves)
    assert {line.dash for line in lines} == {()}


def test_curves_of_different_length_are_refused():
    with pytest.raises(InputError, match="curve of a: 2 eps but 1 accuracies"):
        robust_accuracy_curves({"l2": {"a": ([0, 1], [0.5])}}, {"a": "cnn"})


def test_protocols_stand_against_each_other_with_the_line_of_equality():
    rows = [
        {"model": "a", "pt": {"fmn": 1.0, "released": 3.0}},
        {"model": "b", "pt": {"fmn": 2.0, "released": 5.0}},
        {"model": "elsewhere", "pt": {"fmn": None, "released": 5.0}},
    ]
    norms = {"fmn": "l2", "released": "l2"}
    plot = protocol_scatter({"models": rows, "norms": norms}, {"a": "cnn", "b": "robust"})
    equal, *points = plot.panels[0].marks
    assert (equal.x.tolist(), equal.y.tolist()) == ([0, 5], [0, 5])
    assert [(one.x.tolist(), one.y.tolist(), one.names) for one in points] == [([3], [1], ["a"]), ([5], [2], ["b"])]
    assert (plot.panels[0].x.name, plot.panels[0].y.name) == ("PT under released", "PT under fmn")


def test_another_norm_has_a_panel_of_its_own_and_no_line_of_equality():
    rows = [{"model": name, "pt": {"fmn": at, "old": 2 * at, "linf": 9 * at}} for name, at in (("a", 1.0), ("b", 2.0))]
    norms = {"fmn": "l2", "old": "l2", "linf": "linf"}
    first, second = protocol_scatter({"models": rows, "norms": norms}, {"a": "cnn", "b": "cnn"}).panels
    assert [panel.x.title for panel in (first, second)] == [
        "PT under old (mean l2 norm)", "PT under linf (mean linf norm, 1/255)",
    ]  # fmt: skip
    assert second.y.title == "PT under fmn (mean l2 norm)"
    assert [type(mark) for mark in first.marks] == [Line, Points]
    (points,) = second.marks
    assert (points.x.tolist(), points.y.tolist()) == ([9, 18], [1, 2])


def test_curves_of_two_norms_are_two_panels_with_their_units():
    curves = {"l2": {"a": ([0, 1], [1.0, 0.5])}, "linf": {"a": ([0, 8], [1.0, 0.2])}}
    plot = robust_accuracy_curves(curves, {"a": "cnn"})
    assert [panel.x.title for panel in plot.panels] == [
        "perturbation size eps (l2 norm)", "perturbation size eps (linf norm, 1/255)",
    ]  # fmt: skip
    assert [panel.marks[0].x.tolist() for panel in plot.panels] == [[0, 1], [0, 8]]
    assert plot.detail == "1 model"


def test_figures_of_a_table_in_linf_say_so():
    plots = comparison_plots(small().assign(norm="linf"), {"paired": [pair()]}, TWINS)
    titles = [plots["pt_aa_plane"].panels[0].x.title, plots["pt_against_accuracy"].panels[0].y.title,
              plots["pt_twins"].panels[0].x.title]  # fmt: skip
    assert all("mean linf norm, 1/255" in title for title in titles), titles


def test_a_comparison_has_its_figures_under_the_names_of_their_files():
    statistics = {"paired": [pair()]}
    names = ["pt_aa_plane", "pt_against_accuracy", "aa_against_accuracy", "pt_twins", "aa_twins", "robust_accuracy"]
    assert list(comparison_plots(small(), statistics, TWINS)) == names
    with_protocols = comparison_plots(small(), statistics | {"protocols": {"models": []}}, TWINS)
    assert set(with_protocols) == {*names, "pt_protocols"}


# --- degenerate input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: pt_aa_plane(small().iloc[:0]), "None of 0 models has PT and AA"),
        (lambda: pt_aa_plane(small().iloc[:1]), "There is only one model"),
        (lambda: pt_aa_plane(small().assign(aa=np.nan)), "None of 7 models has PT and AA"),
        (lambda: pt_aa_plane(small().assign(pt=1.0, aa=0.5)), "All 7 models with PT and AA have the same values"),
        (lambda: pt_aa_plane(small().assign(aa=lambda t: t["aa"].where(t.index == 0))), "Only one of 7 models has"),
        (lambda: against_accuracy(small().drop(columns="multilabel_accuracy"), "aa"), "AA and multi-label accuracy"),
        (lambda: twin_bars([], "aa", KINDS), "No model here has a harmonized, robust or combined twin"),
        (lambda: twin_bars([pair(baseline_mean=None)], "pt", KINDS), "shares a stimulus"),
        (lambda: robust_accuracy_curves({}, {}), "No model here has a robust-accuracy curve"),
        (lambda: protocol_scatter({"models": [{"model": "a", "pt": {"fmn": 1.0}}]}, {}), "Only one protocol"),
        (
            lambda: protocol_scatter({"models": [{"model": "a", "pt": {"x": 1.0, "y": None}}]}, {}),
            "under x and",
        ),
    ],
)
def test_a_sentence_where_a_plot_would_mislead(make, told):
    plot = make()
    assert told in plot.detail
    assert not plot.panels
