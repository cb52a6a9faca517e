"""Look of a group of models in all figures: colour, marker and name in the legend.

Colours are those of Okabe and Ito (2008), which colour-blind readers can distinguish; markers repeat the distinction.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

COMBINED = "combined"


@dataclass(frozen=True)
class Look:
    """Name in the legend, colour, marker (plotly's name) and area of the marker in square points."""

    name: str
    colour: str
    marker: str
    area: float = 45.0


LOOKS = {
    "cnn": Look("CNN", "#0072B2", "circle"),
    "vit": Look("ViT", "#E69F00", "square"),
    "hybrid": Look("hybrid", "#009E73", "diamond"),
    "ssl": Look("self-supervised", "#CC79A7", "triangle-up"),
    "robust": Look("robust", "#D55E00", "x", 60.0),
    "harmonized": Look("harmonized", "#56B4E9", "star", 130.0),
    COMBINED: Look("harmonized + robust", "#000000", "cross", 80.0),
    "aligned": Look("aligned", "#882255", "triangle-down", 60.0),
    "noise": Look("noise", "#999933", "triangle-right", 60.0),
    "baseline": Look("baseline", "#7F7F7F", "circle"),
    "standard": Look("standard", "#7F7F7F", "circle"),
}
"""Kind -> look. "baseline" is a twin's counterpart, "standard" any model whose group is not known."""
FURTHER_COLOURS = ("#332288", "#882255", "#999933", "#661100", "#DDCC77")
FURTHER_MARKERS = ("triangle-down", "pentagon", "hexagon", "triangle-left", "triangle-right")
FURTHER_AREA = 60.0


def look(kind: str) -> Look:
    """Look of a kind; colour and marker of an unlisted kind follow from its name, the same in every run.

    >>> look("vit").colour, look("foveated") == look("foveated"), look("foveated").name
    ('#E69F00', True, 'foveated')
    """
    if kind in LOOKS:
        return LOOKS[kind]
    number, colour = divmod(zlib.crc32(kind.encode()), len(FURTHER_COLOURS))
    return Look(kind, FURTHER_COLOURS[colour], FURTHER_MARKERS[number % len(FURTHER_MARKERS)], FURTHER_AREA)


def in_order(kinds: Iterable[str]) -> list[str]:
    """Each kind once, in the order of `LOOKS`, then the others by name.

    >>> in_order(["robust", "foveated", "cnn", "robust"])
    ['cnn', 'robust', 'foveated']
    """
    found = set(kinds)
    return [*(kind for kind in LOOKS if kind in found), *sorted(found - LOOKS.keys())]


def kinds_of(table: pd.DataFrame) -> dict[str, str]:
    """Model -> kind for every row of a table of models: "combined" where its recipe says so, else its group."""
    recipes = table["recipe"] if "recipe" in table else [None] * len(table)
    rows = zip(table["model"], table["group"], recipes, strict=True)
    return {model: COMBINED if recipe == COMBINED else group for model, group, recipe in rows}
