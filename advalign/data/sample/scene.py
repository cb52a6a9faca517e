"""Scenes of the sample data set: a drawn object on a busy background, with the map people would have clicked.

The sample stands in for ImageNet images with ClickMe maps: small, drawn in milliseconds, and the same bytes from the
same seed.

**A chosen shortcut, to be mentioned wherever results on the sample are shown.** Every background carries a faint
grating whose direction and period encode the superclass of the object. In training images the grating agrees with the
object nine times in ten; in the stimuli it is random. It stands in for the shortcuts of ImageNet (texture, scenery), so
that a plain baseline can be misled: with it the baseline looks past the important parts and its alignment is low; with
a weaker grating the baseline's alignment is clearly higher. That training on human maps or against adversaries then
raises the alignment is a finding about these networks; how low the baseline starts is our choice.

**Human maps** are simulated too: independent clicks on the parts of an object, in proportion to the importance that
the drawing gives them, blurred and scaled to a maximum of 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from advalign.data.sample.backgrounds import backdrop, grating
from advalign.data.sample.canvas import WHOLE_IMAGE, Canvas, Cell, Pose
from advalign.data.sample.drawings import CATEGORIES, SUPERCLASSES
from advalign.errors import InputError

SHADING = 0.072
PAIR_SHRINKAGE = 0.5


@dataclass(frozen=True)
class SceneSettings:
    """How scenes are made.

    Attributes:
        size: side of the image, pixels.
        scale: smallest and largest object, 1 fills the image.
        clicks: simulated clicks per image, at least 2.
        blur: sigma of the click map's Gaussian, as a fraction of the side.
        cue_amplitude: amplitude of the superclass grating on the background, for pixels in [0, 1].
        clutter: largest number of shapes strewn over the background.
        noise: standard deviation of the sensor noise, for pixels in [0, 1].
    """

    size: int = 64
    scale: tuple[float, float] = (0.8, 1.02)
    clicks: int = 60
    blur: float = 0.05
    cue_amplitude: float = 0.035
    clutter: int = 8
    noise: float = 0.02

    def __post_init__(self) -> None:
        if self.clicks < 2:
            raise InputError(f"clicks is {self.clicks}, but the two half maps need at least 2: raise it")


DEFAULTS = SceneSettings()


@dataclass(frozen=True)
class Scene:
    """One image and where people would have clicked.

    Attributes:
        image: (64, 64, 3) uint8.
        heatmap: (64, 64) float32 in [0, 1], maximum exactly 1.
        half_maps: two (64, 64) float32 >= 0, each from another random half of the clicks. They share the heatmap's
            scale, so that their mean is the heatmap (each may exceed 1, at most 2).
        clicks: (60, 2) int64, column and row of every click, in the order in which they were drawn.
        categories: indices into `CATEGORIES` of what is in the image, the main one first.
    """

    image: NDArray[np.uint8]
    heatmap: NDArray[np.float32]
    half_maps: tuple[NDArray[np.float32], NDArray[np.float32]]
    clicks: NDArray[np.int64]
    categories: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """Objects before they are put on a background.

    Attributes:
        colour: (64, 64, 3) float32 in [0, 1], multiplied by alpha.
        alpha: (64, 64, 1) float32 in [0, 1], 1 where an object covers the pixel.
        click_chance: (64, 64) float64 >= 0 that sums to 1, the chance of a click landing on the pixel.
    """

    colour: NDArray[np.float32]
    alpha: NDArray[np.float32]
    click_chance: NDArray[np.float64]


def render(category: int, rng: np.random.Generator, cue_agreement: float, settings: SceneSettings = DEFAULTS) -> Scene:
    """Makes a scene with one object.

    Args:
        category: index into `CATEGORIES`.
        rng: source of all randomness; it and the other arguments determine every byte.
        cue_agreement: chance in [0, 1] that the cue is the object's own; otherwise it is any category's.
        settings: how scenes are made.
    """
    layer = paint(category, rng, settings)
    return _finish((category,), layer, rng, cue_agreement, settings)


def render_pair(
    first: int, second: int, rng: np.random.Generator, cue_agreement: float, settings: SceneSettings = DEFAULTS
) -> Scene:
    """Makes a scene with two objects of half size side by side, in random order; each draws half of the interest.

    Args:
        first: index into `CATEGORIES` of the main object, whose cue the background follows.
        second: index of the other object, of another superclass.
        rng: source of all randomness; it and the other arguments determine every byte.
        cue_agreement: chance in [0, 1] that the cue is the first object's; otherwise it is any category's.
        settings: how scenes are made.

    Raises:
        InputError: both objects are of one superclass.
    """
    if CATEGORIES[first].superclass == CATEGORIES[second].superclass:
        names = f"{CATEGORIES[first].name} and {CATEGORIES[second].name}"
        raise InputError(
            f"a pair needs two superclasses, but {names} are both of {CATEGORIES[first].superclass}: choose another"
        )
    layer = paint_pair(first, second, rng, settings)
    return _finish((first, second), layer, rng, cue_agreement, settings)


def paint(
    category: int, rng: np.random.Generator, settings: SceneSettings, shrinkage: float = 1.0, cell: Cell = WHOLE_IMAGE
) -> Layer:
    """Draws one object in a random pose, `shrinkage` times its usual size, inside `cell`."""
    smallest, largest = settings.scale
    canvas = Canvas(settings.size, Pose.random(rng, (shrinkage * smallest, shrinkage * largest), cell))
    CATEGORIES[category].draw(canvas, rng)
    picture, importance = canvas.picture(), canvas.importance()
    return Layer(picture[..., :3], picture[..., 3:], importance / importance.sum())


def paint_pair(first: int, second: int, rng: np.random.Generator, settings: SceneSettings) -> Layer:
    """Draws two objects of half size in the two halves of the image, in random order."""
    side = 0.5 if rng.uniform() < 0.5 else -0.5
    below = paint(first, rng, settings, PAIR_SHRINKAGE, Cell((side, 0.0), (0.5, 1.0)))
    above = paint(second, rng, settings, PAIR_SHRINKAGE, Cell((-side, 0.0), (0.5, 1.0)))
    return Layer(
        colour=above.colour + below.colour * (1 - above.alpha),
        alpha=above.alpha + below.alpha * (1 - above.alpha),
        click_chance=(above.click_chance + below.click_chance) / 2,
    )


def draw_cue(category: int, rng: np.random.Generator, cue_agreement: float) -> int:
    """Draws the superclass that the background grating encodes.

    Returns:
        Index into `SUPERCLASSES`: with chance `cue_agreement` that of `category`, otherwise that of any category.

    Raises:
        InputError: `cue_agreement` is no probability.
    """
    if not 0 <= cue_agreement <= 1:
        raise InputError(f"cue_agreement is {cue_agreement}: give a probability in [0, 1]")
    agrees = rng.uniform() < cue_agreement
    cue_category = category if agrees else int(rng.integers(len(CATEGORIES)))
    return SUPERCLASSES.index(CATEGORIES[cue_category].superclass)


def click_maps(
    click_chance: NDArray[np.float64], rng: np.random.Generator, settings: SceneSettings
) -> tuple[NDArray[np.float32], tuple[NDArray[np.float32], NDArray[np.float32]], NDArray[np.int64]]:
    """Simulates clicks and blurs them.

    Args:
        click_chance: (64, 64) float64 that sums to 1.
        rng: source of the clicks.
        settings: number of clicks and blur.

    Returns:
        The heatmap, the two half maps and the clicks of a `Scene`.
    """
    places = rng.choice(click_chance.size, settings.clicks, p=click_chance.ravel())
    # The clicks are independent, so the first half of them is a random half.
    middle = settings.clicks // 2
    first, second = (_blurred_counts(half, settings) for half in (places[:middle], places[middle:]))
    mean = (first + second) / 2
    peak = mean.max()
    return mean / peak, (first / peak, second / peak), np.stack([places % settings.size, places // settings.size], 1)


def _blurred_counts(places: NDArray[np.int64], settings: SceneSettings) -> NDArray[np.float32]:
    counts = np.bincount(places, minlength=settings.size**2).astype(np.float32).reshape(settings.size, settings.size)
    blurred: NDArray[np.float32] = gaussian_filter(counts, settings.blur * settings.size)
    return blurred


def _finish(
    categories: tuple[int, ...], layer: Layer, rng: np.random.Generator, cue_agreement: float, settings: SceneSettings
) -> Scene:
    """Puts the painted objects on a background, adds the cue and the noise, and simulates the clicks."""
    light, background = backdrop(rng, settings.size, settings.clutter)
    image = compose(layer, light, background, draw_cue(categories[0], rng, cue_agreement), rng, settings)
    heatmap, half_maps, clicks = click_maps(layer.click_chance, rng, settings)
    return Scene(image, heatmap, half_maps, clicks, categories)


def compose(
    layer: Layer,
    light: NDArray[np.float32],
    background: NDArray[np.float32],
    cue: int,
    rng: np.random.Generator,
    settings: SceneSettings,
) -> NDArray[np.uint8]:
    """Adds the cue to a background, puts painted objects in front of it, and adds the noise.

    Args:
        layer: the objects.
        light, background: of `backdrop`.
        cue: which grating (`grating`).
        rng: source of the grating's phase and of the noise: as many numbers are drawn for every cue.
        settings: how scenes are made.

    Returns:
        (size, size, 3) uint8.
    """
    wave = grating(cue, rng.uniform(0, 2 * math.pi), settings.size)
    behind = background + settings.cue_amplitude * wave[..., None]
    # The same light falls on object and background, or the object would look pasted on.
    shaded = layer.colour * (1 + SHADING * light[..., None])
    image = _add_noise(shaded + behind * (1 - layer.alpha), rng, settings.noise)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _add_noise(image: NDArray[np.float32], rng: np.random.Generator, deviation: float) -> NDArray[np.float32]:
    """Adds sensor noise: mostly grey, half as much per channel."""
    size = len(image)
    grey = rng.normal(0, deviation, (size, size, 1)).astype(np.float32)
    per_channel = rng.normal(0, deviation / 2, (size, size, 3)).astype(np.float32)
    return image + grey + per_channel
