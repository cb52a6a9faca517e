"""Random numbers of corrupted images: each image has its own, which follow from its pixels alone.

So it does not matter which images are corrupted together, in which order, or by how many workers. Two images with the
same pixels are corrupted in the same way.
"""

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]


class Draws:
    """Random numbers of N images, the first axis of everything that is drawn.

    Args:
        images: (N, H, W, 3) uint8.
        key: what else the numbers depend on: seed, corruption, severity.
        as_meant: the corruption chooses as the authors' script means to, not as it does (docs/corruptions.md).
    """

    def __init__(self, images: Bytes, key: str, as_meant: bool = False) -> None:
        self.as_meant = as_meant
        begun = blake2b(key.encode(), digest_size=16)
        self._generators = []
        for image in images:
            state = begun.copy()
            state.update(image.tobytes())
            seed = int.from_bytes(state.digest(), "little")
            self._generators.append(np.random.Generator(np.random.SFC64(seed)))

    def normal(self, *shape: int) -> Floats:
        """(N, *shape) from the standard normal distribution."""
        drawn = [one.standard_normal(shape, dtype=np.float32) for one in self._generators]
        return _stacked(drawn, shape, np.float32)

    def uniform(self, low: float, high: float, *shape: int) -> Floats:
        """(N, *shape) from [low, high)."""
        drawn = _stacked([one.random(shape, dtype=np.float32) for one in self._generators], shape, np.float32)
        return np.float32(low) + np.float32(high - low) * drawn

    def integers(self, low: int, high: int, *shape: int) -> Integers:
        """(N, *shape) from low .. high - 1."""
        return _stacked([one.integers(low, high, shape) for one in self._generators], shape, np.int64)

    def poisson(self, rates: Floats) -> Integers:
        """(N, ...) counts with these means."""
        drawn = [one.poisson(rate) for one, rate in zip(self._generators, rates, strict=True)]
        return _stacked(drawn, rates.shape[1:], np.int64)


def _stacked(drawn: list[NDArray[Any]], shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
    return np.stack(drawn) if drawn else np.zeros((0, *shape), kind)
