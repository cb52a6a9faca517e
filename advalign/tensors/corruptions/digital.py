"""Digital: contrast, elastic, pixelate, JPEG, saturate."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample

from advalign.tensors.corruptions.constants import SIDE
from advalign.tensors.corruptions.draws import Bytes, Draws, Floats
from advalign.tensors.corruptions.pixels import shares, smoothed

CORNERS = np.array([[26, 26], [26, 6], [6, 6]], dtype=np.float64)  # x, y of the triangle that is moved


def contrast(images: Bytes, factor: float, draws: Draws) -> Floats:
    """Bring every value closer to the mean of its channel."""
    pixels = images.astype(np.float32)
    means = pixels.mean((1, 2), keepdims=True)
    found: Floats = (pixels - means) * np.float32(factor) + means
    return found


def saturate(images: Bytes, constant: tuple[float, float], draws: Draws) -> Floats:
    """Scale and shift the saturation of HSV; hue and value stay.

    A grey pixel has no hue: it counts as red, as in scikit-image, so an offset makes it reddish.
    """
    pixels = shares(images)
    value, least = pixels.max(3, keepdims=True), pixels.min(3, keepdims=True)
    saturation = np.divide(value - least, value, out=np.zeros_like(value), where=value > 0)
    wanted = np.clip(saturation * np.float32(constant[0]) + np.float32(constant[1]), 0, 1)
    coloured = saturation > 0
    ratio = np.divide(wanted, saturation, out=np.zeros_like(value), where=coloured)
    red = np.array([0, 1, 1], dtype=np.float32)
    found: Floats = 255 * (value - np.where(coloured, (value - pixels) * ratio, value * wanted * red))
    return found


def jpeg_compression(images: Bytes, quality: float, draws: Draws) -> Bytes:
    """Encode as JPEG, with halved colour channels (Pillow's default), and decode."""
    found = np.empty_like(images)
    for place, image in enumerate(images):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=int(quality))
        found[place] = np.asarray(Image.open(buffer))
    return found


def pixelate(images: Bytes, share: float, draws: Draws) -> Bytes:
    """Shrink and enlarge again, with areas as weights."""
    found, side = np.empty_like(images), int(SIDE * share)
    for place, image in enumerate(images):
        small = Image.fromarray(image).resize((side, side), Image.Resampling.BOX)
        found[place] = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BOX))
    return found


def elastic_transform(images: Bytes, constant: tuple[float, float, float], draws: Draws) -> Floats:
    """Map a triangle to a moved one, then shift every pixel by a smooth random field; bilinear both times.

    The amplitude at severity 1 is zero, so there it is an affine map alone.
    """
    amplitude, sigma, shift = (SIDE * value for value in constant)
    moved = CORNERS + draws.uniform(-shift, shift, 3, 2)
    back = np.linalg.solve(np.pad(moved, ((0, 0), (0, 0), (0, 1)), constant_values=1), CORNERS)  # (N, 3, 2)
    down, right = np.mgrid[:SIDE, :SIDE]
    places = np.stack([right, down, np.ones_like(down)], -1).reshape(-1, 3) @ back
    pixels = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2)
    pixels = _read(pixels, torch.from_numpy(places.astype(np.float32)).reshape(-1, SIDE, SIDE, 2), edges_repeat=False)
    if amplitude:
        fields = [smoothed(draws.uniform(-1, 1, SIDE, SIDE), sigma, "reflect", 3) for _ in "xy"]
        shifted = np.stack([right, down], -1) + amplitude * np.stack(fields, -1)
        pixels = _read(pixels, torch.from_numpy(shifted.astype(np.float32)), edges_repeat=True)
    found: Floats = pixels.permute(0, 2, 3, 1).numpy()
    return found


def _read(pixels: Tensor, places: Tensor, edges_repeat: bool) -> Tensor:
    """Values (N, 3, H, W) at places (N, H, W, 2), x and y in pixels, mirrored outside.

    `edges_repeat`: the mirror lies at the edge of the outermost pixel, so that it is seen twice; else at its centre.
    """
    scaled = (2 * places + 1) / SIDE - 1 if edges_repeat else 2 * places / (SIDE - 1) - 1
    return grid_sample(pixels, scaled, padding_mode="reflection", align_corners=not edges_repeat)
