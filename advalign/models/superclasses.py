"""The decision that is attacked: classes mapped to a few groups (animate or not)."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn


class GroupedClassifier(nn.Module):
    """Logits of groups of classes: each group's output is the maximum (or sum) of its classes' logits.

    The maximum is the protocol (Feng et al. 2025, class-mapping layer).
    """

    groups: Tensor

    def __init__(
        self,
        classifier: Callable[[Tensor], Tensor],
        group_of_class: Sequence[int],
        reduction: Literal["max", "sum"] = "max",
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.reduction = reduction
        self.register_buffer("groups", torch.tensor(group_of_class), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) pixels in [0, 1] -> (N, groups) logits."""
        logits = self.classifier(pixels)
        columns = []
        for group in range(int(self.groups.max()) + 1):
            members = logits[:, self.groups == group]
            columns.append(members.amax(1) if self.reduction == "max" else members.sum(1))
        return torch.stack(columns, 1)
