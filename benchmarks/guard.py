"""Whether gradients hide smaller perturbations: attacks without gradients start where ours ended.

*Transfer*: perturbations found on another model, scaled along their ray to this model's boundary. *Decision-based*:
HopSkipJump (Chen et al. 2020, Foolbox), which needs only decisions, started at our points. Where gradients are
masked, such attacks find smaller norms than ours (Athalye et al. 2018).
"""

from collections.abc import Iterator

import foolbox
import torch
from torch import Tensor

from advalign.tensors.norms import l2_norm, per_sample
from benchmarks._peers import ours
from benchmarks._victims import Victim
from benchmarks.attacks import markdown

HALVINGS = 12
HOPS, ESTIMATES = 10, 400
SMALLER = 0.995


@torch.no_grad()
def on_ray(victim: Victim, direction: Tensor) -> Tensor:
    """Smallest norm along each ray, up to the box, at which the decision flips (by bisection); infinite without one."""

    def flips(factor: Tensor) -> Tensor:
        points = (victim.images + direction * per_sample(factor, direction)).clamp(0, 1)
        return victim.groups[victim.classifier(points).argmax(1)] != victim.labels

    high = torch.ones(len(direction))
    for _ in range(HALVINGS):
        high = torch.where(flips(high), high, high * 2)
    found, low = flips(high), torch.zeros_like(high)
    for _ in range(2 * HALVINGS):
        middle = (low + high) / 2
        flipped = flips(middle)
        high, low = torch.where(flipped, middle, high), torch.where(flipped, low, middle)
    points = (victim.images + direction * per_sample(high, direction)).clamp(0, 1)
    return l2_norm(points - victim.images).masked_fill(~found, torch.inf)


def report(victims: list[Victim]) -> Iterator[str]:
    """A row per model: how often, and by how much, another way found less."""
    points = [ours("fmn-fast")(v.classifier, v.groups, v.images, v.labels) for v in victims]
    rows = []
    for number, victim in enumerate(victims):
        norm = l2_norm(points[number] - victim.images)
        transferred = torch.full_like(norm, torch.inf)
        for other, found in zip(victims, points, strict=True):
            if other is not victim:
                shared = _same_images(victim, other)
                direction = torch.zeros_like(victim.images)
                direction[shared[:, 0]] = (found - other.images)[shared[:, 1]]
                transferred = transferred.minimum(on_ray(victim, direction))
        model = foolbox.PyTorchModel(victim.grouped, bounds=(0, 1))
        attack = foolbox.attacks.HopSkipJumpAttack(steps=HOPS, max_gradient_eval_steps=ESTIMATES)
        hopped = attack(model, victim.images, victim.labels, starting_points=points[number], epsilons=None)[0]
        decided = l2_norm(hopped - victim.images)
        rows.append((victim.name, str(len(norm)), *_summary(transferred, norm), *_summary(decided, norm)))
    yield markdown(
        ("model", "images", "transfer: smaller in", "smallest ratio", "HopSkipJump: smaller in", "smallest ratio"), rows
    )


def _same_images(first: Victim, second: Victim) -> Tensor:
    """(M, 2) positions of images that both have."""
    distance = torch.cdist(first.images.flatten(1), second.images.flatten(1))
    return torch.nonzero(distance < 1e-6)


def _summary(other: Tensor, norm: Tensor) -> tuple[str, str]:
    return f"{int((other < SMALLER * norm).sum())}", f"{(other / norm).min():.3f}"
