"""Copies of runs in another store: each names its original in a tag, and is made once."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow.entities import Metric, Param, Run, ViewType

from advalign.errors import InputError
from advalign.names import is_name
from advalign.tracking.lineage import COPIED, IDENTITY, RESTORED
from advalign.tracking.lost_files import put_back_artifacts
from advalign.tracking.registry.audit import MODEL, names_of
from advalign.tracking.store import COPY, RESULT, Store, experiment_of

KEYS = {  # tags that identify a result's run for `publish`; COPIED identifies all other runs
    "train": (IDENTITY, MODEL),
    "evaluate": (RESULT, MODEL),
    "compare": (RESULT,),
    "guidance": (RESULT,),
}


def ended_runs(store: Store, kind: str) -> list[Run]:
    """Ended runs of an experiment; of the audit table also deleted runs, since it lists them."""
    found = store.all_runs(kind, view=_view(kind))
    return [run for run in found if run.info.status in ("FINISHED", "FAILED", "KILLED")]


def bring(source: Store, target: Store, kind: str, run: Run, tags: Mapping[str, str]) -> tuple[str, bool]:
    """Find a run's counterpart, or make it. The caller holds the lock.

    Args:
        source, target: opened stores.
        kind, run: an ended run of the source.
        tags: those in which the copy differs from the run.

    Returns:
        Id of the counterpart, and whether it was made now.

    Raises:
        InputError: the run's artifacts are gone, or cannot be read.
    """
    found = _find(target, kind, run)
    copy = _copy(source, target, kind, run, tags) if found is None else found
    if COPY in copy.data.tags and copy.info.lifecycle_stage == "active":  # not made by `publish`
        _end_as(target, run, copy)
    return str(copy.info.run_id), found is None


def put_back(source: Store, target: Store, run: Run, copy_id: str) -> bool:
    """Bring the files of a copy that the target has lost; whether it had. What `publish` made is its own to mend."""
    if COPY not in target.client.get_run(copy_id).data.tags:
        return False
    names = [one.path for one in source.client.list_artifacts(run.info.run_id)]

    def make(folder: Path) -> None:
        for name in names:
            source.client.download_artifacts(run.info.run_id, name, str(folder))

    return put_back_artifacts(target, copy_id, names, make)


def _view(kind: str) -> int:
    return int(ViewType.ALL if kind == "promote" else ViewType.ACTIVE_ONLY)


def _find(target: Store, kind: str, run: Run) -> Run | None:
    """The complete copy of a run, or the run of the same result from `publish` that is no other run's copy."""
    run_id = run.info.run_id
    copies = target.all_runs(kind, f"tags.`{COPIED}` = '{run_id}'", _view(kind))
    if copies:
        return copies[0]
    if RESTORED in run.data.tags:  # the target may have the decision itself
        for found in target.all_runs(kind, view=_view(kind)):
            if names_of(run) & names_of(found):
                return found
    key = {name: run.data.tags.get(name, "") for name in KEYS.get(kind, ())}
    if run.info.status == "FINISHED" and key and all(is_name(value) for value in key.values()):
        for found in target.of(experiment_of(run.data.tags)).find_runs(kind, key, finished=True):
            if COPIED not in found.data.tags:
                target.client.set_tag(found.info.run_id, COPIED, run_id)
                return found
    return None


def _copy(source: Store, target: Store, kind: str, run: Run, tags: Mapping[str, str]) -> Run:
    """Copy a run; the remains of a copy that was cut off are deleted."""
    client, info = target.client, run.info
    history = [metric for name in run.data.metrics for metric in source.client.get_metric_history(info.run_id, name)]
    with TemporaryDirectory() as folder:
        files = _artifacts(source, kind, run, folder)
        for begun in target.of(experiment_of(run.data.tags)).find_runs(kind, {COPY: info.run_id}, finished=False):
            client.delete_run(begun.info.run_id)
        kept = {name: value for name, value in run.data.tags.items() if name not in ("mlflow.runName", COPIED)}
        all_tags = {**kept, **tags, COPY: info.run_id}
        new = client.create_run(target.experiment_ids[kind], info.start_time, all_tags, info.run_name).info.run_id
        client.log_batch(
            new,
            [Metric(metric.key, metric.value, metric.timestamp, metric.step) for metric in history],
            [Param(name, value) for name, value in run.data.params.items()],
        )
        if run.inputs and run.inputs.dataset_inputs:
            client.log_inputs(new, run.inputs.dataset_inputs)
        if files is not None:
            client.log_artifacts(new, files)
    client.set_tag(new, COPIED, info.run_id)
    return client.get_run(new)


def _end_as(target: Store, run: Run, copy: Run) -> None:
    """End a copy as its run ended; a process cut off here or while registering a version may not have."""
    if (copy.info.status, copy.info.end_time) != (run.info.status, run.info.end_time):
        target.client.set_terminated(copy.info.run_id, run.info.status, run.info.end_time)
    if run.info.lifecycle_stage == "deleted":
        target.client.delete_run(copy.info.run_id)


def _artifacts(source: Store, kind: str, run: Run, folder: str) -> str | None:
    """Fetch a run's artifacts; None where the run has none and needs none."""
    if source.client.list_artifacts(run.info.run_id):
        return str(mlflow.artifacts.download_artifacts(artifact_uri=str(run.info.artifact_uri), dst_path=folder))
    if kind in KEYS:
        raise InputError(f"its artifacts are no longer in {run.info.artifact_uri}")
    return None
