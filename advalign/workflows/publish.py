"""Publishing: bring the tracking store in line with the results on disk. Doing it twice changes nothing.

A stage that DVC finds unchanged does not run, so what it would have logged never reaches a new store: results on disk,
keyed by (model, digest), are the truth, and runs and versions follow them.
"""

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import pandas as pd
import torch
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities.model_registry import ModelVersion
from safetensors.torch import load_file
from torchvision.transforms.functional import pil_to_tensor

from advalign.analysis.assembly import group_of
from advalign.analysis.drawing import save
from advalign.analysis.gallery import gallery_figure
from advalign.data.results import Paths
from advalign.data.sets.base import ImageSet
from advalign.errors import DataError
from advalign.evaluation.tasks import open_set
from advalign.files import Project, sha256, write_text
from advalign.models.checkpoints import HISTORY, Card, read_card
from advalign.models.declared import Zoo, read_zoo
from advalign.models.exchange import imported_from
from advalign.settings import digest
from advalign.tracking.locks import exclusive
from advalign.tracking.registry.model_card import RUN
from advalign.tracking.registry.registered import checkpoint_folders, find_version, note_evaluation, register
from advalign.tracking.store import EXPERIMENT, RESULT, Store, store_errors
from advalign.tracking.training_run import IDENTITY, TrainingRun, lineage_tags, now_ms, training_params

PURPOSE = "publish"  # one at a time looks whether a thing is there, and creates it
IMPORTED_FROM = "advalign.imported_from"  # tag: name of the file that weights were imported from
# Tags of a training that its version carries:
LINEAGE = ("settings.sha256", "git.commit", "git.dirty", IMPORTED_FROM, EXPERIMENT)
TABLE = "stimuli.json"  # artifact: an evaluation's rows as the UI reads a table


@dataclass
class Published:
    """What publishing did: names of what it created; what was there already is counted."""

    created: list[str] = field(default_factory=list)
    present: int = 0

    def note(self, what: str, new: bool) -> None:
        """Take one thing."""
        if new:
            self.created.append(what)
        else:
            self.present += 1


def publish_all(project: Project, store: Store, on_item: Callable[[str], None] = lambda _: None) -> Published:
    """Publish every checkpoint, evaluation and comparison under outputs/.

    Args:
        project: whose outputs.
        store: opened tracking store.
        on_item: called with the name of each thing before it is looked at.
    """
    done = Published()
    for folder in checkpoint_folders(project):
        on_item(folder.name)
        publish_checkpoint(project, store, folder, done)
    sets: dict[str, ImageSet] = {}
    for summary in sorted(project.evaluations.glob("*/*.json")):
        on_item(f"{summary.parent.name}/{summary.stem}")
        name = json.loads(summary.read_text()).get("image_set", "stimuli")
        sets[name] = sets.get(name) or open_set(name, project)
        publish_evaluation(project, store, summary, sets[name], done)
    if (project.comparison / "statistics.json").is_file():
        on_item("comparison")
        with store_errors(store.uri), exclusive(store.uri, PURPOSE):
            _publish_comparison(project, store, done)
    return done


def publish_checkpoint(project: Project, store: Store, folder: Path, done: Published) -> ModelVersion:
    """Make sure a checkpoint has a finished training run and a registered version.

    Raises:
        StoreDown: the store does not answer, or refuses.
    """
    card = read_card(folder)
    with store_errors(store.uri), exclusive(store.uri, PURPOSE):
        run_id, new = training_run(project, store, card, folder)
        done.note(f"run {card.name}", new)
        version = find_version(store, card.name, card.weights_sha256)
        done.note(f"version {card.name}", version is None)
        if version is None:
            trained = store.client.get_run(run_id).data.tags
            tags = {name: trained[name] for name in LINEAGE if name in trained}
            tags |= {"dvc.data.md5": card.data_md5} if card.data_md5 else {}
            version = register(store, card, folder, run_id, tags)
    return version


def propose(store: Store, version: ModelVersion) -> None:
    """Make a version the candidate of its model.

    Raises:
        StoreDown: the store does not answer, or refuses.
    """
    with store_errors(store.uri):
        store.client.set_registered_model_alias(version.name, "candidate", version.version)


def training_run(project: Project, store: Store, card: Card, folder: Path) -> tuple[str, bool]:
    """The run of a checkpoint's training: the finished one, or one that is completed or made from history.csv now.

    What was imported was not trained here: its run has a card and no curves, and knows of no data.
    """
    key = {IDENTITY: card.inputs_sha256, "advalign.model": card.name}
    finished = store.find_runs("train", key, finished=True)
    if finished:
        return finished[0].info.run_id, False
    params = training_params(card.settings, card.architecture, card.recipe, card.seed)
    tags = {"advalign.recipe": card.recipe, "settings.sha256": digest(card.settings)}
    file = imported_from(card)
    if file is not None:
        tags |= {IMPORTED_FROM: file, "dvc.data.md5": ""}
    run = TrainingRun(store, project, card.name, card.inputs_sha256, params, tags)
    history = pd.read_csv(folder / HISTORY).to_dict("records") if (folder / HISTORY).is_file() else []
    for row in history:
        run.on_epoch({str(name): float(value) for name, value in row.items() if not pd.isna(value)})
    run.finish(folder)
    return run.run_id, True


def publish_evaluation(
    project: Project, store: Store, summary_file: Path, image_set: ImageSet, done: Published
) -> None:
    """Make sure a model's evaluation has a run with metrics, rows, pictures, dataset and lineage.

    Raises:
        StoreDown: the store does not answer, or refuses.
    """
    summary = json.loads(summary_file.read_text())
    label = summary_file.parent.name  # the protocol; of a trial (--limit) also how many stimuli: "fmn-fast.first6"
    key = {RESULT: sha256(summary_file), "advalign.model": summary["model"], "advalign.protocol": label}
    with store_errors(store.uri), exclusive(store.uri, PURPOSE):
        found = store.find_runs("evaluate", key, finished=True)
        done.note(f"evaluation {summary['model']} ({label})", not found)
        run_id = (
            found[0].info.run_id if found else _evaluation_run(project, store, summary_file, summary, image_set, key)
        )
        version = find_version(store, summary["model"], summary["weights_sha256"])
        if version is not None and version.tags.get(store.named(label) + RUN) != run_id:
            note_evaluation(store, version, label, store.client.get_run(run_id))


def _evaluation_run(
    project: Project,
    store: Store,
    summary_file: Path,
    summary: dict[str, Any],
    image_set: ImageSet,
    key: dict[str, str],
) -> str:
    client = store.client
    run_id = store.begin_run("evaluate", summary["model"], key)
    now = now_ms()
    tags = {
        "advalign.recipe": summary["recipe"],
        "advalign.flags": ",".join(summary["flags"]) or "none",
        "advalign.group": group_of(summary, _zoo(project.zoo, project.zoo.stat().st_mtime_ns)),
        "advalign.stimuli_sha256": summary["stimuli_sha256"],
        "settings.sha256": summary["protocol_sha256"],
        **lineage_tags(project),
        "dvc.data.md5": str(summary.get("data_md5") or ""),  # of the evaluation, not of the publishing
        "mlflow.loggedArtifacts": json.dumps([{"path": TABLE, "type": "table"}]),  # the UI shows it beside other runs'
    }
    params = {name: str(summary[name]) for name in ("model", "architecture", "recipe", "protocol", "n_stimuli")}
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, 0) for name, value in summary["metrics"].items() if value is not None],
        params=[Param(name, value) for name, value in params.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    _log_dataset(client, run_id, summary.get("image_set", "stimuli"), image_set, tags.get("dvc.data.md5", ""))
    with TemporaryDirectory() as folder:  # one request per file, and none to ask what is there
        _collect(Path(folder), summary_file, image_set)
        client.log_artifacts(run_id, folder)
    client.set_terminated(run_id, "FINISHED")
    return run_id


@lru_cache(maxsize=1)
def _zoo(path: Path, changed: int) -> Zoo:
    """The zoo, read once for all evaluations that are published while its file is as it was `changed`."""
    return read_zoo(path)


def _log_dataset(client: mlflow.MlflowClient, run_id: str, name: str, image_set: ImageSet, data_md5: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # advice on integer columns of models; this is a table
        dataset = from_pandas(image_set.listing(), name=name, digest=image_set.digest[:36])._to_mlflow_entity()
    tags = [InputTag("mlflow.data.context", "evaluation"), InputTag("dvc.data.md5", data_md5)]
    client.log_inputs(run_id, [DatasetInput(dataset, tags)])


def _collect(folder: Path, summary_file: Path, image_set: ImageSet) -> None:
    """Put what a run keeps into a folder: rows (for programs, and as the UI's table), summary, picture."""
    paths = Paths(summary_file.parent, summary_file.stem)
    for path in (paths.rows, summary_file):
        shutil.copy(path, folder)
    write_text(folder / TABLE, pd.read_parquet(paths.rows).to_json(orient="split", index=False))
    perturbations = (
        {int(name): delta for name, delta in load_file(paths.gallery).items()} if paths.gallery.is_file() else {}
    )
    if not perturbations:
        return
    positions = sorted(perturbations)
    if positions[-1] >= len(image_set):
        raise DataError(f"{paths.gallery} is of another image set: run `advalign evaluate` again")
    items = image_set.items(0, positions[-1] + 1, 0)
    images = items.pixels(pil_to_tensor)[positions]
    maps = items.extras.get("human_map", torch.zeros(len(items), *images.shape[2:]))[positions]
    shown = {paths.name: [perturbations[position].numpy() for position in positions]}
    names = [str(name) for name in items.table.get("category", items.table["label"]).iloc[positions]]
    save(gallery_figure(images.numpy(), maps.numpy(), shown, names), folder / "gallery.png")


def _publish_comparison(project: Project, store: Store, done: Published) -> None:
    files = [path for path in sorted(project.comparison.rglob("*")) if path.is_file()]
    key = {RESULT: digest([sha256(path) for path in files if path.suffix in (".csv", ".json")])}
    found = store.find_runs("compare", key, finished=True)
    done.note("comparison", not found)
    if found:
        return
    statistics = json.loads((project.comparison / "statistics.json").read_text())
    run_id = store.begin_run("compare", "comparison", key)
    tags = {"advalign.protocol": str(statistics["protocol"]), **lineage_tags(project)}
    now = now_ms()
    metrics = [
        Metric(f"rho_{entry['x']}_{entry['y']}", entry["rho"], now, 0)
        for entry in statistics["correlations"]
        if entry.get("rho") is not None
    ]
    store.client.log_batch(run_id, metrics=metrics, tags=[RunTag(name, value) for name, value in tags.items()])
    store.client.log_artifacts(run_id, str(project.comparison))
    store.client.set_terminated(run_id, "FINISHED")
