"""Pictures of what people clicked on: an image, single participants, and the map of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from advalign.analysis.drawing import DPI, literally
from advalign.analysis.gallery import MAP_COLOURS
from advalign.analysis.plots import INK

PICTURED = 6  # images
SINGLE = 5  # participants of each


@dataclass(frozen=True)
class PeopleGallery:
    """Pictured images and their maps.

    Attributes:
        names: captions of the K images.
        images: (K, 3, H, W) in [0, 1].
        singles: of each image, up to five maps of single participants, (S, S) >= 0.
        maps: (K, S, S) >= 0, of all participants.
        told: of each image, lines below it: its ceiling and its floor.
        image_crop, map_crop: share of the image's short side that a picture and a map show, both around the centre.
    """

    names: Sequence[str]
    images: NDArray[np.float32]
    singles: Sequence[NDArray[np.float32]]
    maps: NDArray[np.float32]
    told: Sequence[str]
    image_crop: float = 1.0
    map_crop: float = 1.0


@literally
def people_figure(gallery: PeopleGallery) -> Figure:
    """Draw one column per image: the image, single participants, and all of them; ceiling and floor below.

    Every map is scaled to its own maximum.
    """
    rows = SINGLE + 2
    columns = len(gallery.names)
    figure = Figure(figsize=(1.2 + 1.15 * columns, 1.1 + 1.15 * rows), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for place, (name, image, told) in enumerate(zip(gallery.names, gallery.images, gallery.told, strict=True)):
        axes[0, place].imshow(image.transpose(1, 2, 0), extent=_extent(gallery.image_crop))
        axes[0, place].set_title(name, fontsize=8, color=INK)
        for row, single in enumerate(gallery.singles[place][:SINGLE], start=1):
            _draw_map(axes[row, place], single, gallery)
        _draw_map(axes[-1, place], gallery.maps[place], gallery)
        axes[-1, place].set_xlabel(told, fontsize=7, color=INK)
    captions = ["image", *(f"participant {number}" for number in range(1, SINGLE + 1)), "all participants"]
    for row, caption in enumerate(captions):
        axes[row, 0].set_ylabel(caption, fontsize=7, color=INK, rotation=0, ha="right", va="center")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], xlim=_extent(gallery.image_crop)[:2], ylim=_extent(gallery.image_crop)[2:])
        axis.spines[:].set_visible(False)
        axis.set_aspect("equal")
    return figure


def _draw_map(axes: Axes, values: NDArray[np.float32], gallery: PeopleGallery) -> None:
    peak = float(values.max()) or 1.0
    axes.imshow(values, cmap=MAP_COLOURS, vmin=0, vmax=peak, extent=_extent(gallery.map_crop))


def _extent(crop: float) -> tuple[float, float, float, float]:
    """Where a square of this share of the side lies, around the centre: left, right, bottom, top."""
    return -crop / 2, crop / 2, -crop / 2, crop / 2
