"""What every figure shares: one colour and marker per group, canvases, sentences in place of plots, and saving.

Colours are those of Okabe and Ito (2008), chosen to stay apart for colour-blind readers; markers repeat the difference.
Only matplotlib's object interface is used: no global figure, no window system, nothing changed at import.
"""

import textwrap
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from advalign.errors import InputError
from advalign.files import replacing

FURTHER = ("#332288", "#882255", "#999933", "#AA4499", "#44AA99")
"""Colours (Tol 2021) of groups that recipes made here have of their own; a name has the same one in every figure."""


class OfGroups(dict[str, str]):
    """What each known group has, and by a function of its name what any other has."""

    def __init__(self, known: Mapping[str, str], further: Callable[[str], str]) -> None:
        super().__init__(known)
        self.further = further

    def __missing__(self, group: str) -> str:
        return self.further(group)


COLOURS = OfGroups(
    {
        "cnn": "#0072B2",
        "vit": "#E69F00",
        "hybrid": "#009E73",
        "ssl": "#CC79A7",
        "robust": "#D55E00",
        "harmonized": "#56B4E9",
        "combined": "#000000",
        "standard": "#7F7F7F",
    },
    lambda group: FURTHER[zlib.crc32(group.encode()) % len(FURTHER)],
)
"""Group -> colour, the same in every figure; "standard" stands for any model whose group is not known."""
BAND = "#F0E442"
MARKERS = OfGroups(
    {
        "cnn": "o",
        "vit": "s",
        "hybrid": "D",
        "ssl": "^",
        "robust": "X",
        "harmonized": "*",
        "combined": "P",
        "standard": "o",
    },
    lambda _: "v",
)
NAMES = OfGroups(
    {
        "cnn": "CNN",
        "vit": "ViT",
        "hybrid": "hybrid",
        "ssl": "self-supervised",
        "robust": "robust",
        "harmonized": "harmonized",
        "combined": "harmonized + robust",
        "standard": "standard",
    },
    str,
)
METRIC_NAMES = {
    "pt": "perturbation tolerance (PT, mean l2 norm)",
    "aa": "adversarial human alignment (AA)",
    "multilabel_accuracy": "multi-label accuracy (%)",
}
MARKER_AREA = {"harmonized": 130.0, "robust": 60.0, "combined": 80.0}
literally = mpl.rc_context({"text.parse_math": False})
"""Decorates what draws names from outside: a dollar in one is a dollar and begins no formula."""
INK, FAINT = "#222222", "#BBBBBB"
DPI = 150


def kind_of(group: str, recipe: str | None = None) -> str:
    """Which colour a model takes: that of its group, but for those that the recipe `combined` has made.

    >>> kind_of("robust", "combined"), kind_of("robust"), kind_of("noisy", "noisy")
    ('combined', 'robust', 'noisy')
    """
    return "combined" if recipe == "combined" else group


def kinds_of(table: pd.DataFrame) -> list[str]:
    """Kind of every row of a table of models, see `kind_of`."""
    recipes = table["recipe"] if "recipe" in table else [None] * len(table)
    return [kind_of(group, recipe) for group, recipe in zip(table["group"], recipes, strict=True)]


def kinds_by_model(table: pd.DataFrame) -> dict[str, str]:
    """Model -> kind."""
    return dict(zip(table["model"], kinds_of(table), strict=True))


def in_order(kinds: Iterable[str]) -> list[str]:
    """Every kind once, as legends list them: the known ones, and then what recipes have of their own.

    >>> in_order(["noisy", "robust", "cnn", "robust", "blurred"])
    ['cnn', 'robust', 'blurred', 'noisy']
    """
    there = set(kinds)
    return [kind for kind in COLOURS if kind in there] + sorted(there - COLOURS.keys())


def canvas(width: float = 7.5, height: float = 5.0) -> tuple[Figure, Axes]:
    """Make an empty figure (inches) with one axes, faint grid and no box around it."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors=INK)
    return figure, axes


def sentence(text: str, title: str = "") -> Figure:
    """Make a figure that says in words why there is nothing to draw."""
    figure = Figure(figsize=(7.5, 3.0), dpi=DPI)
    FigureCanvasAgg(figure)
    if title:
        figure.text(0.5, 0.86, title, ha="center", va="center", fontsize=11, color=INK)
    figure.text(0.5, 0.45, textwrap.fill(text, 56), ha="center", va="center", fontsize=11, color="#555555")
    return figure


def footnote(figure: Figure, lines: list[str]) -> None:
    """Write sentences below the plot, small; nothing for no lines."""
    if lines:
        text = "\n".join(textwrap.fill(line, 118) for line in lines)
        figure.supxlabel(text, x=0.01, ha="left", fontsize=7.5, color="#555555")


def title(figure: Figure, text: str, detail: str) -> None:
    """Write what is shown, and below it, smaller, the figures that go with it; room is kept for both."""
    figure.suptitle(f"{text}\n", x=0.01, ha="left", fontsize=11, color=INK, linespacing=1.5)
    below = ScaledTranslation(0, -16 / 72, figure.dpi_scale_trans)
    figure.text(0.01, 0.98, detail, va="top", fontsize=9, color="#555555", transform=figure.transFigure + below)


def legend(figure: Figure, handles: list[Line2D]) -> None:
    """Put the legend beside the plot, where it covers neither points nor names nor the title."""
    figure.legend(handles=handles, loc="outside right center", fontsize=8, frameon=False, handlelength=3)


def p_words(p: float) -> str:
    """Write a p value as the paper does.

    >>> [p_words(p) for p in (1e-7, 0.0152, float("nan"))]
    ['p < 0.001', 'p = 0.015', 'p not computable']
    """
    if p != p:
        return "p not computable"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def stars(p: float | None) -> str:
    """Significance stars: three below the paper's threshold of 0.001, two below 0.01, one below 0.05.

    >>> [stars(p) for p in (0.0005, 0.005, 0.02, 0.2, None)]
    ['***', '**', '*', 'n.s.', '?']
    """
    if p is None or p != p:
        return "?"
    return "***" if p < 0.001 else "**" if p < 0.01 else "*" if p < 0.05 else "n.s."


def save(figure: Figure, path: Path | str) -> Path:
    """Write a figure as PNG or SVG, whichever the suffix says; the same figure gives the same bytes.

    The file appears whole or not at all: it is written under a temporary name and moved into place.

    Args:
        figure: What to write, at its own size and resolution.
        path: Ends in `.png` or `.svg`; missing folders are made.

    Returns:
        The path written.

    Raises:
        InputError: Another suffix.
    """
    target = Path(path)
    kind = target.suffix.lower().lstrip(".")
    if kind not in ("png", "svg"):
        raise InputError(f"{target}: figures are written as .png or .svg, got {target.suffix or 'no suffix'!r}")
    metadata: dict[str, str | None] = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with replacing(target) as temporary, mpl.rc_context({"svg.hashsalt": "advalign", "svg.fonttype": "path"}):
        figure.savefig(temporary, format=kind, dpi="figure", metadata=metadata, facecolor="white")
    return target
