"""A study of both remedies: table and front, the comparisons with the parents, the answer's sentences, the figure."""

import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Annotation, Text
from scipy import stats

from advalign.analysis.drawing import draw, save
from advalign.analysis.groups import look
from advalign.analysis.plots import Line, Points
from advalign.analysis.statistics import holm
from advalign.analysis.study import Cell, against_parents, answer, study_figure, study_norm, study_table
from advalign.analysis.zoo import plain
from advalign.errors import InputError
from advalign.vocabulary import in_norm

pytestmark = pytest.mark.filterwarnings("error")

N = 60
PLAUSIBLE = {
    (0, 0): (0.46, 0.25, 0.83),
    (0.5, 0): (0.47, 0.38, 0.825),
    (2, 0): (0.48, 0.45, 0.815),
    (8, 0): (0.49, 0.48, 0.81),
    (0, 0.5): (1.32, 0.44, 0.82),
    (0, 1): (2.06, 0.48, 0.80),
    (0, 2): (2.57, 0.49, 0.72),
    (0.5, 0.5): (1.38, 0.48, 0.805),
    (0.5, 1): (2.02, 0.515, 0.79),
    (0.5, 2): (2.50, 0.51, 0.72),
    (2, 0.5): (1.46, 0.515, 0.795),
    (2, 1): (2.00, 0.54, 0.775),
    (2, 2): (2.42, 0.525, 0.715),
    (8, 0.5): (1.52, 0.53, 0.77),
    (8, 1): (1.95, 0.55, 0.75),
    (8, 2): (2.30, 0.53, 0.70),
}


def cell(lambda_1, eps, pt=1.0, aa=0.3, accuracy=0.8, seed=0, **metrics):
    """A cell whose rows have about these means; small noise, so that 0.2 more is shown and 0 more is not."""
    generator = np.random.default_rng([seed, int(lambda_1 * 100), int(eps * 100)])
    rows = pd.DataFrame({"stimulus": range(N), "status": "ok", "protocol": "fmn-fast"})
    rows["norm_l2"] = pt + centred(generator.normal(0, 0.1, N))
    rows["rho_released"] = aa + centred(generator.normal(0, 0.1, N))
    found = {
        "perturbation_tolerance": pt,
        "perturbation_tolerance_sem": 0.03,
        "adversarial_human_alignment": aa,
        "adversarial_human_alignment_sem": 0.01,
        "adversarial_human_alignment_raw": aa * 0.86,
        "adversarial_human_alignment_raw_sem": 0.0086,
        "multilabel_accuracy": accuracy,
        "top1_accuracy": None if accuracy is None else accuracy - 0.01,
        "n_valid": float(N),
    }
    return Cell(lambda_1, eps, f"m{lambda_1:g}_e{eps:g}", found | metrics, rows)


def centred(noise):
    return noise - noise.mean()


def grid():
    return [cell(*place, *values) for place, values in PLAUSIBLE.items()]


def compare(*cells, **changes):
    return against_parents(list(cells), **{"seed": 0, "resamples": 50, "ceiling": None} | changes)


def family(combined, robust=(1.0, 0.3, 0.8), harmonized=(1.0, 0.3, 0.8)):
    """Baseline, both parents and a combined cell, each of (PT, AA, accuracy)."""
    return [cell(0, 0), cell(0, 1, *robust), cell(2, 0, *harmonized), cell(2, 1, *combined)]


def test_a_cell_is_named_by_its_remedies():
    places = [(0, 0), (2, 0), (0, 1), (2, 1)]
    assert [cell(*place).remedy for place in places] == ["baseline", "harmonized", "robust", "combined"]


def test_table_has_a_row_per_cell_by_eps_and_then_lambda():
    table = study_table(family((2.0, 0.5, 0.7))[::-1])
    assert list(table.columns) == (
        ["name", "lambda_1", "eps", "remedy", "n_valid", "pt", "pt_sem", "aa", "aa_sem", "accuracy", "on_front"]
    )
    assert table["name"].tolist() == ["m0_e0", "m2_e0", "m0_e1", "m2_e1"]
    assert table.iloc[3, 1:].tolist() == [2.0, 1.0, "combined", N, 2.0, 0.03, 0.5, 0.01, 0.7, True]
    assert table["n_valid"].dtype.kind == "i"


@given(st.lists(st.tuples(*[st.integers(0, 3).map(lambda k: k / 4)] * 3), min_size=1, max_size=9))
@settings(max_examples=15, deadline=None)
def test_front_of_the_table_is_what_no_cell_dominates(values):
    table = study_table([cell(place % 3, place // 3, *found) for place, found in enumerate(values)])
    points = list(table[["pt", "aa", "accuracy"]].itertuples(index=False, name=None))
    reached = [[q for q in points if q != p and all(b >= a for a, b in zip(p, q, strict=True))] for p in points]
    assert table["on_front"].tolist() == [not others for others in reached]


def test_one_accuracy_and_one_alignment_for_the_whole_study():
    lacking = {"multilabel_accuracy": None, "adversarial_human_alignment": math.nan}
    table = study_table([cell(0, 0, **lacking), cell(2, 0, **lacking)])
    assert table["accuracy"].tolist() == pytest.approx([0.79, 0.79])
    assert table["aa"].tolist() == pytest.approx([0.258, 0.258])
    assert table["aa_sem"].tolist() == pytest.approx([0.0086, 0.0086])
    table = study_table([cell(0, 0, **lacking), cell(2, 0)])
    assert table["accuracy"].tolist() == pytest.approx([math.nan, 0.8], nan_ok=True)
    assert table["aa"].tolist() == pytest.approx([math.nan, 0.3], nan_ok=True)
    assert table["on_front"].tolist() == [False, True]


def test_an_empty_study_has_an_empty_table():
    table = study_table([])
    assert (len(table), table["on_front"].dtype) == (0, bool)
    assert compare() == []
    assert answer([], table).startswith("No cell has PT, AA and accuracy: there is no front. No cell combines both")


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ([Cell(-1, 0, "x", {}, pd.DataFrame())], "x: lambda_1 -1, eps 0; give finite numbers"),
        ([cell(0, 1), Cell(0, math.nan, "x", {}, pd.DataFrame())], "x: lambda_1 0, eps nan"),
        (
            [cell(2, 1), Cell(2.0, 1.0, "x", {}, pd.DataFrame())],
            r"2 cells of the study have the lambda_1 and eps \(2, 1\)",
        ),
        ([cell(2, 1), Cell(0, 0, "m2_e1", {}, pd.DataFrame())], "2 cells of the study have the name m2_e1"),
    ],
)
def test_bad_grids_are_refused(cells, told):
    for refuse in (study_table, lambda found: compare(*found)):
        with pytest.raises(InputError, match=told):
            refuse(cells)


# --- against the parents -------------------------------------------------------------------------------------------


def test_tests_are_scipys_over_the_stimuli_both_got_right_with_holm_over_the_study():
    cells = [cell(*place, *PLAUSIBLE[place]) for place in [(0, 0.5), (0, 1), (2, 0), (2, 0.5), (2, 1)]]
    generator = np.random.default_rng(5)
    for one in cells:
        one.rows.loc[generator.random(N) < 0.2, "status"] = "misclassified_clean"
    by_place = {(one.lambda_1, one.eps): one for one in cells}
    entries = compare(*cells, ceiling=0.86)
    expected = [(2, 0.5, 0, 0.5), (2, 0.5, 2, 0), (2, 1, 0, 1), (2, 1, 2, 0)]
    assert [(entry["cell"], entry["parent"], entry["parent_remedy"]) for entry in entries] == [
        (by_place[place[:2]].name, by_place[place[2:]].name, by_place[place[2:]].remedy) for place in expected
    ]
    p_values = []
    for entry, place in zip(entries, expected, strict=True):
        frames = [by_place[place[side]].rows.query("status == 'ok'") for side in (slice(2), slice(2, 4))]
        both = frames[0].merge(frames[1], on="stimulus", suffixes=("", "_parent"))
        for metric, column, scale in (("pt", "norm_l2", 1.0), ("aa", "rho_released", 0.86)):
            found = stats.ttest_rel(both[column], both[f"{column}_parent"])
            test = entry[metric]
            assert test["n"] == len(both) < N
            assert (test["t"], test["p"]) == pytest.approx((found.statistic, found.pvalue))
            difference = (both[column] - both[f"{column}_parent"]).mean() / scale
            assert test["difference"] == pytest.approx(difference)
            p_values.append(found.pvalue)
        accuracy = [PLAUSIBLE[part][2] for part in (place[:2], place[2:])]
        assert entry["accuracy_difference"] == pytest.approx(accuracy[0] - accuracy[1])
    corrected = [entry[metric]["p_holm"] for entry in entries for metric in ("pt", "aa")]
    assert corrected == pytest.approx(holm(p_values).tolist())
    json.dumps(plain(entries), allow_nan=False)


@pytest.mark.parametrize(
    ("combined", "beyond", "why"),
    [
        ((1.2, 0.3, 0.8), True, []),
        ((1.0, 0.5, 0.8), True, []),
        ((1.2, 0.5, 0.9), True, []),
        ((1.2, 0.3, 0.78), True, []),  # 0.8 - 0.78 is more than 0.02 in binary
        ((1.2, 0.3, 0.779), False, ["accuracy falls by over 0.02"]),
        ((1.0, 0.3, 0.9), False, ["neither PT nor AA is larger"]),
        ((1.5, 0.1, 0.8), False, ["AA is smaller"]),
        ((0.8, 0.9, 0.8), False, ["PT is smaller"]),
        ((0.8, 0.1, 0.7), False, ["PT is smaller", "AA is smaller", "accuracy falls by over 0.02"]),
        ((1.2, 0.3, None), None, ["no comparison of accuracy with robust alone"]),
        ((0.8, 0.3, None), False, ["PT is smaller"]),
        ((1.2, math.nan, 0.8), None, ["no comparison of AA with robust alone"]),
        ((1.2, math.nan, 0.7), False, ["accuracy falls by over 0.02"]),
    ],
)
def test_what_it_takes_to_go_beyond_a_parent(combined, beyond, why):
    robust, harmonized = compare(*family(combined))
    assert (robust["parent_remedy"], harmonized["parent_remedy"]) == ("robust", "harmonized")
    assert (robust["beyond"], robust["why"]) == (beyond, why)
    assert harmonized["beyond"] == beyond


def test_the_allowed_drop_can_be_chosen():
    found = [compare(*family((1.2, 0.3, 0.75)), largest_accuracy_drop=most)[0]["beyond"] for most in (0.04, 0.05, 0.06)]
    assert found == [False, True, True]


def test_larger_means_after_holm_over_the_whole_study():
    parent, child = cell(0, 1), cell(2, 1)
    spread = (child.rows["norm_l2"] - parent.rows["norm_l2"]).std()
    child.rows["norm_l2"] += stats.t.isf(3e-4 / 2, N - 1) * spread / math.sqrt(N)
    (alone, _) = compare(parent, child)
    assert (alone["pt"]["p"], alone["pt"]["p_holm"]) == pytest.approx((3e-4, 6e-4))
    assert alone["beyond"] is True
    entries = compare(parent, child, cell(2, 0), cell(3, 1))
    beside = entries[0]
    assert (beside["cell"], beside["parent"]) == ("m2_e1", "m0_e1")
    p_values = [entry[metric]["p"] for entry in entries if entry["parent"] for metric in ("pt", "aa")]
    assert len(p_values) == 6
    assert 1e-3 < beside["pt"]["p_holm"] == pytest.approx(holm(p_values)[0])
    assert (beside["beyond"], beside["why"]) == (False, ["neither PT nor AA is larger"])


def test_parents_that_are_not_there_decide_nothing():
    robust, harmonized = compare(cell(0, 1), cell(2, 1, 1.5))
    assert robust["beyond"] is True
    assert (harmonized["parent"], harmonized["pt"], harmonized["beyond"]) == (None, None, None)
    assert harmonized["why"] == ["harmonized alone is not in the study"]
    assert math.isnan(harmonized["accuracy_difference"])


# --- the answer ----------------------------------------------------------------------------------------------------


def told(*cells):
    table, entries = study_table(cells), compare(*cells)
    found = answer(entries, table)
    assert answer(json.loads(json.dumps(plain(entries))), table) == found
    assert "nan" not in found
    assert found.count(". ") <= 2
    return found


def test_answer_when_one_goes_beyond_both():
    assert told(*family((1.5, 0.5, 0.79), harmonized=(1.0, 0.4, 0.8))) == (
        "On the front of PT, AA and accuracy lie 1 of 1 combined cell and 1 of 3 other cells. Both remedies together "
        "go beyond each alone in 1 of 1 combined cell (lambda_1, eps): (2, 1), against robust alone by PT +0.500, AA "
        "+0.200, accuracy -0.010, against harmonized alone by PT +0.500, AA +0.100, accuracy -0.010."
    )


def test_answer_counts_both_one_and_neither_with_ranges_and_reasons():
    found = told(
        *(cell(0, eps) for eps in (0, 1)),
        *(cell(k, 0) for k in (2, 3, 4)),
        cell(5, 0, 1.5, 0.5),
        cell(2, 1, 1.5),
        cell(3, 1, 2.0, 0.5),
        cell(4, 1, 1.5, accuracy=0.7),
        cell(5, 1, 1.5, 0.5),
    )
    assert (
        "in 2 of 4 combined cells (lambda_1, eps): (2, 1), (3, 1), against robust alone by PT +0.500 to +1.000" in found
    )
    assert "; 1 beyond neither: (4, 1); 1 beyond robust alone only: (5, 1)." in found
    assert found.endswith(
        "Of 8 comparisons with one remedy alone (paired t, Holm, p < 0.001), accuracy falls by over 0.02 in 2, "
        "neither PT nor AA is larger in 1."
    )


def test_answer_when_none_does():
    found = told(*family((1.0, 0.3, 0.7)))
    assert "lie 0 of 1 combined cell and 3 of 3 other cells." in found
    assert "beyond each alone in none of 1 combined cell (lambda_1, eps); 1 beyond neither: (2, 1)." in found


def test_answer_without_a_combined_cell():
    assert told(cell(0, 0), cell(2, 0, aa=0.5, accuracy=0.7)) == (
        "On the front of PT, AA and accuracy lie 2 of 2 cells. "
        "No cell combines both remedies: whether they go beyond each alone stays open."
    )


def test_answer_without_parents():
    alone = told(cell(0, 0), cell(2, 1, 1.5), cell(3, 1, 1.4))
    assert "beyond each alone in no cell for certain (lambda_1, eps)" in alone
    missing = "robust alone is not in the study, harmonized alone is not in the study"
    assert f"; 2 open ({missing}): (2, 1), (3, 1)." in alone
    only = told(cell(0, 1), cell(2, 1, 1.5))
    assert "; 1 open (beyond robust alone, harmonized alone is not in the study): (2, 1)." in only
    fails = told(cell(0, 1), cell(2, 1))
    assert "in none of 1 combined cell" in fails
    assert "; 1 not beyond both (not beyond robust alone, harmonized alone is not in the study): (2, 1)." in fails
    orphan = study_table([cell(2, 1)])
    assert "; 1 open (no comparison with robust alone, no comparison with harmonized alone)" in answer([], orphan)


def test_answer_with_missing_values():
    found = told(*family((1.5, 0.5, None)))
    assert "lie 0 of 1 combined cell and 3 of 3 other cells (1 cannot, for lack of one of the three)." in found
    assert "1 open (no comparison of accuracy with robust alone, no comparison of accuracy with harmonized" in found
    nothing = {"multilabel_accuracy": None, "top1_accuracy": None}
    cells = [cell(*place, **nothing) for place in ((0, 0), (0, 1), (2, 0), (2, 1))]
    assert told(*cells).startswith("No cell has PT, AA and accuracy: there is no front. Both remedies")
    dead = cell(2, 1)
    dead.rows["status"] = "misclassified_clean"
    assert "open (no comparison of PT and AA with robust alone" in told(cell(0, 1), cell(2, 0), dead)


# --- the figure ----------------------------------------------------------------------------------------------------


def marks(plot, kind):
    return [mark for mark in plot.panels[0].marks if isinstance(mark, kind)]


def texts(plot):
    return [label.text for label in plot.panels[0].labels]


@pytest.fixture(scope="module")
def sixteen():
    table = study_table(grid())
    return table, study_figure(table)


def test_figure_of_sixteen_cells(sixteen):
    table, plot = sixteen
    *drawn, ring = marks(plot, Points)
    assert {points.label: (points.colour, len(points.x)) for points in drawn} == {
        "robust (3)": (look("robust").colour, 3),
        "harmonized (3)": (look("harmonized").colour, 3),
        "harmonized + robust (9)": (look("combined").colour, 9),
        "baseline (1)": (look("baseline").colour, 1),
    }
    on_front = table[table["on_front"]]
    assert 0 < len(on_front) < 16
    assert (ring.x.tolist(), ring.y.tolist()) == (on_front["pt"].tolist(), on_front["aa"].tolist())
    assert (ring.label, ring.hollow) == (f"on the front ({len(on_front)})", True)
    rows = table[["lambda_1", "eps", "accuracy"]].itertuples(index=False)
    assert texts(plot) == [f"({a:g}, {b:g})\n{c:.1%}" for a, b, c in rows]
    assert {line.label: line.x.tolist() for line in marks(plot, Line)} == {
        f"λ₁ = {k:g}, eps grows": table[table["lambda_1"] == k].sort_values("eps")["pt"].tolist()
        for k in (0, 0.5, 2, 8)
    }
    assert len({line.dash for line in marks(plot, Line)}) == 4
    assert "ringed: front of PT, AA and accuracy" in plot.detail


def test_labels_overlap_neither_each_other_nor_a_point(sixteen):
    table, plot = sixteen
    figure = draw(plot)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in figure.findobj(Annotation) if text.get_text()]
    assert len(boxes) == 16
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    points = figure.axes[0].transData.transform(table[["pt", "aa"]].to_numpy())
    assert not any(box.contains(*point) for box in boxes for point in points)


def test_cells_that_lack_a_value_are_left_out_or_said():
    cells = [*family((1.5, 0.5, None)), cell(3, 1, perturbation_tolerance=None)]
    plot = study_figure(study_table(cells))
    assert plot.notes == ["1 cell without PT or AA cannot be shown."]
    assert "(2, 1)\nno accuracy" in texts(plot)
    assert len(texts(plot)) == 4


@pytest.mark.parametrize("cells", [[], [cell(0, 0)], [cell(0, 0), cell(2, 0, perturbation_tolerance=math.nan)]])
def test_a_sentence_where_there_is_nothing_to_compare(cells):
    plot = study_figure(study_table(cells))
    assert not plot.panels
    assert f"of {len(cells)} cell" in plot.detail


@pytest.mark.parametrize(
    "cells",
    [
        [cell(0, 0), cell(2, 1)],
        [cell(0, 0, 0.1), cell(0, 1, 3.0), cell(0, 2, 5.0)],
        [cell(k, e, 1 + e, 0.3 + k / 100) for k in range(8) for e in range(2)],
        [cell(0, 0, 1.0, accuracy=None, top1_accuracy=None), cell(0, 1, 2.0, accuracy=None, top1_accuracy=None)],
        [cell(0, k, 1 + k, perturbation_tolerance_sem=None, adversarial_human_alignment_sem=None) for k in range(3)],
    ],
    ids=["one spot", "log scale", "eight lambdas", "no accuracy, no front", "no errors"],
)
def test_poor_grids_are_drawn_without_warnings(tmp_path, cells):
    plot = study_figure(study_table(cells))
    *drawn, _ring = marks(plot, Points)
    assert sum(len(points.x) for points in drawn) == len(texts(plot)) == len(cells)
    save(plot, tmp_path / "study.png")


def test_neither_torch_nor_mlflow_is_loaded():
    code = (
        "import sys, advalign.analysis.study; sys.exit(bool({'torch', 'mlflow', 'matplotlib.pyplot'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert mpl.rcParams["text.parse_math"]


def test_a_study_in_linf_is_the_same_study_in_grey_levels():
    def linf(one):
        metrics = {in_norm(name, "linf").name: value for name, value in one.metrics.items()}
        rows = one.rows.rename(columns={"norm_l2": "norm_linf"}).assign(norm_linf=one.rows["norm_l2"] / 255)
        return replace(one, metrics=metrics, rows=rows)

    cells = grid()
    found = study_table([linf(one) for one in cells])
    pd.testing.assert_frame_equal(found, study_table(cells))
    asked = {"seed": 0, "resamples": 100, "ceiling": 0.86}
    entries, wanted = against_parents([linf(one) for one in cells], **asked), against_parents(cells, **asked)
    assert [one["beyond"] for one in entries] == [one["beyond"] for one in wanted]
    assert entries[0]["pt"]["difference"] == pytest.approx(wanted[0]["pt"]["difference"])
    assert "linf norm, 1/255" in study_figure(found, study_norm([linf(cells[0])])).panels[0].x.title
