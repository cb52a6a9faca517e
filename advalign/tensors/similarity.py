"""How alike two representations of the same images are."""

import torch
from torch import Tensor

SMALLEST = 1e-12


def linear_cka(first: Tensor, second: Tensor, chosen: Tensor) -> Tensor:
    """Linear centred kernel alignment (Kornblith et al. 2019, eq. 4) over some of the images; differentiable.

    Args:
        first: (N, D) features.
        second: (N, E) features of the same images.
        chosen: (N,) bool: the images that count.

    Returns:
        Scalar in [0, 1]; 1 where fewer than two images are chosen, since nothing can be compared. 0 where one of the
        two does not vary.

    >>> first = torch.tensor([[1.0], [2.0], [4.0]])
    >>> float(linear_cka(first, -2 * first + 1, torch.ones(3, dtype=torch.bool)))
    1.0
    """
    if int(chosen.sum()) < 2:
        return 1 + 0 * first.sum()
    one, two = (values[chosen] - values[chosen].mean(0) for values in (first, second))
    grams = one @ one.T, two @ two.T
    norms = [gram.square().sum().clamp_min(SMALLEST).sqrt() for gram in grams]
    return torch.sum(grams[0] * grams[1]) / (norms[0] * norms[1])
