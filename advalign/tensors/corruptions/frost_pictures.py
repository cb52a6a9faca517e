"""Pictures of frost, drawn: six of them, as the authors' photographs, which are no part of this project.

Frost is drawn as a cloudy film with bright needles, bluish white. The pictures differ in their brightness, in the
coarseness of the film and in the length of the needles.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from advalign.tensors.corruptions.draws import Bytes

HEIGHT, WIDTH = 120, 160  # pixels, a fifth of a photograph's
SEED = 20194
TINT = np.array([0.90, 0.97, 1.06])  # red, green and blue, relative to grey


@dataclass(frozen=True)
class Look:
    """How a picture looks: mean and deviation of the film, its spectral exponent, strength and exponent of needles."""

    mean: float
    deviation: float
    film: float
    strength: float
    needles: float


LOOKS = (
    Look(0.48, 0.16, 1.6, 0.30, 0.9),
    Look(0.56, 0.12, 1.4, 0.35, 1.1),
    Look(0.42, 0.20, 1.8, 0.40, 0.8),
    Look(0.60, 0.14, 1.5, 0.25, 1.0),
    Look(0.52, 0.18, 1.7, 0.30, 1.2),
    Look(0.64, 0.10, 1.3, 0.35, 0.9),
)
PICTURES = len(LOOKS)
USED = 5  # by the script: its `randint(5)` is 0 .. 4


@lru_cache(maxsize=1)
def frost_pictures() -> Bytes:
    """(6, 120, 160, 3) uint8, always the same."""
    return np.stack([_drawn(look, np.random.default_rng([SEED, number])) for number, look in enumerate(LOOKS)])


def _drawn(look: Look, generator: np.random.Generator) -> Bytes:
    film = look.mean + look.deviation * _field(look.film, generator)
    needles = np.exp(-3 * np.abs(_field(look.needles, generator)))  # bright where a rough field is near zero
    grey = film + look.strength * (needles - needles.mean())
    found: Bytes = np.rint(255 * np.clip(grey[..., None] * TINT, 0, 1)).astype(np.uint8)
    return found


def _field(exponent: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """A random field of mean 0 and deviation 1 whose amplitude falls with frequency ** exponent."""
    spectrum = np.fft.rfft2(generator.standard_normal((HEIGHT, WIDTH)))
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None])
    frequency[0, 0] = np.inf  # no mean
    field = np.fft.irfft2(spectrum / frequency**exponent, s=(HEIGHT, WIDTH))
    found: NDArray[np.float64] = field / field.std()
    return found
