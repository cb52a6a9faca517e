"""Saliency: what of an image a model's decision rests on: input gradient, Grad-CAM, attention rollout."""

from collections.abc import Sequence

import torch
from torch import Tensor


def aimed_at(logits: Tensor, target: Tensor) -> Tensor:
    """The score that is explained, summed over the images, whose gradients do not mix.

    Args:
        logits: (N, classes).
        target: (N,) class indices, or (N, classes) shares of the classes where images were mixed.
    """
    return (logits.gather(1, target[:, None]) if target.ndim == 1 else logits * target).sum()


def saliency(logits: Tensor, target: Tensor, images: Tensor, *, differentiable: bool = True) -> Tensor:
    """Signed channel mean of the target logit's gradient: (N, H, W).

    Source: Feng et al. 2025, A.3; signed and averaged over channels as in Fel et al. 2022.

    Args:
        logits: (N, classes) computed from `images`, whose graph is kept.
        target: as `aimed_at`.
        images: (N, 3, H, W) in [0, 1], requiring gradients.
        differentiable: whether the result can be differentiated again.
    """
    (gradient,) = torch.autograd.grad(aimed_at(logits, target), images, create_graph=differentiable)
    return gradient.mean(1)


def grad_cam(features: Tensor, gradient: Tensor) -> Tensor:
    """Class activation map: sum over channels k of alpha_k A_k, alpha_k the mean gradient of the target's logit.

    Source: Selvaraju et al. 2017, eq. 1 and 2, without the rectifier: what speaks against the class stays negative.

    Args:
        features: (N, channels, h, w), A.
        gradient: (N, channels, h, w), of the target's logit with respect to A.

    Returns:
        (N, h, w).
    """
    return (gradient.mean((2, 3), keepdim=True) * features).sum(1)


def attention_rollout(attentions: Sequence[Tensor]) -> Tensor:
    """How much of each token is in each token after all layers: R <- ((A + I) / 2) R, from R = I.

    A is the mean over heads. The half is for the residual connection: every row of R sums to 1. Source: Abnar and
    Zuidema 2020.

    Args:
        attentions: one per layer, in order: (N, heads, T, T), rows sum to 1.

    Returns:
        (N, T, T): row i says what token i is made of.
    """
    identity = torch.eye(attentions[0].shape[-1]).to(attentions[0])
    rolled = identity.expand(len(attentions[0]), -1, -1)
    for attention in attentions:
        rolled = (attention.mean(1) + identity) / 2 @ rolled
    return rolled
