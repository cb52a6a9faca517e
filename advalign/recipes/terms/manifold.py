"""The manifold term: the features of a class are to lie and to spread as the brain responses to its images.

Source: Shao et al., ICLR 2026 submission. Its released code has the second part with the opposite sign.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from advalign.data.batches import Batch
from advalign.recipes.terms._gathered import gathered, of_all
from advalign.recipes.terms._neural import Neural, NeuralSettings, responses_of
from advalign.tensors.class_manifolds import ClassManifolds, class_manifolds, excess, share_inside


class Manifold(Neural):
    """a1 mean_c ReLU(RMS ||z - centre_c|| - radius_c) + a2 mean_c (1 - VAF_c), z the read-out of the features.

    The centre, the radius and the subspace of a class are those of the responses to its training images. A class counts
    where two images of the batch or more have it and have a response; without such a class the term is 0.
    """

    class Settings(NeuralSettings):
        """Weights of the two parts, and the subspaces."""

        a0: float = Field(0.1, gt=0, description="weight of the cross-entropy; divides the others with normalise_ce")
        a1: float = Field(0.45, ge=0, description="weight of distances from the class's centre beyond its radius")
        a2: float = Field(0.45, ge=0, description="weight of variance outside of the class's subspace")
        subspace: float = Field(0.9, gt=0, le=1, description="share of a class's variance that its subspace holds")
        push_out: bool = Field(False, description="the sign of the second part in the released code: VAF is minimised")

    whole_batch = True

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self._manifolds: ClassManifolds | None = None

    @property
    def weight(self) -> float:
        """1, or 1 / a0 where the cross-entropy keeps weight 1; 0 where both parts have none."""
        if not self.settings.a1 and not self.settings.a2:
            return 0.0
        return 1 / float(self.settings.a0) if self.settings.normalise_ce else 1.0

    def guided_by(self, responses: Tensor, labels: Tensor) -> None:
        """Take the clouds of the responses."""
        super().guided_by(responses, labels)
        self._manifolds = class_manifolds(responses, labels, self.settings.subspace)

    def __call__(self, classifier: nn.Module, logits: Tensor, batch: Batch) -> Tensor:
        """See the class."""
        assert self._manifolds is not None, "`guided_by` was called"
        points = gathered(self.mapped(batch))
        self._manifolds = self._manifolds.to(points)  # copies nothing after the first step
        labels, has_response = gathered(batch.labels), gathered(responses_of(batch)[1])
        with torch.autocast(points.device.type, enabled=False):
            far, out = manifold_parts(points, labels, has_response, self._manifolds)
            self._noted = {"excess": far.detach(), "outside": out.detach()}
            second = 1 - out if self.settings.push_out else out
            return of_all(self.settings.a1 * far + self.settings.a2 * second)

    def noted(self, batch: Batch) -> dict[str, Tensor]:
        """`excess` and `outside`: the two parts, unweighted, the second as 1 - VAF."""
        return self._noted


def manifold_parts(
    points: Tensor, labels: Tensor, has_response: Tensor, manifolds: ClassManifolds
) -> tuple[Tensor, Tensor]:
    """Means over the classes of the batch of distances beyond the radius, and of 1 - VAF.

    Args:
        points: (N, D) in the space of the responses.
        labels: (N,) class indices.
        has_response: (N,) bool: the images that count.
        manifolds: of the responses.

    Returns:
        Two scalars; each is 0 where no class has two images that count. The second is a mean over the classes with a
        subspace.
    """
    far, out = [0 * points.sum()], [0 * points.sum()]
    for label in torch.unique(labels[has_response]).tolist():
        own = points[has_response & (labels == label)]
        if len(own) < 2 or label not in manifolds.centres:
            continue
        centre, radius, subspace = manifolds.centres[label], manifolds.radii[label], manifolds.subspaces[label]
        far.append(excess(own, centre, radius))
        if subspace.shape[1]:
            out.append(1 - share_inside(own, subspace))
    first, second = (torch.stack(values).sum() / max(1, len(values) - 1) for values in (far, out))
    return first, second
