"""The contact sheet of the sample: every category, as drawn and with its human map on top."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advalign.data.sample.drawings import CATEGORIES
from advalign.data.sample.scene import render
from advalign.files import replacing

PER_CATEGORY = 4
BLOCKS = 3  # categories stand side by side in so many blocks


def contact_sheet(seed: int = 3) -> Image.Image:
    """Draw four scenes of each category with the cue agreeing; every second one under its human map."""
    rows = []
    for index in range(len(CATEGORIES)):
        cells = []
        for number in range(PER_CATEGORY):
            scene = render(index, np.random.default_rng([seed, index, number]), cue_agreement=1.0)
            cells.append(_under_map(scene.image, scene.heatmap) if number % 2 else scene.image)
        rows.append(np.concatenate(cells, 1))
    height = len(rows) // BLOCKS
    blocks = [np.concatenate(rows[first : first + height], 0) for first in range(0, len(rows), height)]
    return Image.fromarray(np.concatenate(blocks, 1))


def _under_map(image: NDArray[np.uint8], heatmap: NDArray[np.float32]) -> NDArray[np.uint8]:
    colours = mpl.colormaps["inferno"](heatmap)[..., :3]
    blended: NDArray[np.uint8] = (0.5 * image + 0.5 * 255 * colours).astype(np.uint8)
    return blended


def write_contact_sheet(path: Path) -> None:
    """Write the sheet as a JPEG."""
    with replacing(path) as temporary:
        contact_sheet().save(temporary, "JPEG", quality=88, optimize=True)
