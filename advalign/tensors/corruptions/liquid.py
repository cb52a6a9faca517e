"""Drops of water with light and shade: how much of their colour each pixel gets, as the authors do it with OpenCV."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from advalign.tensors.corruptions.draws import Bytes, Floats

LOW, HIGH = 50, 150  # thresholds of Canny's edges
FARTHEST = 20  # pixels from an edge, beyond which distances are equal
RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=np.float32)  # light from the lower right
BESIDE = np.ones((1, 3, 3), dtype=bool)
SLOPES = np.tan(np.deg2rad([22.5, 67.5]))


def water(drops: Floats) -> Floats:
    """The strength of the water's colour, 0 to 1.

    Args:
        drops: (N, H, W), the thickness of the liquid; 0 where there is none.

    Returns:
        (N, H, W), 1 at the strongest pixel of each field; 0 throughout where there is no liquid.
    """
    thickness = np.floor(255 * np.clip(drops, 0, 1))
    edges = canny(thickness.astype(np.uint8))
    distance = np.minimum(_distance(edges), FARTHEST)
    whole = np.floor(ndimage.uniform_filter(distance, (1, 3, 3), mode="mirror"))
    relief = ndimage.correlate(_equalised(whole), RELIEF[None], mode="mirror").clip(0, 255)
    shade = np.rint(ndimage.uniform_filter(relief, (1, 3, 3), mode="mirror"))
    amount = thickness * shade
    most = amount.max((1, 2), keepdims=True)
    found: Floats = np.divide(amount, most, out=np.zeros_like(amount), where=most > 0).astype(np.float32)
    return found


def canny(fields: Bytes) -> NDArray[np.bool_]:
    """Edges (Canny 1986): (N, H, W) uint8 -> bool, by Sobel's derivatives, with the l1 norm of the gradient."""
    values = fields.astype(np.int32)
    down, right = (_derivative(values, along, across) for along, across in ((1, 2), (2, 1)))
    size = np.abs(down) + np.abs(right)
    around = np.pad(size, ((0, 0), (1, 1), (1, 1)))
    height, width = size.shape[1:]

    def neighbour(below: int, beside: int) -> NDArray[np.int32]:
        return around[:, 1 + below : 1 + below + height, 1 + beside : 1 + beside + width]

    along_rows = np.abs(down) < SLOPES[0] * np.abs(right)
    along_columns = np.abs(down) > SLOPES[1] * np.abs(right)
    same = (down < 0) == (right < 0)
    falling = (size > neighbour(-1, -1)) & (size > neighbour(1, 1))
    rising = (size > neighbour(-1, 1)) & (size > neighbour(1, -1))
    thin = np.where(
        along_rows,
        (size > neighbour(0, -1)) & (size >= neighbour(0, 1)),
        np.where(
            along_columns,
            (size > neighbour(-1, 0)) & (size >= neighbour(1, 0)),
            np.where(same, falling, rising),
        ),
    )
    weak = thin & (size > LOW)
    found: NDArray[np.bool_] = ndimage.binary_propagation(weak & (size > HIGH), BESIDE, weak)
    return found


def _derivative(values: NDArray[np.int32], along: int, across: int) -> NDArray[np.int32]:
    smooth = ndimage.correlate1d(values, [1, 2, 1], axis=across, mode="nearest")
    found: NDArray[np.int32] = ndimage.correlate1d(smooth, [-1, 0, 1], axis=along, mode="nearest")
    return found


def _distance(edges: NDArray[np.bool_]) -> Floats:
    """Distance to the nearest edge of the same field; FARTHEST where a field has none."""
    found = np.full(edges.shape, FARTHEST, dtype=np.float32)
    for place in np.flatnonzero(edges.any((1, 2))):
        found[place] = ndimage.distance_transform_edt(~edges[place])
    return found


def _equalised(levels: Floats) -> Floats:
    """Spread whole levels 0 .. FARTHEST over 0 .. 255 by their ranks, as OpenCV's equalizeHist does."""
    counts = np.stack([(levels == level).sum((1, 2)) for level in range(FARTHEST + 1)], 1)
    first = (counts > 0).argmax(1)
    members = np.arange(len(levels))
    others = counts.sum(1) - counts[members, first]
    ranks = counts.cumsum(1) - counts[members, first][:, None]
    spread = np.rint(255 * np.maximum(ranks, 0) / np.maximum(others, 1)[:, None])
    spread[others == 0] = np.arange(FARTHEST + 1)  # one level alone stays
    found: Floats = np.take_along_axis(spread, levels.astype(int).reshape(len(levels), -1), 1).astype(np.float32)
    return found.reshape(levels.shape)
