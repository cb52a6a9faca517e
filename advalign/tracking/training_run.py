"""A training as an MLflow run: its curves appear while it goes on; a resumed training continues its run.

A store that stops answering does not stop a training: rows wait until it answers again, and at the latest `advalign
publish` brings them there.
"""

import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.entities import Metric, Param

from advalign import provenance
from advalign.analysis.drawing import save
from advalign.analysis.gallery import gallery_figure
from advalign.files import Project
from advalign.models.checkpoints import CARD, HISTORY
from advalign.recipes.base import Position
from advalign.tracking.machine import Machine
from advalign.tracking.store import Store, StoreDown, store_errors
from advalign.training.interruption import Interrupted
from advalign.training.pictures import Pictures

IDENTITY = "advalign.inputs_sha256"
ENDED = "advalign.ended"  # tag: why a training ended early
BATCH = 1000  # metrics that MLflow takes at once
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
        self.machine = Machine()
        with store_errors(self.uri):
            unfinished = store.find_runs("train", {IDENTITY: identity, "advalign.model": name}, finished=False)
            if unfinished:
                self.run_id = unfinished[0].info.run_id
                self.client.update_run(self.run_id, "RUNNING")
                if ENDED in unfinished[0].data.tags:
                    self.client.delete_tag(self.run_id, ENDED)
                self.last, self.last_report = self._last_step("loss"), self._last_step("running_loss")
            else:
                all_tags = {IDENTITY: identity, "advalign.model": name, **lineage_tags(project), **tags}
                self.run_id, self.last, self.last_report = store.create_run("train", store.named(name), all_tags), 0, 0
            self.client.log_batch(self.run_id, params=[Param(key, value) for key, value in params.items()])

    def on_step(self, position: Position) -> None:
        """Steps are not logged one by one."""

    def on_report(self, row: dict[str, float]) -> None:
        """Log rates, and what the machine does meanwhile, unless an earlier try has logged later ones."""
        if row["step"] > self.last_report:
            self.last_report = int(row["step"])
            self._log({**row, **self.machine.look()}, patient=True)

    def on_epoch(self, row: dict[str, float]) -> None:
        """Log an epoch's numbers at its step, unless an earlier try has."""
        if row["step"] > self.last:
            self.last = int(row["step"])
            self._log(row)

    def on_pictures(self, epoch: int, pictures: Pictures) -> None:
        """Keep saliency beside human maps as a picture of the run; where the store is down there is none."""
        maps = {"saliency": list(pictures.saliency[:, None])}
        figure = gallery_figure(pictures.images, pictures.heatmaps, maps, [f"class {one}" for one in pictures.labels])
        with suppress(StoreDown), store_errors(self.uri), TemporaryDirectory() as folder:
            save(figure, Path(folder) / f"epoch_{epoch:04d}.png")
            self.client.log_artifacts(self.run_id, folder, "saliency")

    def _log(self, row: dict[str, float], *, patient: bool = False) -> None:
        """Log numbers at their step; what cannot be logged now waits, and with it what is patient."""
        now, alone = now_ms(), not self.waiting
        self.waiting += [Metric(name, value, now, int(row["step"])) for name, value in row.items() if name != "step"]
        if patient and not alone:
            return  # a store that is down is asked again after the epoch: each question may take long
        try:
            self._log_waiting()
        except StoreDown as error:
            if alone:
                _say(f"{error}; the training goes on, and what it logs is kept")

    def _log_waiting(self) -> None:
        """Log what waits. A batch whose answer was lost is sent again: MLflow keeps equal values once."""
        while self.waiting:
            with store_errors(self.uri):
                self.client.log_batch(self.run_id, metrics=self.waiting[:BATCH])
            self.waiting = self.waiting[BATCH:]

    def _last_step(self, metric: str) -> int:
        history = self.client.get_metric_history(self.run_id, metric)
        return max((one.step for one in history), default=0)

    def cut_off(self, why: BaseException) -> None:
        """Say in the run why the training ended early; a resumed one continues the run."""
        with suppress(StoreDown), store_errors(self.uri):
            self._log_waiting()
            self.client.set_tag(self.run_id, ENDED, str(why)[:500] or type(why).__name__)
            asked_for = isinstance(why, Interrupted | KeyboardInterrupt)
            self.client.set_terminated(self.run_id, "KILLED" if asked_for else "FAILED")

    def finish(self, folder: Path) -> None:
        """Log what waits, add the checkpoint's card and history if it has one, and mark the run as finished.

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
            for file in (folder / CARD, folder / HISTORY):
                if file.is_file():  # what was imported has no history
                    self.client.log_artifact(self.run_id, str(file))
            self.client.set_terminated(self.run_id, "FINISHED")


def _say(message: str) -> None:
    print(f"advalign: {message}", file=sys.stderr)  # noqa: T201
