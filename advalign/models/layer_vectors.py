"""All that a layer computes for an image, as one vector, projected at random where it is long."""

import torch
from torch import Tensor, nn

from advalign.errors import InapplicableError
from advalign.models.layer_features import LayerFeatures

AT_ONCE = 4096  # features whose projection is drawn at once


class LayerVectors(LayerFeatures):
    """Context as `LayerFeatures`, whose `values` keep the positions of feature maps and tokens.

    Args:
        classifier, layer: as `LayerFeatures`.
        dimensions: more features than these are projected onto so many (`projected`).
        seed: of the projection.
    """

    def __init__(self, classifier: nn.Module, layer: str | None, dimensions: int, seed: int) -> None:
        super().__init__(classifier, layer)
        self.dimensions, self.seed = dimensions, seed

    @property
    def values(self) -> Tensor:
        """(N, F) float32 on the CPU, F at most `dimensions`.

        Raises:
            InapplicableError: as `LayerFeatures.values`.
        """
        if self.layer is None:
            return projected(super().values.detach().cpu().float(), self.dimensions, self.seed)
        if not isinstance(self._seen, Tensor) or self._seen.ndim < 2:
            raise InapplicableError(
                f"layer {self.layer!r} of {self._kind} gives no features of images: name another layer"
            )
        return projected(self._seen.detach().cpu().float().flatten(1), self.dimensions, self.seed)


def projected(features: Tensor, dimensions: int, seed: int) -> Tensor:
    """Features (N, F) projected onto `dimensions` Gaussian directions where F is larger; else unchanged.

    Lengths and angles change by about 1 / sqrt(dimensions) (Johnson and Lindenstrauss 1984). The same seed gives every
    image the same projection, in whatever batch it comes.
    """
    length = features.shape[1]
    if length <= dimensions:
        return features
    generator = torch.Generator().manual_seed(seed)
    found = torch.zeros(len(features), dimensions)
    for first in range(0, length, AT_ONCE):
        some = features[:, first : first + AT_ONCE]
        found += some @ torch.randn(some.shape[1], dimensions, generator=generator)
    found /= dimensions**0.5
    return found
