"""Ways to some adversarial point, near or not: a walk against the gradient, and noise where there is no gradient."""

from collections.abc import Iterable

import torch
from torch import Tensor

from advalign.attacks._oracle import Oracle
from advalign.tensors.balls import clip_to_box
from advalign.tensors.norms import Norm, steepest


def walk_until_adversarial(oracle: Oracle, index: Tensor, lengths: Iterable[float], norm: Norm = "l2") -> Tensor:
    """Step most steeply against the judge's gradient, clipping to the box; flipped images leave the batch.

    Args:
        oracle: answers queries.
        index: (M,) which inputs to move.
        lengths: length of each step; the clean image is evaluated before the first.
        norm: of the lengths.

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
        delta = clip_to_box(inputs[active], delta - length * steepest(norm, gradient))
    return result


def first_adversarial_noise(oracle: Oracle, index: Tensor, tries: int) -> Tensor:
    """The first of a few images of uniform noise that is adversarial; they are the same for all inputs.

    Args:
        oracle: answers queries.
        index: (M,) which inputs.
        tries: images of noise.

    Returns:
        (M, ...) images of noise; the clean image if none is adversarial.
    """
    result = oracle.inputs[index]
    active, generator = torch.arange(len(index), device=result.device), torch.Generator().manual_seed(0)
    for _ in range(tries):
        if not len(active):
            break
        noise = torch.rand(result.shape[1:], generator=generator).to(result).expand_as(result[active])
        flipped = oracle.is_adversarial(noise, index[active])
        result[active[flipped]] = noise[flipped]
        active = active[~flipped]
    return result
