"""A training as an MLflow run: its curves appear while it goes on; a resumed training continues its run."""

import time
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from advalign import provenance
from advalign.files import Project
from advalign.models.checkpoints import CARD, HISTORY, Card
from advalign.progress import Advance, progress
from advalign.recipes.base import Position
from advalign.settings import digest
from advalign.tracking.store import Store, open_store
from advalign.training.train import Plan, train

IDENTITY = "advalign.inputs_sha256"


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
    """

    def __init__(
        self, store: Store, project: Project, name: str, identity: str, params: dict[str, str], tags: dict[str, str]
    ) -> None:
        self.client = store.client
        unfinished = store.find_runs("train", {IDENTITY: identity, "advalign.model": name}, finished=False)
        if unfinished:
            self.run_id = unfinished[0].info.run_id
            self.client.update_run(self.run_id, "RUNNING")
            history = self.client.get_metric_history(self.run_id, "loss")
            self.logged = max((metric.step for metric in history), default=0)
            return
        all_tags = {IDENTITY: identity, "advalign.model": name, **lineage_tags(project), **tags}
        run = self.client.create_run(store.experiment_ids["train"], run_name=name)
        self.run_id, self.logged = run.info.run_id, 0
        self.client.log_batch(
            self.run_id,
            params=[Param(key, value) for key, value in params.items()],
            tags=[RunTag(key, value) for key, value in all_tags.items()],
        )

    def on_step(self, position: Position) -> None:
        """Steps are not logged one by one."""

    def on_epoch(self, row: dict[str, float]) -> None:
        """Log an epoch's numbers at its step, unless an earlier try has logged them."""
        step = int(row["step"])
        if step <= self.logged:
            return
        now = now_ms()
        metrics = [Metric(name, value, now, step) for name, value in row.items() if name != "step"]
        self.client.log_batch(self.run_id, metrics=metrics)
        self.logged = step

    def finish(self, folder: Path) -> None:
        """Add the checkpoint's card and history, and mark the run as finished."""
        for name in (CARD, HISTORY):
            self.client.log_artifact(self.run_id, str(folder / name))
        self.client.set_terminated(self.run_id, "FINISHED")


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


def train_tracked(
    project: Project, planned: Plan, folder: Path, *, device: str = "auto", resume: bool = True
) -> tuple[Card, bool]:
    """Train with a progress bar and a live MLflow run.

    Args:
        project, planned, folder, device, resume: as `training.train.train`.

    Returns:
        The checkpoint's card, and whether anything was trained (a finished checkpoint of the same identity is kept).
    """
    runs: list[TrainingRun] = []
    with progress(f"training {planned.name}") as advance:

        def observers() -> list[TrainingRun | _Watcher]:
            settings = {"recipe": planned.recipe_settings, "train": planned.settings.train.model_dump()}
            runs.append(
                TrainingRun(
                    open_store(project),
                    project,
                    planned.name,
                    planned.identity,
                    training_params(settings, planned.training.model, planned.training.recipe, planned.seed),
                    {"advalign.recipe": planned.training.recipe, "settings.sha256": digest(settings)},
                )
            )
            return [*runs, _Watcher(advance)]

        card = train(project, planned, folder, observers, device=device, resume=resume)
    for run in runs:
        run.finish(folder)
    return card, bool(runs)
