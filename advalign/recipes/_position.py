"""Progress of a training, for the schedules of recipes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """Step `step` (from 0) of `steps`, in a training with a seed."""

    step: int
    steps: int
    seed: int = 0

    @property
    def progress(self) -> float:
        """Finished share of the training, in [0, 1)."""
        return self.step / self.steps
