"""Weather: snow, frost, fog, brightness, spatter."""

import numpy as np

from advalign.tensors.corruptions.constants import SIDE
from advalign.tensors.corruptions.draws import Bytes, Draws, Floats
from advalign.tensors.corruptions.frost_pictures import PICTURES, USED, frost_pictures
from advalign.tensors.corruptions.liquid import water
from advalign.tensors.corruptions.pixels import enlarging, moved, shares, smoothed

GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # weights of red, green and blue
WATER = np.array([175, 238, 238], dtype=np.float32)
MUD = np.array([63, 42, 20], dtype=np.float32)
MUD_EDGE = 0.8  # least amount of mud that is seen
ROUGHNESS = 100.0  # of fog at the coarsest scale; its square multiplies the random numbers


def brightness(images: Bytes, amount: float, draws: Draws) -> Floats:
    """Add to the value of HSV; hue and saturation stay."""
    pixels = images.astype(np.float32)
    value = pixels.max(3, keepdims=True)
    brighter = np.minimum(value + np.float32(255 * amount), 255)
    ratio = np.divide(brighter, value, out=np.zeros_like(value), where=value > 0)
    found: Floats = np.where(value > 0, pixels * ratio, brighter)
    return found


def fog(images: Bytes, constant: tuple[float, float], draws: Draws) -> Floats:
    """Add a fractal field between 0 and 1, and scale back to the image's largest value."""
    amount, decay = constant
    pixels = shares(images)
    largest = pixels.max((1, 2, 3), keepdims=True)
    fogged = pixels + np.float32(amount) * plasma(decay, draws)[..., None]
    found: Floats = 255 * fogged * largest / (largest + np.float32(amount))
    return found


def plasma(decay: float, draws: Draws) -> Floats:
    """(N, 32, 32) diamond-square fractals, periodic, from 0 to 1; `decay` divides the roughness from scale to scale."""
    drawn = draws.uniform(-1, 1, SIDE * SIDE - 1)
    field = np.zeros((len(drawn), SIDE, SIDE), dtype=np.float32)
    used, step, rough = 0, SIDE, ROUGHNESS

    def mean(four: Floats) -> Floats:
        nonlocal used
        size = four.shape[1] * four.shape[2]
        noise = drawn[:, used : used + size].reshape(four.shape)
        used += size
        return four / 4 + np.float32(rough**2) * noise

    while step >= 2:
        half = step // 2
        corners = field[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, 1)
        field[:, half::step, half::step] = mean(pairs + np.roll(pairs, -1, 2))
        centres = field[:, half::step, half::step]
        field[:, ::step, half::step] = mean(centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 2))
        field[:, half::step, ::step] = mean(centres + np.roll(centres, 1, 2) + corners + np.roll(corners, -1, 1))
        step, rough = half, rough / decay
    field -= field.min((1, 2), keepdims=True)
    scaled: Floats = field / field.max((1, 2), keepdims=True)
    return scaled


def frost(images: Bytes, constant: tuple[float, float], draws: Draws) -> Floats:
    """Add a part of a picture of frost; the authors' script picks one of the first five of six."""
    pictures = frost_pictures()
    high, wide = (length - SIDE for length in pictures.shape[1:3])
    chosen = draws.integers(0, PICTURES if draws.as_meant else USED)
    tops, lefts = draws.integers(0, high), draws.integers(0, wide)
    parts = np.empty(images.shape, dtype=np.float32)
    for place, (number, top, left) in enumerate(zip(chosen, tops, lefts, strict=True)):
        parts[place] = pictures[number, top : top + SIDE, left : left + SIDE]
    return np.float32(constant[0]) * images + np.float32(constant[1]) * parts


def snow(images: Bytes, constant: tuple[float, ...], draws: Draws) -> Floats:
    """Whiten the image, and add flakes that fall, with the same flakes upside down."""
    mean, deviation, zoom, threshold, radius, sigma, weight = constant
    flakes = np.float32(mean) + np.float32(deviation) * draws.normal(SIDE, SIDE)
    enlarge = enlarging(zoom).astype(np.float32)
    flakes = enlarge @ flakes @ enlarge.T
    flakes = np.floor(255 * np.clip(np.where(flakes < threshold, 0, flakes), 0, 1))
    fallen = np.rint(moved(flakes[..., None], radius, sigma, draws.uniform(-135, -45)))
    pixels = images.astype(np.float32)
    white = np.maximum(pixels, (pixels @ GREY)[..., None] * 1.5 + 127.5)
    whitened = np.float32(weight) * pixels + np.float32(1 - weight) * white
    found: Floats = whitened + fallen + fallen[:, ::-1, ::-1]
    return found


def spatter(images: Bytes, constant: tuple[float, ...], draws: Draws) -> Floats:
    """Add drops of water, or cover with drops of mud."""
    mean, deviation, sigma, threshold, strength, is_mud = constant
    field = smoothed(np.float32(mean) + np.float32(deviation) * draws.normal(SIDE, SIDE), sigma)
    drops = np.where(field < threshold, np.float32(0), field)
    pixels = images.astype(np.float32)
    if is_mud:
        cover = smoothed((drops > threshold).astype(np.float32), strength)[..., None]
        cover = np.where(cover < MUD_EDGE, np.float32(0), cover)
        return pixels * (1 - cover) + MUD * cover
    return pixels + np.float32(strength) * water(drops)[..., None] * WATER
