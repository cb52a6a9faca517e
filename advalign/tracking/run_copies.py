"""Copies of runs in another store: each says in a tag which run it is a copy of, and is made once."""

from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

import mlflow
from mlflow.entities import Metric, Param, Run, ViewType

from advalign.errors import InputError
from advalign.tracking.store import RESULT, Store
from advalign.tracking.training_run import IDENTITY

COPIED = "advalign.copied_from"  # tag: the run in the other store
KEYS = {  # tags by which `publish` knows a result's run; runs of other experiments are known by COPIED alone
    "train": (IDENTITY, "advalign.model"),
    "evaluate": (RESULT, "advalign.model"),
    "compare": (RESULT,),
}
NUMBERS = ("advalign.version", "advalign.before")  # tags of the audit table that are numbers of versions


def ended_runs(store: Store, kind: str) -> list[Run]:
    """What an experiment holds that is not under way; of the audit table also deleted rows, which it lists."""
    return [run for run in store.all_runs(kind, view=_view(kind)) if _ended(run)]


def _view(kind: str) -> int:
    return int(ViewType.ALL if kind == "promote" else ViewType.ACTIVE_ONLY)


def _ended(run: Run) -> bool:
    return run.info.status in ("FINISHED", "KILLED")


@dataclass
class RunCopies:
    """Runs of a source and their counterparts in a target.

    Attributes:
        source, target: opened stores.
        versions: (model, number in the source) -> number in the target, for the audit table.
        ids: run in the source -> run in the target.
    """

    source: Store
    target: Store
    versions: dict[tuple[str, str], str]
    ids: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.there = {kind: self.target.all_runs(kind, view=_view(kind)) for kind in self.source.experiment_ids}

    def bring(self, kind: str, run: Run) -> bool:
        """Find a run's counterpart, or make it; whether it was made.

        Raises:
            InputError: its artifacts are gone.
        """
        twin = self._twin(kind, run)
        self.ids[run.info.run_id] = self._copy(kind, run) if twin is None else twin
        return twin is None

    def _twin(self, kind: str, run: Run) -> str | None:
        """The copy of a run, or what `publish` made of the same result, which is no other run's copy."""
        run_id = run.info.run_id
        for found in self.there[kind]:
            if found.data.tags.get(COPIED) == run_id and _ended(found):
                return str(found.info.run_id)
            if found.data.tags.get(COPIED) == run_id and found.info.lifecycle_stage == "active":
                self.target.client.delete_run(found.info.run_id)  # cut off
        key = [run.data.tags.get(name) for name in KEYS.get(kind, ())]
        for found in self.there[kind] if key and all(key) else ():
            tags = found.data.tags
            if COPIED not in tags and _ended(found) and [tags.get(name) for name in KEYS[kind]] == key:
                self.target.client.set_tag(found.info.run_id, COPIED, run_id)
                tags[COPIED] = run_id
                return str(found.info.run_id)
        return None

    def _copy(self, kind: str, run: Run) -> str:
        """Copy a run; it counts once it has ended."""
        source, client, info = self.source.client, self.target.client, run.info
        history = [metric for name in run.data.metrics for metric in source.get_metric_history(info.run_id, name)]
        tags = {name: value for name, value in run.data.tags.items() if name != "mlflow.runName"}
        for name in NUMBERS if kind == "promote" else ():
            tags[name] = self.versions.get((tags["advalign.model"], tags[name]), tags[name])
        with TemporaryDirectory() as folder:
            files = self._artifacts(kind, run, folder)
            experiment = self.target.experiment_ids[kind]
            new = client.create_run(experiment, info.start_time, {**tags, COPIED: info.run_id}, info.run_name)
            new_id = str(new.info.run_id)
            client.log_batch(
                new_id,
                [Metric(metric.key, metric.value, metric.timestamp, metric.step) for metric in history],
                [Param(name, value) for name, value in run.data.params.items()],
            )
            if run.inputs and run.inputs.dataset_inputs:
                client.log_inputs(new_id, run.inputs.dataset_inputs)
            if files is not None:
                client.log_artifacts(new_id, files)
        client.set_terminated(new_id, info.status, info.end_time)
        if info.lifecycle_stage == "deleted":
            client.delete_run(new_id)
        return new_id

    def _artifacts(self, kind: str, run: Run, folder: str) -> str | None:
        if self.source.client.list_artifacts(run.info.run_id):
            address = str(run.info.artifact_uri)
            return str(mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=folder))
        if kind in KEYS:
            raise InputError(f"its artifacts are no longer in {run.info.artifact_uri}")
        return None
