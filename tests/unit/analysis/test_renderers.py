"""A figure as print and screen draw it: where marks come to lie, what is written, and the files."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from advalign.analysis.drawing import MARKERS, draw, save
from advalign.analysis.figures import twin_bars
from advalign.analysis.groups import FURTHER_MARKERS, LOOKS
from advalign.analysis.interactive import interact
from advalign.analysis.plots import DASHES, Arrow, Axis, Band, Bars, Line, Panel, Plot, Points, Words
from advalign.analysis.scatter import against_accuracy, pt_aa_plane
from advalign.errors import InputError
from tests.unit.analysis.made_up import TWINS, pair, small

pytestmark = pytest.mark.filterwarnings("error")


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


def everything() -> Plot:
    """Two panels with a mark of each kind."""
    points = Points(
        np.array([1.0, 10.0]), np.array([3.0, 5.0]), "#D55E00", "x", "robust (2)", ["a", "$b$"],
        np.array([0.5, np.nan]), None, 60.0, 0.5,
    )  # fmt: skip
    ring = Points(np.array([10.0]), np.array([5.0]), "#222222", "circle", "ringed", area=169.0, hollow=True)
    curve = Line(np.array([1.0, 10.0]), np.array([3.0, 4.0]), "#0072B2", "curve", "a", DASHES[1], 2.0)
    front = Line(np.array([-np.inf, 10.0]), np.array([5.0, 5.0]), label="front", guide=True)
    first = [Band(2, 4, "#F0E442", "people"), front, curve, Arrow((1, 3), (10, 5), "#000000"), points, ring]
    bars = Bars(
        np.array([0.0, 1.0]), np.array([2.0, 3.0]), np.array([0.1, np.nan]), "#56B4E9", "robust (2)", ["a", "b"],
        ["n = 1", "n = 2"],
    )  # fmt: skip
    panels = [
        Panel(Axis("size (l2)", log=True), Axis("share", low=0.0), first, [Words(1, 3, "a"), Words(10, 5, "$b$")]),
        Panel(Axis("mean (l2)", high=4.0), Axis("", ticks=["a", "b"]), [bars, Words(3, 1, "***")]),
    ]
    return Plot("Title", "detail", panels, ["A note."], (11, 5))


# --- print ---------------------------------------------------------------------------------------------------------


def test_print_has_every_mark_at_its_place():
    left, right = draw(everything()).axes
    points, ring = left.collections[-2:]
    assert points.get_offsets().tolist() == [[1, 3], [10, 5]]
    assert (points.get_sizes().tolist(), to_hex(points.get_facecolor()[0])) == ([60], "#d55e00")
    assert (ring.get_offsets().tolist(), len(ring.get_facecolor())) == ([[10, 5]], 0)
    lines = {line.get_label(): line for line in left.lines}
    assert lines["curve"].get_xydata().tolist() == [[1, 3], [10, 4]]
    assert lines["front"].get_xydata().tolist() == [[left.get_xlim()[0], 5], [10, 5]]
    (band,) = left.patches
    assert (band.get_x(), band.get_width()) == (2, 2)
    (arrow,) = [note for note in left.texts if not note.get_text()]
    assert (arrow.xyann, arrow.xy) == ((1, 3), (10, 5))
    assert (left.get_xscale(), left.get_ylim()[0], right.get_xlim()[1]) == ("log", 0, 4)
    assert [bar.get_width() for bar in right.patches] == [2, 3]
    assert [tick.get_text() for tick in right.get_yticklabels()] == ["a", "b"]
    assert right.get_ylim()[0] > right.get_ylim()[1]


def test_print_says_title_detail_notes_names_and_one_legend_entry_per_label():
    figure = draw(everything())
    for told in ("Title\n", "detail", "A note.", "size (l2)", "share", "a", "$b$", "***"):
        assert told in texts(figure)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["robust (2)", "ringed", "front", "curve", "people"]


def test_names_in_print_do_not_overlap():
    figure = draw(pt_aa_plane(small(), TWINS))
    figure.draw_without_rendering()
    labels = [text for text in figure.findobj(Annotation) if text.get_text()]
    assert {label.get_text() for label in labels} == set(small()["model"])
    boxes = [text.get_window_extent() for text in labels]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_every_marker_can_be_printed():
    assert {*(look.marker for look in LOOKS.values()), *FURTHER_MARKERS} == set(MARKERS)


def test_without_panels_the_sentence_is_printed(tmp_path):
    figure = draw(Plot("Title", "Nothing here."))
    assert texts(figure) == ["Title", "Nothing here."]
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
        assert "ρ = nan" not in figure.detail
        if figure.panels:
            interact(figure)


# --- screen --------------------------------------------------------------------------------------------------------


def test_screen_has_every_mark_at_its_place():
    figure = interact(everything())
    front, curve, points, ring, bars = figure.data
    assert (list(front.x), list(front.y)) == ([10], [5])  # the edge of the panel moves with the zoom
    assert (list(curve.x), list(curve.y), curve.meta, curve.line.color) == ([1, 10], [3, 4], "a", "#0072B2")
    assert curve.line.dash == "9.9px,4.3px"
    assert (list(points.x), list(points.y), list(points.customdata)) == ([1, 10], [3, 5], ["a", "$b$"])
    assert (points.marker.color, points.marker.symbol, points.marker.opacity) == ("#D55E00", "x", 0.5)
    assert (points.error_x.array[0], points.error_x.color, points.error_y.array) == (0.5, "rgba(213,94,0,0.30)", None)
    assert points.hovertemplate == "%{customdata}<br>size %{x:.3f}<br>share %{y:.3f}<extra></extra>"
    assert ring.marker.symbol == "circle-open"
    assert (list(bars.x), list(bars.y), list(bars.hovertext), bars.xaxis) == ([2, 3], [0, 1], ["n = 1", "n = 2"], "x2")
    (band,) = figure.layout.shapes
    assert (band.x0, band.x1, band.name) == (2, 4, "people")
    arrow, note = figure.layout.annotations
    assert (arrow.ax, arrow.ay, arrow.x, arrow.y, arrow.axref) == (0, 3, 1, 5, "x")  # of a logarithm: the exponent
    assert (note.text, note.x, note.y, note.xref) == ("***", 3, 1, "x2")


def test_screen_has_axes_and_one_legend_entry_per_label():
    figure = interact(everything())
    assert [trace.name for trace in figure.data if trace.showlegend] == ["front", "curve", "robust (2)", "ringed"]
    left, right = figure.layout.xaxis, figure.layout.xaxis2
    assert (left.type, left.title.text, right.range) == ("log", "size (l2)", (None, 4.0))
    assert (figure.layout.yaxis.range, figure.layout.yaxis2.range) == ((0.0, None), (1.5, -0.5))
    assert figure.layout.yaxis2.ticktext == ("a", "b")


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
    figure = draw(twin_bars([pair()], "pt", {"test_resnet.harmonized": "harmonized"}))

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
        save(twin_bars([], "pt", {}), tmp_path / "figure.pdf")


def test_no_global_figure_state_is_loaded():
    code = "import sys, advalign.analysis.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
