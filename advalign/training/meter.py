"""Means over an epoch of the values that every step reports; part of a saved state, and added up over processes."""

from typing import Any

import torch
from torch import Tensor

from advalign.training.world import World

Row = dict[str, float]


class Meter:
    """Sums over images of a recipe's scalars, the number of images that had each, and the number of right answers.

    Means over images do not depend on how many parts and processes compute a batch. The sums stay on the device until
    they are read: reading a number from a GPU would make it wait.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.right: Tensor | int = 0
        self.seen = 0

    def add(self, result: dict[str, Tensor], labels: Tensor) -> None:
        """Take one step's result: "logits" (N, classes), and scalars."""
        self.right = self.right + (result["logits"].detach().argmax(1) == labels).sum()
        self.seen += len(labels)
        for name, value in result.items():
            if name != "logits":
                value = value.detach().double() * len(labels)
                self.sums[name] = self.sums[name] + value if name in self.sums else value
                self.counts[name] = self.counts.get(name, 0) + len(labels)

    def state(self, world: World) -> dict[str, Any]:
        """The sums of all processes as plain numbers; the first process can resume from them alone."""
        own = {name: (float(value), self.counts[name]) for name, value in self.sums.items()}
        parts = world.all((own, int(self.right), self.seen))
        names = list(dict.fromkeys(name for sums, _, _ in parts for name in sums))
        return {
            "sums": {name: sum(sums[name][0] for sums, _, _ in parts if name in sums) for name in names},
            "counts": {name: sum(sums[name][1] for sums, _, _ in parts if name in sums) for name in names},
            "right": sum(right for _, right, _ in parts),
            "seen": sum(seen for _, _, seen in parts),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in state["sums"].items()}
        self.counts, self.right, self.seen = dict(state["counts"]), state["right"], state["seen"]

    def means(self, world: World) -> Row:
        """One number per scalar, over the images that had it, and the share of right answers."""
        state = self.state(world)
        means = {name: total / state["counts"][name] for name, total in state["sums"].items()}
        return {**means, "train_accuracy": state["right"] / max(state["seen"], 1)}
