"""A walk against the gradient that ends, image by image, at the first adversarial iterate."""

from collections.abc import Iterable

import torch
from torch import Tensor

from advalign.attacks._oracle import Oracle
from advalign.tensors.balls import clip_to_box
from advalign.tensors.norms import unit_l2


def walk_until_adversarial(oracle: Oracle, index: Tensor, lengths: Iterable[float]) -> Tensor:
    """Step against the judge's gradient, scaled to unit l2 norm, clipping to the box; flipped images leave the batch.

    Args:
        oracle: answers queries.
        index: (M,) which inputs to move.
        lengths: l2 length of each step; the clean image is evaluated before the first.

    Returns:
        (M, ...) the first adversarial iterates; the clean image if there is none.
    """
    inputs = oracle.inputs[index]
    result = inputs.clone()
    active = torch.arange(len(index), device=inputs.device)
    delta = torch.zeros_like(inputs)
    for length in lengths:
        points = inputs[active] + delta
        margin, gradient = oracle.margin_and_gradient(points, index[active])
        done = margin < 0
        result[active[done]] = points[done]
        active, delta, gradient = active[~done], delta[~done], gradient[~done]
        if not len(active):
            break
        delta = clip_to_box(inputs[active], delta - length * unit_l2(gradient))
    return result
