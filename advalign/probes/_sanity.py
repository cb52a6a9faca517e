"""Flags for models whose gradients mislead an attack, so that norms are not minima (Croce and Hein 2020, checks).

A flag does not stop an evaluation. It is stored with the rows and logged with the run. It excludes the model from the
statistics of a comparison.
"""

import torch
from torch import Tensor, nn

from advalign.attacks.base import Logits, Oracle
from advalign.errors import DataError

FLAGS = {
    "train-mode": "some layer is in training mode: dropout and batch statistics change what is attacked",
    "stochastic": "the same images give different logits twice",
    "non-finite-logits": "logits that are NaN or infinite",
    "non-finite-gradients": "input gradients that are NaN or infinite",
    "zero-gradients": "input gradients that vanish: gradient attacks see a flat function",
    "probabilities": "outputs look like probabilities: a softmax hides gradients, attack the logits",
}
LOOKED_AT = 8  # number of a task's items that the checks use
NOT_FINITE = "its logits of clean images are not finite: fetch the weights again, or fix the entry's preprocessing"
REPEATS = 1e-3  # largest difference of two passes that counts as rounding, relative to the spread of the logits
SUM_TO_ONE = 1e-3


def sanity_flags(
    logits: Logits, inputs: Tensor, labels: Tensor, groups: Tensor | None = None, batch_size: int | None = None
) -> list[str]:
    """Check a model's logits and gradients on a few clean images, with two passes.

    Args:
        logits: (N, 3, H, W) in [0, 1] -> (N, K); the layers' modes of a module are checked too.
        inputs: (N, 3, H, W) the images.
        labels: (N,) right decisions.
        groups: (K,) decision of each class, or None.
        batch_size: the most images in one pass; None: all of them.

    Returns:
        Keys of FLAGS, in their order; empty where no check fails.
    """
    oracle = Oracle(logits, inputs, labels, groups=groups, batch_size=batch_size)
    index = torch.arange(len(inputs), device=inputs.device)
    first = oracle.clean_logits.double()
    second = oracle.class_logits(inputs, index).double()
    _, gradient = oracle.margin_and_gradient(inputs, index)
    strength = gradient.flatten(1).abs().amax(1)
    finite = bool(first.isfinite().all())
    spread = float(first.std()) if finite else 1.0
    differ = bool(((first - second).abs() > REPEATS * spread).any())
    in_range = bool(((first >= 0) & (first <= 1)).all())
    raised = {
        "train-mode": isinstance(logits, nn.Module) and any(module.training for module in logits.modules()),
        "stochastic": finite and differ,
        "non-finite-logits": not finite,
        "non-finite-gradients": not bool(strength.isfinite().all()),
        "zero-gradients": bool((strength == 0).any()),
        "probabilities": in_range and bool(((first.sum(1) - 1).abs() < SUM_TO_ONE).all()),
    }
    return [name for name in FLAGS if raised[name]]


def checked_flags(
    name: str,
    logits: Logits,
    inputs: Tensor,
    labels: Tensor,
    groups: Tensor | None,
    batch_size: int | None = None,
) -> list[str]:
    """Flags of a model by the first few items of a task.

    Args:
        name: of the model, for the message.
        logits, inputs, labels, groups, batch_size: as `sanity_flags`.

    Raises:
        DataError: the logits of clean images are not finite: nothing can be measured.
    """
    flags = sanity_flags(logits, inputs[:LOOKED_AT], labels[:LOOKED_AT], groups, batch_size)
    if "non-finite-logits" in flags:
        raise DataError(f"{name}: {NOT_FINITE}")
    return flags
