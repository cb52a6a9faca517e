"""A training as an MLflow run: its curves appear while it goes on; a resumed training continues its run.

A store that stops answering does not stop a training: rows wait until it answers again, and at the latest `advalign
publish` brings them there.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param

from advalign import provenance
from advalign.files import Project
from advalign.models.checkpoints import CARD, HISTORY, Card
from advalign.progress import Advance, progress
from advalign.recipes.base import Position
from advalign.settings import digest
from advalign.tracking.store import Store, StoreDown, open_store, store_errors
from advalign.training.train import Plan, train

IDENTITY = "advalign.inputs_sha256"
PATIENCE = 20.0  # seconds that the end of a training waits for a store that does not answer


def lineage_tags(project: Project) -> dict[str, str]:
    """Where a result comes from: git.commit, git.dirty, dvc.data.md5."""
    commit, dirty = provenance.git_state(project.root)
    tags = {"git.commit": commit, "git.dirty": dirty, "dvc.data.md5": provenance.data_md5(project.root)}
    return {name: str(value) for name, value in tags.items() if value is not None}


def now_ms() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as parameters: {"recipe": {"eps": 1}} -> {"recipe.eps": "1"}."""
    result: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = str(value)
    return result


def training_params(settings: dict[str, Any], architecture: str, recipe: str, seed: int) -> dict[str, str]:
    """Parameters of a training run."""
    return {"architecture": architecture, "recipe": recipe, "seed": str(seed), **flat(settings)}


class TrainingRun:
    """Logs a training as it goes; an observer of the loop.

    Args:
        store: opened tracking store.
        project: for lineage.
        name: the published name.
        identity: of the training; an unfinished run of the same identity is continued.
        params: flat parameters; tags: further tags.

    Raises:
        StoreDown: the store does not answer, or refuses.
    """

    def __init__(
        self, store: Store, project: Project, name: str, identity: str, params: dict[str, str], tags: dict[str, str]
    ) -> None:
        self.client, self.uri = store.client, store.uri
        self.waiting: list[Metric] = []
        with store_errors(self.uri):
            unfinished = store.find_runs("train", {IDENTITY: identity, "advalign.model": name}, finished=False)
            if unfinished:
                self.run_id = unfinished[0].info.run_id
                self.client.update_run(self.run_id, "RUNNING")
                history = self.client.get_metric_history(self.run_id, "loss")
                self.last = max((metric.step for metric in history), default=0)
            else:
                all_tags = {IDENTITY: identity, "advalign.model": name, **lineage_tags(project), **tags}
                run = self.client.create_run(store.experiment_ids["train"], run_name=name, tags=all_tags)
                self.run_id, self.last = run.info.run_id, 0
            self.client.log_batch(self.run_id, params=[Param(key, value) for key, value in params.items()])

    def on_step(self, position: Position) -> None:
        """Steps are not logged one by one."""

    def on_epoch(self, row: dict[str, float]) -> None:
        """Log an epoch's numbers at its step, unless an earlier try has; what cannot be logged now waits."""
        step = int(row["step"])
        if step <= self.last:
            return
        now = now_ms()
        self.last = step
        alone = not self.waiting
        self.waiting += [Metric(name, value, now, step) for name, value in row.items() if name != "step"]
        try:
            self._log_waiting()
        except StoreDown as error:
            if alone:
                _say(f"{error}; the training goes on, and what it logs is kept")

    def _log_waiting(self) -> None:
        """Log what waits. A batch whose answer was lost is sent again: MLflow keeps equal values once."""
        with store_errors(self.uri):
            self.client.log_batch(self.run_id, metrics=self.waiting)
        self.waiting = []

    def finish(self, folder: Path) -> None:
        """Log what waits, add the checkpoint's card and history, and mark the run as finished.

        Raises:
            StoreDown: the store did not answer for `PATIENCE` seconds.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._close(folder)
                return
            except StoreDown:
                if time.monotonic() > deadline:
                    raise
                time.sleep(2.0)

    def _close(self, folder: Path) -> None:
        self._log_waiting()
        with store_errors(self.uri):
            for name in (CARD, HISTORY):
                self.client.log_artifact(self.run_id, str(folder / name))
            self.client.set_terminated(self.run_id, "FINISHED")


def _say(message: str) -> None:
    print(f"advalign: {message}", file=sys.stderr)  # noqa: T201


class _Watcher:
    """Shows a training's progress: steps done, and the last epoch's numbers."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance
        self.note = ""

    def on_step(self, position: Position) -> None:
        """Move the bar."""
        self.advance(position.step + 1, position.steps, self.note)

    def on_epoch(self, row: dict[str, float]) -> None:
        """Change the note."""
        self.note = f"epoch {int(row['epoch'])}: loss {row['loss']:.3f}, val accuracy {row['val_accuracy']:.3f}"


@dataclass(frozen=True)
class Tracked:
    """What became of a training.

    Attributes:
        card: of the checkpoint.
        trained: whether anything was trained (a finished checkpoint of the same identity is kept).
        outage: why the store does not hold all of it; empty where it does.
    """

    card: Card
    trained: bool
    outage: str = ""


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
        store_needed: refuse to begin where the store does not answer; otherwise that is an outage like any other.

    Raises:
        StoreDown: before the training; afterwards it is told in `Tracked.outage`.
    """
    runs: list[TrainingRun] = []
    outages: list[str] = []
    trained = False
    with progress(f"training {planned.name}") as advance:

        def observers() -> list[TrainingRun | _Watcher]:
            nonlocal trained
            trained = True
            try:
                runs.append(_begin(project, planned))
            except StoreDown as error:
                if store_needed:
                    raise
                outages.append(str(error))
            return [*runs, _Watcher(advance)]

        card = train(project, planned, folder, observers, device=device, resume=resume)
    for run in runs:
        try:
            run.finish(folder)
        except StoreDown as error:
            outages.append(str(error))
    return Tracked(card, trained, "; ".join(outages))


def _begin(project: Project, planned: Plan) -> TrainingRun:
    settings = {"recipe": planned.recipe_settings, "train": planned.settings.train.model_dump()}
    return TrainingRun(
        open_store(project),
        project,
        planned.name,
        planned.identity,
        training_params(settings, planned.training.model, planned.training.recipe, planned.seed),
        {"advalign.recipe": planned.training.recipe, "settings.sha256": digest(settings)},
    )
