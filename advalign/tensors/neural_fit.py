"""How well features of images fit responses to them: explained variance, RSA and CKA, all on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from advalign.tensors.encoding import Explained, explained, kernel, predicted
from advalign.tensors.representations import agreement, dissimilarities, linear_cka

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NeuralFit:
    """One feature space, or several joined, against one area.

    Attributes:
        explained: of held-out responses.
        rsa: Spearman's rho of the dissimilarities (1 - correlation); NaN for a single unit, or where features do not
            vary within an image.
        cka: debiased linear CKA; NaN where features do not vary.
    """

    explained: Explained
    rsa: float
    cka: float


def neural_fit(
    spaces: Sequence[Array], responses: Array, ceilings: Array, resamples: int, seed: int, model: Tensor | None = None
) -> NeuralFit:
    """Fit feature spaces to responses of an area.

    Args:
        spaces: (N, F) each, of the same images; several have a penalty each (banded ridge).
        responses: (N, U), N at least `encoding.LEAST_IMAGES`.
        ceilings: (U,) share of each unit's variance that can be explained; NaN: unknown.
        resamples, seed: of the interval; the seed also draws the folds.
        model: the spaces' dissimilarities (`representations.dissimilarities`); None: they are computed.

    Raises:
        DataError, InputError: as `encoding.predicted`.
    """
    told = explained(predicted([kernel(one) for one in spaces], responses, seed), responses, ceilings, resamples, seed)
    together, measured = side_by_side(spaces), torch.from_numpy(responses)
    rsa = float("nan")
    if responses.shape[1] > 1:
        own = dissimilarities(together) if model is None else model
        rsa = float(agreement(own, dissimilarities(measured)[None])[0])
    return NeuralFit(told, rsa, float(linear_cka(together, measured)))


def side_by_side(spaces: Sequence[Array]) -> Tensor:
    """Spaces as one, (N, F) float64: centred, and each has variance 1 in all."""
    found = []
    for space in spaces:
        values = np.asarray(space, np.float64) - space.mean(0)
        found.append(values / max(float(np.sqrt((values**2).sum(1).mean())), np.finfo(float).tiny))
    return torch.from_numpy(np.concatenate(found, 1))
