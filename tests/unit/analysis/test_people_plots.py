"""How well people agree, as figures: what is counted, where lines lie, and sentences in place of plots."""

import matplotlib as mpl
import numpy as np
import pytest

from advalign.analysis.drawing import draw
from advalign.analysis.interactive import interact
from advalign.analysis.people_plots import ceiling_histogram, participants_curve, people_plots
from advalign.analysis.plots import Columns, Line, Points
from tests.unit.analysis.people_made_up import agreement, curve

pytestmark = pytest.mark.filterwarnings("error")


def marks(panel, kind):
    return [mark for mark in panel.marks if isinstance(mark, kind)]


def test_histogram_counts_every_image_once_as_ceiling_and_once_as_floor():
    table = agreement()
    (panel,) = ceiling_histogram(table).panels
    floor, ceiling = marks(panel, Columns)
    assert (floor.label, ceiling.label) == ("floor: another image's half", "ceiling: the other half")
    assert floor.heights.sum() == ceiling.heights.sum() == 40
    assert np.array_equal(floor.edges, ceiling.edges)
    assert floor.edges[0] == pytest.approx(table["spearman_floor"].min())
    assert ceiling.edges[-1] == pytest.approx(table["spearman_ceiling"].max())
    expected = np.histogram(table["spearman_ceiling"], ceiling.edges)[0]
    assert ceiling.heights.tolist() == expected.tolist()


def test_histogram_marks_both_means_and_counts_images_above_their_floor():
    table = agreement()
    plot = ceiling_histogram(table)
    lines = marks(plot.panels[0], Line)
    assert [line.x[0] for line in lines] == pytest.approx([table[f"spearman_{n}"].mean() for n in ("floor", "ceiling")])
    assert plot.notes[0].startswith("38 of 40 images have a ceiling")
    assert "The others are left out" in plot.notes[0]
    (note,) = ceiling_histogram(table.iloc[2:]).notes
    assert note.startswith("38 of 38 images have a ceiling")
    assert "others" not in note
    assert plot.detail.startswith("40 images")


def test_histogram_leaves_out_what_is_unknown():
    table = agreement()
    table.loc[3:5, ["spearman_ceiling", "spearman_floor", "spearman_corrected"]] = np.nan
    (panel,) = ceiling_histogram(table).panels
    assert [mark.heights.sum() for mark in marks(panel, Columns)] == [37, 37]
    table["spearman_floor"] = np.nan
    (panel,) = ceiling_histogram(table).panels
    assert [mark.heights.sum() for mark in marks(panel, Columns)] == [37]
    assert len(marks(panel, Line)) == 1


def test_one_image_is_a_histogram_too():
    table = agreement(1).assign(spearman_floor=0.7, spearman_ceiling=0.7)
    (panel,) = ceiling_histogram(table).panels
    assert [mark.heights.sum() for mark in marks(panel, Columns)] == [1, 1]


def test_curve_has_a_panel_per_measure_and_continues_where_it_was_measured():
    plot = participants_curve(curve())
    assert [panel.y.title for panel in plot.panels] == ["Spearman's ρ", "AUC", "NSS", "earth mover's distance"]
    measured, further = marks(plot.panels[0], Points)
    assert (measured.x.tolist(), measured.y.tolist()) == ([4, 6, 8, 10], [0.5, 0.6, 0.66, 0.7])
    assert (further.x.tolist(), further.y.tolist(), further.hollow) == ([20, 40], [0.8, 0.88], True)
    assert (measured.label, further.label) == ("measured", "extrapolated")
    low, high, line, *beyond = marks(plot.panels[0], Line)
    assert low.y == pytest.approx([0.48, 0.58, 0.64, 0.68])
    assert high.y[0] == 0.53
    assert line.y.tolist() == [0.5, 0.6, 0.66, 0.7]
    assert all(one.x[0] == 10 for one in beyond)  # where the measured ones end
    assert beyond[-1].y.tolist() == [0.7, 0.8, 0.88]
    assert "falls" in plot.notes[0]


def test_curve_without_extrapolation_and_with_one_measure():
    only = {"spearman": curve()["spearman"] | {"extrapolated": []}}
    plot = participants_curve(only)
    (panel,) = plot.panels
    assert [points.label for points in marks(panel, Points)] == ["measured"]
    assert not plot.notes


def test_nothing_to_draw_is_said():
    empty = people_plots(agreement(0), {"spearman": {"participants": []}})
    assert "none is left after cleaning" in empty["people_ceilings"].detail
    assert "no curve" in empty["people_curve"].detail
    assert not any(plot.panels for plot in empty.values())


def test_columns_are_drawn_in_print_and_on_the_screen():
    plot = ceiling_histogram(agreement())
    floor, ceiling = marks(plot.panels[0], Columns)
    drawn = draw(plot)
    patches = drawn.axes[0].findobj(mpl.patches.StepPatch)
    assert [patch.get_data().values.tolist() for patch in patches] == [floor.heights.tolist(), ceiling.heights.tolist()]
    assert mpl.colors.to_hex(patches[1].get_facecolor()) == ceiling.colour.lower()
    entries = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert entries[2:] == [floor.label, ceiling.label]
    traces = interact(plot).data
    outline = next(trace for trace in traces if trace.name == ceiling.label)
    assert outline.fill == "tozeroy"
    assert list(outline.y)[1:-1:2] == ceiling.heights.tolist()
    assert (outline.y[0], outline.y[-1]) == (0, 0)
    assert list(outline.x)[::2] == ceiling.edges.tolist()
