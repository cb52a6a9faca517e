"""Where a training stands, for what a recipe schedules."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """Step `step` (from 0) of `steps`."""

    step: int
    steps: int

    @property
    def progress(self) -> float:
        """Share of the training that is done, in [0, 1)."""
        return self.step / self.steps
