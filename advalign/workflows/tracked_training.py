"""A training with a progress bar and a live MLflow run; a store that fails does not stop it."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from advalign.errors import InputError
from advalign.files import Project
from advalign.models.checkpoints import Card
from advalign.progress import Advance, progress
from advalign.recipes.base import Position
from advalign.strict_settings import digest
from advalign.tracking.lineage import training_params
from advalign.tracking.store import StoreDown, open_store
from advalign.tracking.training_run import TrainingRun
from advalign.training.pictures import Pictures
from advalign.training.plan import Plan
from advalign.training.train import train
from advalign.training.world import is_first


class _Bar:
    """Shows a training's progress: finished steps and the last epoch's numbers."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance
        self.note = ""

    def on_step(self, position: Position) -> None:
        """Move the bar."""
        self.advance(position.step + 1, position.steps, self.note)

    def on_report(self, row: dict[str, float]) -> None:
        """Show nothing: the bar has its own rate."""

    def on_pictures(self, epoch: int, pictures: Pictures) -> None:
        """Show nothing: the terminal has no pictures."""

    def on_epoch(self, row: dict[str, float]) -> None:
        """Show the epoch's numbers next to the bar."""
        self.note = f"epoch {int(row['epoch'])}: loss {row['loss']:.3f}, val accuracy {row['val_accuracy']:.3f}"


@dataclass(frozen=True)
class Tracked:
    """Outcome of a training.

    Attributes:
        card: of the checkpoint.
        trained: whether anything was trained (a finished checkpoint of the same identity is kept).
        outage: why the store lacks a part of the run; empty where it lacks none.
    """

    card: Card
    trained: bool
    outage: str = ""


@dataclass
class _Watch:
    """The observers of a training, made once it starts."""

    project: Project
    planned: Plan
    store_needed: bool
    advance: Advance
    runs: list[TrainingRun] = field(default_factory=list)
    outages: list[str] = field(default_factory=list)
    trained: bool = False

    def observers(self) -> list[TrainingRun | _Bar]:
        """The run, if the store answers, and the progress bar."""
        self.trained = True
        try:
            self.runs.append(_begin(self.project, self.planned))
        except StoreDown as error:
            if self.store_needed:
                raise
            self.outages.append(str(error))
        return [*self.runs, _Bar(self.advance)]

    def finish(self, folder: Path) -> None:
        """Close the run; a store that does not answer is recorded as an outage."""
        for run in self.runs:
            try:
                run.finish(folder)
            except StoreDown as error:
                self.outages.append(str(error))


def train_tracked(
    project: Project,
    planned: Plan,
    folder: Path,
    *,
    device: str = "auto",
    resume: bool = True,
    store_needed: bool = True,
) -> Tracked:
    """Train with a progress bar and a live MLflow run.

    Args:
        project, planned, folder, device, resume: as `training.train.train`.
        store_needed: refuse to start where the store does not answer; otherwise record an outage.

    Raises:
        StoreDown: with `store_needed`, before the training; later outages are in `Tracked.outage`.
    """
    with progress(f"training {planned.name}") if is_first() else nullcontext(_silent) as advance:
        watch = _Watch(project, planned, store_needed, advance)
        try:
            card = train(project, planned, folder, watch.observers, device=device, resume=resume)
        except BaseException as error:
            for run in watch.runs:
                run.cut_off(error)
            if isinstance(error, ValueError) and "more than 1 value per channel" in str(error):  # torch's own words
                raise InputError(
                    f"{planned.training.model} normalises over the batch, and a part of a batch has one image, "
                    "expected 2 or more: raise train.batch_size, or lower train.accumulate"
                ) from None
            raise
    watch.finish(folder)
    return Tracked(card, watch.trained, "; ".join(watch.outages))


def _silent(done: int, total: int, note: str = "") -> None:
    """Progress in a process other than the first: none is shown."""


def _begin(project: Project, planned: Plan) -> TrainingRun:
    used, training = planned.used(), planned.training
    params = training_params(used, training.model, training.recipe, planned.seed)
    tags = {"advalign.recipe": training.recipe, "settings.sha256": digest(used)}
    return TrainingRun(open_store(project), project, planned.name, planned.identity, params, tags)
