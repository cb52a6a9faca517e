"""What the figures show, by value: points, front, arrows, stars, sentences in place of plots, saving."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Annotation

from advalign.analysis.drawing import COLOURS, kinds_by_model
from advalign.analysis.figures import against_accuracy, pt_aa_plane, robust_accuracy_curves, save, twin_bars
from advalign.analysis.pareto import pareto_front
from advalign.analysis.table import STANDARD
from advalign.errors import InputError

pytestmark = pytest.mark.filterwarnings("error")

TWINS = [
    ("test_resnet.baseline", "test_resnet.harmonized"),
    ("test_resnet.baseline", "test_resnet_l2_eps1"),
    ("test_resnet.baseline", "test_resnet_l2_eps0.5.combined"),
    ("test_vit.baseline", "test_vit.harmonized"),
]


def small():
    rows = [
        ("test_resnet.baseline", 0.49, 0.45, 0.943, "cnn"),
        ("test_resnet.harmonized", 0.46, 0.77, 0.943, "harmonized"),
        ("test_resnet_l2_eps1", 2.09, 0.78, 0.935, "robust"),
        ("test_resnet_l2_eps2", 2.64, 0.78, 0.850, "robust"),
        ("test_resnet_l2_eps0.5.combined", 1.64, 0.81, 0.899, "robust"),
        ("test_vit.baseline", 0.62, 0.38, 0.900, "vit"),
        ("test_vit.harmonized", 0.58, 0.66, 0.895, "harmonized"),
    ]
    table = pd.DataFrame(rows, columns=["model", "pt", "aa", "multilabel_accuracy", "group"])
    return table.assign(big_data=0, pt_sem=0.04, aa_sem=0.02, protocol="fmn-fast")


def large(n=351):
    generator = np.random.default_rng(0)
    accuracy = generator.uniform(70, 91, n)
    table = pd.DataFrame({"model": [f"net_{place}" for place in range(n)], "multilabel_accuracy": accuracy})
    table["pt"] = 1 + (accuracy - 70) ** 2 / 200 + generator.uniform(0, 0.3, n)
    table["aa"] = 0.2 - (accuracy - 70) ** 2 / 2000 + generator.normal(0, 0.02, n)
    table["group"] = np.resize(STANDARD, n)
    return table.assign(big_data=0, pt_sem=0.03, aa_sem=0.01)


def texts(figure: Figure) -> str:
    found = [text.get_text() for text in figure.findobj(mpl.text.Text)]
    return "\n".join(text for text in found if text)


def names_beside_points(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Annotation) if text.get_text()}


def pair(metric="pt", twin="test_resnet.harmonized", **changes):
    entry = {"baseline": "test_resnet.baseline", "twin": twin, "metric": metric, "n": 40, "protocol": "fmn-fast"}
    numbers = {
        "baseline_mean": 0.5,
        "baseline_sem": 0.02,
        "twin_mean": 0.7,
        "twin_sem": 0.03,
        "p": 1e-5,
        "ceiling": None,
    }
    return {**entry, **numbers, **changes}


# --- the plane -----------------------------------------------------------------------------------------------------


def test_plane_names_every_model_of_a_small_table_without_overlap():
    figure = pt_aa_plane(small(), TWINS)
    assert names_beside_points(figure) == set(small()["model"])
    figure.draw_without_rendering()
    labels = [text for text in figure.findobj(Annotation) if text.get_text()]
    boxes = [text.get_window_extent() for text in labels]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_plane_draws_the_front_of_the_standard_models_as_steps():
    axes = pt_aa_plane(small(), TWINS).axes[0]
    (front,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    left, bottom = axes.get_xlim()[0], axes.get_ylim()[0]
    assert front.get_xdata().tolist() == pytest.approx([left, 0.49, 0.49, 0.62, 0.62])
    assert front.get_ydata().tolist() == pytest.approx([0.45, 0.45, 0.38, 0.38, bottom])


def test_plane_draws_an_arrow_from_each_baseline_to_its_twin_in_the_twins_colour():
    axes = pt_aa_plane(small(), TWINS).axes[0]
    arrows = [note for note in axes.texts if not note.get_text() and isinstance(note.arrow_patch, FancyArrowPatch)]
    places, kinds = small().set_index("model"), kinds_by_model(small())
    assert len(arrows) == len(TWINS)
    for arrow, (baseline, twin) in zip(arrows, TWINS, strict=True):
        assert tuple(arrow.xy) == pytest.approx(tuple(places.loc[twin, ["pt", "aa"]]))
        assert tuple(arrow.xyann) == pytest.approx(tuple(places.loc[baseline, ["pt", "aa"]]))
        assert to_hex(arrow.arrow_patch.get_edgecolor()).upper() == COLOURS[kinds[twin]].upper()


def test_a_group_that_a_recipe_has_of_its_own_has_a_colour_a_name_and_no_part_in_the_front():
    rows = [("resnet18.noisy0.1", 5.0, 0.95, 0.9, "noisy"), ("resnet18.blurred", 4.0, 0.9, 0.9, "blurred")]
    columns = ["model", "pt", "aa", "multilabel_accuracy", "group"]
    table = pd.concat([small(), pd.DataFrame(rows, columns=columns).assign(big_data=0)], ignore_index=True)
    figure = pt_aa_plane(table.assign(protocol="fmn-fast"), [("test_resnet.baseline", "resnet18.noisy0.1")])
    told = texts(figure)
    assert "noisy (1)" in told
    assert "blurred (1)" in told
    assert "standard (" not in told
    colours = {to_hex(colour).upper() for found in figure.axes[0].collections for colour in found.get_facecolor()}
    assert {COLOURS["noisy"], COLOURS["blurred"]} <= colours
    assert COLOURS["noisy"] not in dict(COLOURS).values()
    (front,) = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert max(front.get_xdata()) == pytest.approx(0.62)


def test_plane_says_rho_protocol_and_what_is_missing():
    told = texts(pt_aa_plane(large().assign(protocol="fmn"), []))
    assert "351 standard models; protocol fmn" in told
    assert "p < 0.001" in told
    assert "no arrows" in told
    told = texts(pt_aa_plane(small().assign(pt=lambda t: t["pt"].where(t.index != 3)), [*TWINS, ("a", "b")]))
    assert "1 of 7 models has no PT or AA" in told
    assert "1 of 5 twins have no point here" in told
    assert "2 standard models: too few" in told


def test_plane_of_a_large_zoo_names_only_what_stands_out():
    table = large()
    front = set(table["model"][pareto_front(table["pt"], table["aa"])])
    assert names_beside_points(pt_aa_plane(table)) <= front
    table = pd.concat([large(), small()[["model", "pt", "aa", "group", "big_data"]]], ignore_index=True)
    assert "test_resnet_l2_eps0.5.combined" in names_beside_points(pt_aa_plane(table, TWINS))


def test_plane_without_standard_models_has_no_front_and_says_so():
    figure = pt_aa_plane(small().query("group == 'robust'"))
    assert "no Pareto front" in texts(figure)
    assert not [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]


# --- against accuracy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["pt", "aa"])
def test_accuracy_figure_has_band_fit_and_figures(metric):
    table = large()
    figure = against_accuracy(table, metric)
    axes = figure.axes[0]
    (band,) = axes.patches
    assert (band.get_x(), band.get_width()) == pytest.approx((95.14 - 2.02, 4.04))
    (fit,) = [line for line in axes.lines if len(line.get_xdata()) == 200]
    expected = np.polyfit(table["multilabel_accuracy"], table[metric], 2)
    assert fit.get_ydata() == pytest.approx(np.polyval(expected, fit.get_xdata()), rel=1e-6, abs=1e-9)
    assert "351 standard models" in texts(figure)


def test_shares_and_percent_give_the_same_figure():
    in_percent = small().assign(multilabel_accuracy=small()["multilabel_accuracy"] * 100)
    limits = [against_accuracy(table, "pt").axes[0].get_xlim() for table in (small(), in_percent)]
    assert limits[0] == pytest.approx(limits[1])


def test_accuracy_figure_counts_models_without_accuracy_and_refuses_other_metrics():
    table = large()
    table.loc[:45, "multilabel_accuracy"] = np.nan
    assert "46 of 351 models have no PT or multi-label accuracy" in texts(against_accuracy(table, "pt"))
    with pytest.raises(InputError, match="unknown metric 'ptt'; did you mean 'pt'"):
        against_accuracy(table, "ptt")


# --- twins and curves ----------------------------------------------------------------------------------------------


def test_bars_have_the_means_and_the_stars():
    entries = [pair(), pair(twin="test_resnet_l2_eps1", p=0.004), pair(twin="x.combined", p=0.3), pair(metric="aa")]
    figure = twin_bars(entries, "pt")
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == pytest.approx([0.5, 0.7] * 3)
    told = texts(figure)
    assert "***  n = 40" in told
    assert "\n**  n = 40" in told
    assert "n.s.  n = 40" in told
    assert "protocol fmn-fast" in told
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["test_resnet.harmonized", "test_resnet_l2_eps1", "x.combined"]


def test_bars_of_alignment_name_their_unit():
    assert "share of the human ceiling" in texts(twin_bars([pair(metric="aa", ceiling=0.66)], "aa"))
    assert "Spearman's ρ" in texts(twin_bars([pair(metric="aa")], "aa"))


def test_bars_without_p_show_a_question_mark_and_pairs_without_means_are_counted():
    figure = twin_bars([pair(p=None, twin_sem=None), pair(twin_mean=None)], "pt")
    assert "?  n = 40" in texts(figure)
    assert "1 pair cannot be shown" in texts(figure)


def test_curves_are_drawn_in_order_of_eps():
    eps, accuracy = np.array([2.0, 0, 1, 3]), np.array([0.3, 0.9, 0.5, np.nan])
    figure = robust_accuracy_curves(
        {"a.baseline": (eps, accuracy), "a.harmonized": ([0, 1], [0.9, 0.8]), "b": ([], [])},
        {"a.harmonized": "harmonized"},
    )
    by_colour = {to_hex(line.get_color()).upper(): line for line in figure.axes[0].lines}
    line = by_colour[COLOURS["standard"].upper()]
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0, 1, 2], [0.9, 0.5, 0.3])
    assert COLOURS["harmonized"].upper() in by_colour
    assert "No curve for b." in texts(figure)
    coloured = robust_accuracy_curves({"a.baseline": (eps, accuracy)}, {"a.baseline": "vit"})
    assert to_hex(coloured.axes[0].lines[0].get_color()).upper() == COLOURS["vit"].upper()


def test_many_curves_have_a_legend_of_kinds():
    curves = {f"net_{place}": ([0, 1], [1.0, 0.1]) for place in range(20)} | {"n_l2_eps1": ([0, 1], [1.0, 0.5])}
    told = texts(robust_accuracy_curves(curves, {"n_l2_eps1": "robust"}))
    assert "standard (20)" in told
    assert "robust (1)" in told
    assert "net_3" not in told


def test_curves_of_different_length_are_refused():
    with pytest.raises(InputError, match="curve of a: 2 eps but 1 accuracies"):
        robust_accuracy_curves({"a": ([0, 1], [0.5])})


# --- degenerate input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: pt_aa_plane(small().iloc[:0]), "None of 0 models has PT and AA"),
        (lambda: pt_aa_plane(small().iloc[:1]), "There is only one model"),
        (lambda: pt_aa_plane(small().assign(aa=np.nan)), "None of 7 models has PT and AA"),
        (lambda: pt_aa_plane(small().assign(pt=1.0, aa=0.5)), "All 7 models with PT and AA have the same values"),
        (lambda: pt_aa_plane(small().assign(aa=lambda t: t["aa"].where(t.index == 0))), "Only one of 7 models has"),
        (lambda: against_accuracy(small().drop(columns="multilabel_accuracy"), "aa"), "multi-label accuracy"),
        (lambda: twin_bars([], "aa"), "No model here has a harmonized, robust or combined twin"),
        (lambda: twin_bars([pair(baseline_mean=None)], "pt"), "shares a stimulus"),
        (lambda: robust_accuracy_curves({}), "No model here has a robust-accuracy curve"),
    ],
)
def test_a_sentence_where_a_plot_would_mislead(tmp_path, make, told):
    figure = make()
    assert told in texts(figure).replace("\n", " ")
    assert not figure.axes
    save(figure, tmp_path / "sentence.png")


@pytest.mark.parametrize(
    "table",
    [
        small().assign(pt=1.0, multilabel_accuracy=0.9),
        small().assign(pt_sem=np.nan),
        small().assign(pt=0.0),
        small().iloc[:2],
        small().drop(columns=["pt_sem", "aa_sem", "protocol"]),
    ],
    ids=["one PT", "no errors", "zero PT", "two models", "bare columns"],
)
def test_poor_tables_are_drawn_without_warnings(tmp_path, table):
    for place, figure in enumerate((pt_aa_plane(table, TWINS), against_accuracy(table, "pt"))):
        save(figure, tmp_path / f"{place}.png")
    assert "ρ = nan" not in texts(figure)


# --- saving --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_same_figure_same_bytes_and_no_date(tmp_path, suffix):
    paths = [save(pt_aa_plane(small(), TWINS), tmp_path / name / f"plane.{suffix}") for name in ("first", "second")]
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert b"dc:date" not in first
    assert b"Software" not in first
    assert [path.name for path in paths[0].parent.iterdir()] == [f"plane.{suffix}"]


def test_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "plane.png"
    path.write_bytes(b"old")
    figure = twin_bars([pair()], "pt")

    def break_half_way(target, **_):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", break_half_way)
    with pytest.raises(OSError, match="disk full"):
        save(figure, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"written as \.png or \.svg, got '\.pdf'"):
        save(twin_bars([], "pt"), tmp_path / "figure.pdf")


def test_no_global_figure_state_is_loaded():
    code = "import sys, advalign.analysis.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
