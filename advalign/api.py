"""Measurements in Python without a project, on any torch module and batch of images (docs/own-models.md)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advalign.attacks.base import Status
from advalign.attacks.fmn_fast import SLOTS, FastMinimumNormSearch
from advalign.attacks.linf_curve import LinfCurve
from advalign.errors import InputError, quoted, shown
from advalign.strict_settings import parse
from advalign.tensors.heatmaps import released_map
from advalign.tensors.ranks import rank_correlation

Model = Callable[[Tensor], Tensor]
SEARCHES: dict[str, type[FastMinimumNormSearch]] = {"l2": FastMinimumNormSearch, "linf": LinfCurve}
"""Norm -> the search for its minimum."""


@dataclass(frozen=True)
class MinimumNorms:
    """Result of a search for minimum norms, one entry per image.

    Attributes:
        norms: (N,) float64, ||adversarial - image|| in the norm, pixels in [0, 1]; NaN where the status is not "ok".
        adversarials: (N, 3, H, W) float32 in [0, 1]; the image itself where the status is not "ok".
        perturbations: (N, 3, H, W) float32, adversarials - images.
        status: of each image "ok", "misclassified_clean" (not attacked) or "attack_failed".
        passes: (N,) int64, forward passes spent on the image, its verification included.
    """

    norms: Tensor
    adversarials: Tensor
    perturbations: Tensor
    status: tuple[Status, ...]
    passes: Tensor


def minimum_norm(
    model: Model,
    images: Tensor,
    labels: Tensor,
    norm: str = "l2",
    budget: str = "standard",
    groups: Tensor | Sequence[int] | None = None,
) -> MinimumNorms:
    """Search for the smallest perturbation of each image that changes the model's decision (docs/fmn-fast.md).

    Args:
        model: (N, 3, H, W) pixels in [0, 1] -> (N, K) logits; where it is a module, in evaluation mode.
        images: (N, 3, H, W) float32 in [0, 1], on the model's device.
        labels: (N,) integers: the right classes, or with `groups` the right decisions.
        norm: "l2", the Euclidean norm, or "linf", the largest change of a pixel.
        budget: "fast", "standard" or "thorough": about 50, 100 or 200 passes per image.
        groups: (K,) integers: the decision that each class belongs to; None: every class is its own.

    Raises:
        InputError: images, labels or groups of another form, a model in training mode, or logits that are not
            finite.
    """
    if norm not in SEARCHES:
        raise InputError(f"norm {shown(norm)} cannot be measured: expected 'l2' or 'linf'")
    search = SEARCHES[norm]
    settings = parse(search.Settings, {"budget": budget}, "minimum_norm")
    check_evaluation_mode(model)
    labels = _images_and_labels(images, labels)
    classes = _classes(model, images[:1])
    members = None if groups is None else _members(groups, classes, images.device)
    decisions = classes if members is None else int(members.max()) + 1
    if labels.min() < 0 or labels.max() >= decisions:
        raise InputError(
            f"labels: expected decisions from 0 to {decisions - 1}, got {int(labels.min())} to {int(labels.max())}"
        )
    size = SLOTS.get(images.device.type, SLOTS["cpu"])
    # A copy of the pixels: a network that computes in place would change the images.
    found = search(settings).run(lambda pixels: model(pixels.clone()), images, labels, groups=members, batch_size=size)
    perturbations = found.adversarials - images
    return MinimumNorms(found.norms, found.adversarials, perturbations, tuple(found.status), found.queries)


def alignment(perturbations: Tensor, human_maps: Tensor, ceiling: float | None = None) -> Tensor:
    """Whether perturbations fall where people look: Spearman's rho of both maps (Feng et al. 2025).

    The perturbation map is |max over channels|, as in the released code (docs/extending.md has others).

    Args:
        perturbations: (N, 3, H, W), adversarials - images.
        human_maps: (N, H, W) or (N, 1, H, W), larger where people look.
        ceiling: rank correlation between halves of the participants, in (0, 1], that rho is divided by; None: raw.

    Returns:
        (N,) float64; NaN where a map is constant, such as that of a zero perturbation. `.nanmean()` is AA.

    Raises:
        InputError: tensors of other shapes, or an invalid ceiling.
    """
    if not isinstance(perturbations, Tensor) or perturbations.ndim != 4:
        raise InputError(f"perturbations: expected a tensor (N, 3, H, W), got {_form(perturbations)}")
    count, _, height, width = perturbations.shape
    wanted = [(count, height, width), (count, 1, height, width)]
    if not isinstance(human_maps, Tensor) or tuple(human_maps.shape) not in wanted:
        raise InputError(f"human_maps: expected a tensor {wanted[0]}, one map per image, got {_form(human_maps)}")
    if ceiling is not None and not 0 < ceiling <= 1:
        raise InputError(f"ceiling: expected a correlation above 0, at most 1, or None, got {shown(ceiling)}")
    rho = rank_correlation(released_map(perturbations).flatten(1), human_maps.to(perturbations.device).flatten(1))
    return rho if ceiling is None else rho / ceiling


def check_evaluation_mode(model: Model) -> None:
    """Refuse a model whose answers change from pass to pass.

    Raises:
        InputError: the model cannot be called, or one of its layers is in training mode.
    """
    if not callable(model):
        raise InputError(f"model: expected a torch module, pixels in [0, 1] -> logits, got {type(model).__name__}")
    if isinstance(model, nn.Module) and any(module.training for module in model.modules()):
        raise InputError("the model is in training mode, where dropout and batch statistics vary: call model.eval()")


def _images_and_labels(images: Tensor, labels: Tensor) -> Tensor:
    """Check images and labels; the labels as int64."""
    if not isinstance(images, Tensor) or images.ndim != 4 or not len(images):
        raise InputError(f"images: expected a tensor (N, 3, H, W) of float32 in [0, 1], got {_form(images)}")
    if images.dtype != torch.float32 or not ((images >= 0) & (images <= 1)).all():
        low, high = float(images.min()), float(images.max())
        raise InputError(f"images: expected float32 in [0, 1], got {_form(images)} from {low:.3g} to {high:.3g}")
    labels = _integers(labels, "labels", images.device)
    if labels.shape != images.shape[:1]:
        raise InputError(f"labels: expected one for each of {len(images)} images, got {_form(labels)}")
    return labels


def _members(groups: Tensor | Sequence[int], classes: int, device: torch.device) -> Tensor:
    """Check the decisions of the classes; as int64."""
    members = _integers(groups, "groups", device)
    if members.shape != (classes,) or members.min() < 0:
        raise InputError(f"groups: expected a decision from 0 for each of {classes} classes, got {shown(groups)}")
    return members


def _integers(values: Tensor | Sequence[int], name: str, device: torch.device) -> Tensor:
    try:
        found = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name}: expected integers, got {shown(values)}") from None
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise InputError(f"{name}: expected integers, got {_form(found)}")
    return found.to(device, torch.int64)


@torch.no_grad()
def _classes(model: Model, image: Tensor) -> int:
    """Number of the model's logits, found by one pass that is not counted."""
    try:
        logits = model(image.clone())
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        reason = quoted(error, named=True)
        raise InputError(f"the model refuses an image {tuple(image.shape)} on {image.device}: {reason}") from None
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1 or logits.shape[1] < 2:
        raise InputError(f"the model gives {_form(logits)} for one image: expected logits (1, K) of at least 2 classes")
    if not logits.isfinite().all():
        raise InputError("the model gives logits that are NaN or infinite: check its weights and its normalisation")
    return int(logits.shape[1])


def _form(value: object) -> str:
    """Description of a wrong value for messages: a tensor's shape and type."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return type(value).__name__
