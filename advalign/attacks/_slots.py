"""Continuous batching: items share one batch of slots; when one ends, the next of the queue takes its slot.

So the device computes full batches although items have different lengths. The order depends only on the items.
"""

import heapq
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor


@dataclass(order=True, frozen=True)
class Item:
    """A walk to run; items are taken in the order of their first three fields.

    Attributes:
        turn: smaller is sooner.
        image: row of the image.
        rank: number among the image's items.
        rivals: (K,) bool, the classes to move towards.
        start: perturbation to start from, shaped like one image.
    """

    turn: int
    image: int
    rank: int
    rivals: Tensor = field(compare=False)
    start: Tensor = field(compare=False)


@dataclass
class Flight:
    """The items in the slots, B at a time.

    Attributes:
        turn, image: (B,) int64, as in the items.
        rivals: (B, K) bool, as in the items.
        step: (B,) int64, steps made so far.
        nearest: (B,) the smallest norm at which the item was adversarial so far, infinite if none.
        overshoot: (B,) distance of the next point beyond the predicted boundary, relative to its norm.
        delta: (B, ...) the current perturbations.
    """

    turn: Tensor
    image: Tensor
    rivals: Tensor
    step: Tensor
    nearest: Tensor
    overshoot: Tensor
    delta: Tensor

    def where(self, chosen: Tensor) -> "Flight":
        """The items of a mask."""
        return Flight(*(getattr(self, entry.name)[chosen] for entry in fields(self)))

    def join(self, other: "Flight") -> "Flight":
        """Both, concatenated."""
        return Flight(*(torch.cat([getattr(self, e.name), getattr(other, e.name)]) for e in fields(self)))


class Slots:
    """At most `size` items in flight, the others in the queue.

    Args:
        size: number of slots.
        like: (any, ...) images: shape, type and device of perturbations.
        classes: K, of the items' rivals.
        overshoot: the first overshoot of an item, by its turn.
    """

    def __init__(self, size: int, like: Tensor, classes: int, overshoot: tuple[float, ...]) -> None:
        self.size, self._like, self._classes, self._overshoot = size, like, classes, overshoot
        self._queue: list[Item] = []
        self.flight = self._board([])

    def push(self, item: Item) -> None:
        """Put an item into the queue."""
        heapq.heappush(self._queue, item)

    def refill(self) -> int:
        """Fill free slots from the queue; returns the number of items in flight."""
        free = self.size - len(self.flight.turn)
        taken = [heapq.heappop(self._queue) for _ in range(min(free, len(self._queue)))]
        if taken:
            self.flight = self.flight.join(self._board(taken))
        return len(self.flight.turn)

    def _board(self, items: list[Item]) -> Flight:
        device, count = self._like.device, len(items)
        turn = torch.tensor([item.turn for item in items], dtype=torch.int64, device=device)
        nobody = torch.zeros(0, self._classes, dtype=torch.bool, device=device)
        return Flight(
            turn=turn,
            image=torch.tensor([item.image for item in items], dtype=torch.int64, device=device),
            rivals=torch.stack([item.rivals for item in items]) if items else nobody,
            step=torch.zeros_like(turn),
            nearest=self._like.new_full((count,), torch.inf),
            overshoot=self._like.new_tensor([self._overshoot[item.turn] for item in items]),
            delta=torch.stack([item.start for item in items]) if items else self._like[:0],
        )
