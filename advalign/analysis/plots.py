"""Descriptions of figures, drawn by matplotlib (`drawing`, for print) or plotly (`interactive`, for the screen).

A new figure is one function that returns a `Plot`. A new kind of mark is one class here and one case in each of the two
renderers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from advalign.vocabulary import in_norm

Vector = npt.NDArray[np.float64]

INK = "#222222"
BAR_HEIGHT = 0.36  # on an axis where models are 1 apart
FILLED = 0.55  # opacity of a histogram, through which another one shows
DASHES = ((), (3.7, 1.6), (1, 1.65), (6.4, 1.6, 1, 1.6), (5, 1, 1, 1, 1, 1), (8, 2), (1, 3))
"""Dash patterns: lengths of dashes and gaps in widths of the line."""


@dataclass(frozen=True)
class Points:
    """Points with the same look.

    Attributes:
        x, y: (n,) places; x_error, y_error: (n,) half lengths of error bars, nan where a point has none.
        marker: plotly's name; `area` is in square points; of hollow points only the rim is drawn.
        label: entry in the legend; marks with the same label share the entry, "" is no entry.
        names: shown on hover; a click in the report opens the model of that name.
    """

    x: Vector
    y: Vector
    colour: str
    marker: str
    label: str
    names: Sequence[str] = ()
    x_error: Vector | None = None
    y_error: Vector | None = None
    area: float = 45.0
    alpha: float = 1.0
    hollow: bool = False


@dataclass(frozen=True)
class Line:
    """A line through (n,) places, `width` in points; label and name as of `Points`.

    A guide does not change the limits of the axes; infinite coordinates mean the ends of the axes.
    """

    x: Vector
    y: Vector
    colour: str = INK
    label: str = ""
    name: str = ""
    dash: tuple[float, ...] = ()
    width: float = 1.2
    alpha: float = 1.0
    guide: bool = False


@dataclass(frozen=True)
class Band:
    """A range of x, coloured behind all other marks."""

    low: float
    high: float
    colour: str
    label: str


@dataclass(frozen=True)
class Arrow:
    """An arrow between two places (x, y)."""

    start: tuple[float, float]
    end: tuple[float, float]
    colour: str


@dataclass(frozen=True)
class Bars:
    """Horizontal bars from zero to `lengths`, each with its error, a name as of `Points`, and facts shown on hover."""

    places: Vector
    lengths: Vector
    errors: Vector
    colour: str
    label: str
    names: Sequence[str]
    facts: Sequence[str]


@dataclass(frozen=True)
class Columns:
    """A histogram: filled columns side by side from zero up to `heights` (n,), between `edges` (n + 1,)."""

    edges: Vector
    heights: Vector
    colour: str
    label: str


@dataclass(frozen=True)
class Words:
    """Text at a place: as a mark directly next to it, as a label of a panel where there is room."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Cells:
    """A table of signed numbers, each in a coloured cell: red above zero, blue below, white at zero.

    Attributes:
        values: (rows, columns); row 0 is at y = 0, column 0 at x = `first`.
        texts: what is written into the cells, row by row.
        limit: the size of a number from which on colours are full.
        first: place of the first column.
    """

    values: Vector
    texts: Sequence[Sequence[str]]
    limit: float
    first: int = 0


Mark = Points | Line | Band | Arrow | Bars | Columns | Words | Cells


@dataclass(frozen=True)
class Axis:
    """An axis: its title ends with the unit in brackets; limits that are None follow from the marks.

    `ticks` are names at 0, 1, ... from the top down, in place of numbers.
    """

    title: str
    log: bool = False
    low: float | None = None
    high: float | None = None
    ticks: Sequence[str] = ()

    @property
    def name(self) -> str:
        """The title without unit."""
        return self.title.split(" (")[0]


@dataclass(frozen=True)
class Panel:
    """Two axes with marks, the last on top, and labels, the most important first.

    Labels are for print: on the screen, names appear on hover. With `keep_all` labels without room are printed too.
    """

    x: Axis
    y: Axis
    marks: Sequence[Mark]
    labels: Sequence[Words] = ()
    keep_all: bool = True


@dataclass(frozen=True)
class Plot:
    """Panels side by side, with text above and below; size in inches.

    Without panels, `detail` is the sentence that says why there is nothing to draw.
    """

    title: str
    detail: str
    panels: Sequence[Panel] = ()
    notes: Sequence[str] = ()
    size: tuple[float, float] = (7.5, 5.0)


def axis_of(column: str, remark: str = "", norm: str = "l2", **more: Any) -> Axis:
    """Axis of a column of the zoo's table, whose tolerance is in `norm`; a remark is added after the unit.

    >>> axis_of("pt", "log scale").title, axis_of("multilabel_accuracy").name
    ('perturbation tolerance (PT, mean l2 norm, log scale)', 'multi-label accuracy')
    >>> axis_of("pt", norm="linf").title
    'perturbation tolerance (PT, mean linf norm, 1/255)'
    """
    title = in_norm(column, norm).title
    return Axis(f"{title[:-1]}, {remark})" if remark else title, **more)
