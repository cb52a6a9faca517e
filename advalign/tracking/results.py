"""A result on disk as a finished run: metrics, parameters, tags, dataset and files."""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag

from advalign.tracking.store import Store

PURPOSE = "publish"  # of the lock: one process at a time checks for a result's run and creates it


@dataclass
class Published:
    """Outcome of publishing.

    Attributes:
        created: names of runs and versions that were made.
        present: number of those that were there.
        restored: names of decisions that the store had lost.
        mended: names of runs and versions whose files the store had lost.
        left_out: why results were not published: they are damaged, say.
    """

    created: list[str] = field(default_factory=list)
    present: int = 0
    restored: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def note(self, what: str, new: bool, mended: bool = False) -> None:
        """Add one run or version: new, or there; of one that was there, whether its files had to be put back."""
        if new:
            self.created.append(what)
        else:
            self.present += 1
            self.mended += [what] if mended else []


@dataclass(frozen=True)
class Dataset:
    """The data that a result was computed from.

    Attributes:
        name: in the UI.
        table: one row per item; the UI shows its columns.
        digest: of the data; MLflow keeps its first 36 characters.
        tags: of the dataset's use in the run.
    """

    name: str
    table: pd.DataFrame
    digest: str
    tags: Mapping[str, str]


def now_ms() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)


def log_result(
    store: Store,
    kind: str,
    name: str,
    key: Mapping[str, str],
    *,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    files: Path,
    params: Mapping[str, str] | None = None,
    dataset: Dataset | None = None,
) -> str:
    """Log a result as a run, finished when all is logged; an earlier run that was cut off is replaced.

    Args:
        store: opened tracking store.
        kind: of the experiment (`store.KINDS`).
        name: of the run.
        key: tags that identify the run.
        metrics, tags, params: of the run.
        files: folder whose content becomes the run's artifacts.
        dataset: the data that the result was computed from.

    Returns:
        The run's id.
    """
    client, now = store.client, now_ms()
    run_id = store.begin_run(kind, name, dict(key))
    client.log_batch(
        run_id,
        metrics=[Metric(metric, value, now, 0) for metric, value in metrics.items()],
        params=[Param(param, value) for param, value in (params or {}).items()],
        tags=[RunTag(tag, value) for tag, value in tags.items()],
    )
    if dataset is not None:
        client.log_inputs(run_id, [_input(dataset)])
    client.log_artifacts(run_id, str(files))
    client.set_terminated(run_id, "FINISHED")
    return run_id


def _input(dataset: Dataset) -> DatasetInput:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # advice on integer columns of models; a table needs none
        entity = from_pandas(dataset.table, name=dataset.name, digest=dataset.digest[:36])._to_mlflow_entity()
    return DatasetInput(entity, [InputTag(name, value) for name, value in dataset.tags.items()])
