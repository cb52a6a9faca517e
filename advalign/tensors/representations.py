"""How alike are two descriptions of the same images: linear CKA, and dissimilarity matrices with noise ceilings."""

from dataclasses import dataclass

import torch
from torch import Tensor

from advalign.tensors.ranks import average_ranks, correlation


def linear_cka(first: Tensor, second: Tensor, *, debiased: bool = True) -> Tensor:
    """Centred kernel alignment of features (..., N, P) and (..., N, Q) of the same N images (Kornblith et al. 2019).

    The plain form grows with P and Q where N is small, even for noise. The debiased one uses the unbiased estimator of
    HSIC (Song et al. 2012, eq. 5): 0 on average for independent features, so it may be negative.

    Args:
        first, second: with the same leading dimensions; N at least 4 if debiased.
        debiased: which form.

    Returns:
        (...) float64, at most 1; NaN where a side is constant.

    >>> linear_cka(torch.eye(4), 3 * torch.eye(4), debiased=False)
    tensor(1., dtype=torch.float64)
    """
    kernels = [_centred(one.double(), debiased=debiased) for one in (first, second)]
    inner = [(one * other).sum((-2, -1)) for one, other in ((kernels[0], kernels[1]), *((k, k) for k in kernels))]
    product = inner[1].clamp_min(0) * inner[2].clamp_min(0)
    return torch.where(product > 0, inner[0] / product.sqrt(), torch.nan)


def _centred(features: Tensor, *, debiased: bool) -> Tensor:
    """The centred kernel of features (..., N, P): (..., N, N); U-centred (Szekely and Rizzo 2014) if debiased."""
    features = features - features.mean(-2, keepdim=True)
    kernel = features @ features.mT
    if not debiased:
        return kernel
    count = kernel.shape[-1]
    kernel = kernel - torch.diag_embed(torch.diagonal(kernel, dim1=-2, dim2=-1))
    rows = kernel.sum(-1, keepdim=True) / (count - 2)
    total = kernel.sum((-2, -1), keepdim=True) / ((count - 1) * (count - 2))
    kernel = kernel - rows - rows.mT + total
    return kernel - torch.diag_embed(torch.diagonal(kernel, dim1=-2, dim2=-1))


def dissimilarities(features: Tensor) -> Tensor:
    """1 - Pearson correlation of the features of two images, for every pair.

    Args:
        features: (..., N, D), N and D at least 2.

    Returns:
        (..., N (N - 1) / 2) float64 in [0, 2], in the order of SciPy's pdist; NaN where an image's features are all the
        same.

    >>> dissimilarities(torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [3.0, 2.0, 1.0]])).abs().round()
    tensor([0., 2., 2.], dtype=torch.float64)
    """
    features = features.double()
    constant = features.amax(-1) == features.amin(-1)
    features = features - features.mean(-1, keepdim=True)
    features = features / torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    features = features.masked_fill(constant[..., None], torch.nan)
    first, second = torch.triu_indices(features.shape[-2], features.shape[-2], 1, device=features.device)
    return (1 - (features @ features.mT)[..., first, second]).clamp(0, 2)


@dataclass(frozen=True)
class Ceilings:
    """What a perfect model could reach, given how much people differ (Nili et al. 2014).

    Attributes:
        lower: mean over people of Spearman's rho with the mean of all others.
        upper: mean over people of rho with the mean of all people's ranks; no model has a larger one.
    """

    lower: float
    upper: float


def ceilings(people: Tensor) -> Ceilings:
    """Noise ceilings of dissimilarities of several people.

    Args:
        people: (K, pairs), K at least 2. The matrices of the others are averaged as they are, so they must be in the
            same unit; for the upper ceiling their ranks are.
    """
    people = people.double()
    ranks = average_ranks(people)
    others = (people.sum(0, keepdim=True) - people) / (len(people) - 1)
    lower = correlation(average_ranks(others), ranks).mean()
    upper = correlation(average_ranks(ranks.mean(0, keepdim=True)).expand_as(ranks), ranks).mean()
    return Ceilings(float(lower), float(upper))


def agreement(model: Tensor, people: Tensor) -> Tensor:
    """Spearman's rho of a model's dissimilarities (pairs,) with each person's (K, pairs): (K,) float64."""
    return correlation(average_ranks(model).expand(len(people), -1), average_ranks(people))


def category_dissimilarities(categories: Tensor) -> Tensor:
    """The category model: 0 for a pair of one category, 1 for others; (N,) int64 -> (pairs,) as `dissimilarities`.

    >>> category_dissimilarities(torch.tensor([0, 0, 1]))
    tensor([0., 1., 1.], dtype=torch.float64)
    """
    first, second = torch.triu_indices(len(categories), len(categories), 1)
    return (categories[first] != categories[second]).double()
