"""The reliability diagram by given predictions: where points lie, what is written, and that both renderers draw it."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from advalign.analysis.drawing import draw
from advalign.analysis.interactive import interact
from advalign.analysis.plots import Line, Points
from advalign.analysis.reliability import reliability_diagram


def rows(confidence, right):
    return pd.DataFrame({"label": 1, "prediction": np.where(right, 1, 2), "probability_top": confidence})


def test_points_by_hand():
    """Six images in the bin [9/15, 10/15), five in the last one, which has 1 in it; one alone, which is not drawn."""
    sure = [0.61, 0.62, 0.66] * 2 + [0.95, 1.0, 0.95, 1.0, 1.0] + [0.5]
    table = rows(sure, [True, False, False] * 2 + [True, False, False, True, True] + [True])
    plot = reliability_diagram({"a.baseline": table, "none": table.iloc[:0]}, {"a.baseline": "cnn", "none": "cnn"})
    marks = plot.panels[0].marks
    (line,) = [mark for mark in marks if isinstance(mark, Line) and mark.name == "a.baseline"]
    (points,) = [mark for mark in marks if isinstance(mark, Points)]
    for mark in (line, points):
        np.testing.assert_allclose(mark.x, [0.63, 0.98])
        np.testing.assert_allclose(mark.y, [1 / 3, 3 / 5])
    intervals = [stats.binomtest(*one).proportion_ci(method="wilson") for one in ((2, 6), (3, 5))]
    np.testing.assert_allclose(points.y_error, [(one.high - one.low) / 2 for one in intervals])
    error = (6 * (0.63 - 1 / 3) + 5 * (0.98 - 0.6) + (1 - 0.5)) / 12
    told = f"Expected calibration error, over all bins: a.baseline {error:.3f}."
    assert plot.notes == [f"{told} Bins of fewer than 5 are not drawn."]
    assert plot.detail == "1 model; 15 bins, bars: 95 % intervals"
    assert draw(plot).axes
    assert interact(plot)


@pytest.mark.parametrize("tables", [{}, {"a": rows([], [])}])
def test_nothing_to_draw(tables):
    plot = reliability_diagram(tables, {"a": "cnn"})
    assert not plot.panels
    assert "predictions" in plot.detail
