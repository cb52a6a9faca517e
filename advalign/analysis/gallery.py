"""The gallery: stimulus, human map and each model's perturbation map side by side (Feng Figs. 8, 9)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from advalign.analysis.drawing import DPI, draw, literally
from advalign.analysis.plots import INK, Plot

MAP_COLOURS = "inferno"


@literally
def gallery_figure(
    images: NDArray[np.float32],
    heatmaps: NDArray[np.float32],
    perturbations: Mapping[str, Sequence[NDArray[np.float32]]],
    names: Sequence[str],
) -> Figure:
    """Draw one column per stimulus: the image, its human map, then one row of perturbation maps per model.

    Args:
        images: (K, 3, H, W) in [0, 1].
        heatmaps: (K, H, W) in [0, 1].
        perturbations: model -> K arrays (3, H, W); all zero where the attack has no result.
        names: K captions.

    Returns:
        The figure; perturbation maps are |max over channels of delta| (the released map), each scaled to its maximum.
    """
    if not len(images):
        return draw(Plot("Gallery", "No stimulus is pictured: set evaluate.gallery above 0 in params.yaml."))
    above = ["stimulus", "human map"] if heatmaps.any() else ["stimulus"]  # stimuli may lack maps
    rows = len(above) + len(perturbations)
    figure = Figure(figsize=(1.6 + 0.95 * len(images), 0.35 + 0.95 * rows), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, len(images), squeeze=False)
    for column, (image, heatmap, name) in enumerate(zip(images, heatmaps, names, strict=True)):
        axes[0, column].imshow(image.transpose(1, 2, 0))
        axes[0, column].set_title(name, fontsize=8, color=INK)
        if len(above) > 1:
            axes[1, column].imshow(heatmap, cmap=MAP_COLOURS, vmin=0, vmax=1)
        for row, deltas in enumerate(perturbations.values(), start=len(above)):
            _draw_map(axes[row, column], np.abs(deltas[column].max(0)))
    for row, caption in enumerate([*above, *perturbations]):
        axes[row, 0].set_ylabel(_wrapped(caption), fontsize=7, color=INK, rotation=0, ha="right", va="center")
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    return figure


def _draw_map(axes: Axes, found: NDArray[np.float32]) -> None:
    """A perturbation map, or a note that the model was wrong before the attack or the attack failed."""
    if found.max() > 0:
        axes.imshow(found, cmap=MAP_COLOURS, vmin=0, vmax=float(found.max()))
        return
    axes.imshow(np.full_like(found, 0.92), cmap="gray", vmin=0, vmax=1)
    axes.text(0.5, 0.5, "not valid", transform=axes.transAxes, ha="center", va="center", fontsize=7, color=INK)


def _wrapped(caption: str, width: int = 18) -> str:
    """Break a model's name after its architecture, so that it fits next to the pictures."""
    if len(caption) <= width:
        return caption
    for mark in ("_l2", "_linf", "."):
        head, found, tail = caption.partition(mark)
        if found:
            return f"{head}\n{found}{tail}"
    return caption
