"""Progress of a training, for the schedules of recipes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """Step `step` (from 0) of `steps`."""

    step: int
    steps: int

    @property
    def progress(self) -> float:
        """Finished share of the training, in [0, 1)."""
        return self.step / self.steps
