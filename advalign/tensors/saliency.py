"""Saliency: what of an image a model's decision rests on, as the harmonizer compares it with human maps."""

import torch
from torch import Tensor


def saliency(logits: Tensor, target: Tensor, images: Tensor, *, differentiable: bool = True) -> Tensor:
    """Signed channel mean of the target logit's gradient: (N, H, W).

    Source: Feng et al. 2025, A.3; signed and averaged over channels as in Fel et al. 2022.

    Args:
        logits: (N, classes) computed from `images`, whose graph is kept.
        target: (N,) class indices, or (N, classes) shares of the classes where images were mixed.
        images: (N, 3, H, W) in [0, 1], requiring gradients.
        differentiable: whether the result can be differentiated again.
    """
    aimed_at = logits.gather(1, target[:, None]) if target.ndim == 1 else logits * target
    (gradient,) = torch.autograd.grad(aimed_at.sum(), images, create_graph=differentiable)
    return gradient.mean(1)
