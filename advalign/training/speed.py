"""How fast a training runs and how long it waits for data: read every few seconds, and no part of its result."""

import resource
import time
from collections.abc import Iterator

import torch

from advalign.data.batches import Batch

SECONDS = 10.0  # between reports


class Speed:
    """Rates since the last report.

    Args:
        batch_size: images per step, of all processes together.
        device: that the training runs on.
    """

    def __init__(self, batch_size: int, device: torch.device) -> None:
        self.batch_size, self.device = batch_size, device
        self.passed, self.waited, self.steps = 0.0, 0.0, 0
        self.begin()

    def begin(self) -> None:
        """Called before the first step of an epoch: the time before it is not counted."""
        self.last = time.monotonic()

    def watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; the time until each comes counts as waiting."""
        while True:
            asked = time.monotonic()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.waited += time.monotonic() - asked
            yield batch

    def report(self) -> dict[str, float] | None:
        """Called after every step; None until it is time for a report.

        Returns:
            images_per_second, waiting_for_data (share of the time), memory_mib (`peak_memory`).
        """
        now = time.monotonic()
        self.passed, self.last, self.steps = self.passed + now - self.last, now, self.steps + 1
        if self.passed < SECONDS:
            return None
        report = {
            "images_per_second": self.steps * self.batch_size / self.passed,
            "waiting_for_data": self.waited / self.passed,
            "memory_mib": peak_memory(self.device),
        }
        self.passed, self.waited, self.steps = 0.0, 0.0, 0
        return report


def peak_memory(device: torch.device) -> float:
    """The most memory in MiB that this process has used so far: of the GPU, or else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
