"""A training as an MLflow run: curves appear during the training; a resumed training continues its run.

A store that stops answering does not stop a training: rows wait until it answers again, and at the latest `advalign
publish` brings them there.
"""

import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.entities import Metric, Param

from advalign.analysis.drawing import save
from advalign.analysis.gallery import gallery_figure
from advalign.errors import quoted
from advalign.files import Project
from advalign.models.checkpoints import CARD, HISTORY, Card, read_history
from advalign.models.exchange import imported_from
from advalign.progress import say
from advalign.recipes.base import Position
from advalign.strict_settings import digest
from advalign.tracking.lineage import IDENTITY, IMPORTED_FROM, lineage_tags, training_params
from advalign.tracking.machine import Machine
from advalign.tracking.results import now_ms
from advalign.tracking.store import Store, StoreDown, store_errors
from advalign.training.interruption import Interrupted
from advalign.training.pictures import Pictures

ENDED = "advalign.ended"  # tag: why a training ended early
BATCH = 1000  # metrics that MLflow accepts in one batch
PATIENCE = 20.0  # seconds that a finished training waits for a store that does not answer


class TrainingRun:
    """Logs a training while it runs; an observer of the loop.

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
        """Log nothing: single steps are not logged."""

    def on_report(self, row: dict[str, float]) -> None:
        """Log rates and the machine's load, unless an earlier attempt has logged later ones."""
        if row["step"] > self.last_report:
            self.last_report = int(row["step"])
            self._log({**row, **self.machine.look()}, patient=True)

    def on_epoch(self, row: dict[str, float]) -> None:
        """Log an epoch's numbers at its step, unless an earlier attempt has."""
        if row["step"] > self.last:
            self.last = int(row["step"])
            self._log(row)

    def on_pictures(self, epoch: int, pictures: Pictures) -> None:
        """Log a picture of saliency and human maps; none where the store is down."""
        maps = {"saliency": list(pictures.saliency[:, None])}
        figure = gallery_figure(pictures.images, pictures.heatmaps, maps, [f"class {one}" for one in pictures.labels])
        with suppress(StoreDown), store_errors(self.uri), TemporaryDirectory() as folder:
            save(figure, Path(folder) / f"epoch_{epoch:04d}.png")
            self.client.log_artifacts(self.run_id, folder, "saliency")

    def _log(self, row: dict[str, float], *, patient: bool = False) -> None:
        """Log numbers at their step; numbers that cannot be logged now wait, and so do patient ones."""
        now, alone = now_ms(), not self.waiting
        self.waiting += [Metric(name, value, now, int(row["step"])) for name, value in row.items() if name != "step"]
        if patient and not alone:
            return  # a store that is down is tried again after the epoch: each try may take long
        try:
            self._log_waiting()
        except StoreDown as error:
            if alone:
                say(f"{error}; the training continues, and its metrics are logged later")

    def _log_waiting(self) -> None:
        """Log waiting numbers. A batch without an answer is sent again: MLflow keeps equal values once."""
        while self.waiting:
            with store_errors(self.uri):
                self.client.log_batch(self.run_id, metrics=self.waiting[:BATCH])
            self.waiting = self.waiting[BATCH:]

    def _last_step(self, metric: str) -> int:
        history = self.client.get_metric_history(self.run_id, metric)
        return max((one.step for one in history), default=0)

    def cut_off(self, why: BaseException) -> None:
        """Note in the run why the training ended early; a resumed training continues the run."""
        with suppress(StoreDown), store_errors(self.uri):
            self._log_waiting()
            self.client.set_tag(self.run_id, ENDED, quoted(why) or type(why).__name__)
            asked_for = isinstance(why, Interrupted | KeyboardInterrupt)
            self.client.set_terminated(self.run_id, "KILLED" if asked_for else "FAILED")

    def finish(self, folder: Path) -> None:
        """Log waiting numbers, add the checkpoint's card and history if it has one, and finish the run.

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
            for file in files_of(folder):
                self.client.log_artifact(self.run_id, str(file))
            self.client.set_terminated(self.run_id, "FINISHED")


def files_of(folder: Path) -> list[Path]:
    """The files of a checkpoint that its run has; imported checkpoints have no history."""
    return [file for file in (folder / CARD, folder / HISTORY) if file.is_file()]


def checkpoint_run(project: Project, store: Store, card: Card, folder: Path) -> tuple[str, bool]:
    """The run of a checkpoint's training: the finished one, or one completed or made from history.csv now.

    An imported checkpoint was not trained here: its run has a card, but no curves and no data.

    Args:
        project: for lineage.
        store: opened tracking store.
        card, folder: the checkpoint.

    Returns:
        The run's id, and whether it was completed or made now.
    """
    key = {IDENTITY: card.inputs_sha256, "advalign.model": card.name}
    finished = store.find_runs("train", key, finished=True)
    if finished:
        return finished[0].info.run_id, False
    history = read_history(folder, card)
    params = training_params(card.settings, card.architecture, card.recipe, card.seed)
    tags = {"advalign.recipe": card.recipe, "settings.sha256": digest(card.settings)}
    file = imported_from(card)
    if file is not None:
        tags |= {IMPORTED_FROM: file, "dvc.data.md5": ""}
    run = TrainingRun(store, project, card.name, card.inputs_sha256, params, tags)
    for row in history:
        run.on_epoch(row)
    run.finish(folder)
    return run.run_id, True
