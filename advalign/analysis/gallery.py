"""The gallery: images, their human maps or masks, and each model's perturbations or saliency (Feng Figs. 8, 9)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from advalign.analysis.drawing import DPI, draw, literally
from advalign.analysis.plots import INK, Plot
from advalign.data.sets.base import ImageSet

MAP_COLOURS = "inferno"


@dataclass(frozen=True)
class Gallery:
    """Pictured images, and what was kept of every model on them.

    Attributes:
        names: captions of the K images.
        images: (K, 3, H, W) in [0, 1]; heatmaps: (K, H, W) in [0, 1], human maps or object masks, zero without.
        perturbations: model -> K arrays as of `gallery_figure`.
    """

    names: Sequence[str]
    images: NDArray[np.float32]
    heatmaps: NDArray[np.float32]
    perturbations: Mapping[str, Sequence[NDArray[np.float32]]]


def gallery_beside(image_set: ImageSet, kept: Mapping[str, Mapping[int, Tensor]]) -> Gallery | None:
    """What was kept of models, next to its images and their human maps or masks; None where there is nothing.

    Args:
        image_set: of the evaluations.
        kept: model -> position in the set -> tensor, the same positions for every model.
    """
    positions = sorted({place for found in kept.values() for place in found})
    maps = next((name for name in ("human_map", "mask") if name in image_set.offers), None)
    if not positions or maps is None:
        return None
    items = image_set.items(0, positions[-1] + 1, 0)
    named = items.table.get("category", items.table["label"])
    return Gallery(
        [str(name) for name in named.iloc[positions]],
        items.pixels(_as_it_is)[positions].numpy(),
        items.extras[maps][positions].float().numpy(),
        {name: [found[place].numpy() for place in positions] for name, found in kept.items()},
    )


def _as_it_is(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image.convert("RGB"))).permute(2, 0, 1) / 255


@literally
def gallery_figure(
    images: NDArray[np.float32],
    heatmaps: NDArray[np.float32],
    perturbations: Mapping[str, Sequence[NDArray[np.float32]]],
    names: Sequence[str],
) -> Figure:
    """Draw one column per image: the image, its human map or mask, then one row of maps per model.

    Args:
        images: (K, 3, H, W) in [0, 1].
        heatmaps: (K, H, W) in [0, 1].
        perturbations: model -> K arrays: (3, H, W) perturbations, all zero where the attack has no result, or (1, H, W)
            maps of saliency.
        names: K captions.

    Returns:
        The figure; perturbation maps are |max over channels of delta| (the released map), each scaled to its maximum;
        saliency goes from its minimum to its maximum.
    """
    if not len(images):
        return draw(Plot("Gallery", "No image is pictured: set evaluate.gallery above 0 in params.yaml."))
    said = "object mask" if set(np.unique(heatmaps)) <= {0.0, 1.0} else "human map"
    above = ["image", said] if heatmaps.any() else ["image"]  # they may lack maps
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
            _draw_map(axes[row, column], visible(deltas[column]))
    for row, caption in enumerate([*above, *perturbations]):
        axes[row, 0].set_ylabel(_wrapped(caption), fontsize=7, color=INK, rotation=0, ha="right", va="center")
    for axis in axes.flat:
        _hide_frame(axis)
    return figure


def visible(found: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is shown of a perturbation (3, H, W) or a map of saliency (1, H, W): (H, W), at least 0."""
    shown: NDArray[np.float32] = found[0] - found.min() if len(found) == 1 else np.abs(found.max(0))
    return shown


def _hide_frame(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


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
    for mark in ("_l2", "_linf", "_noise", "."):
        head, found, tail = caption.partition(mark)
        if found:
            return f"{head}\n{found}{tail}"
    return caption
