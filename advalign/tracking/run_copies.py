"""Copies of runs in another store: each says in a tag which run it is a copy of, and is made once.

Numbers of versions are a store's own, so what a run of the audit table says of them is said anew with the numbers of
the other store.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, Run, ViewType

from advalign.errors import InputError
from advalign.files import write_text
from advalign.names import is_name
from advalign.tracking.registry.audit import FILE, MODEL
from advalign.tracking.store import RESULT, Store, experiment_of
from advalign.tracking.training_run import IDENTITY

COPIED = "advalign.copied_from"  # tag: the run in the other store
UNDER_WAY = ", not whole yet"  # follows the run in that tag while it is being copied
KEYS = {  # tags by which `publish` knows a result's run; runs of other experiments are known by COPIED alone
    "train": (IDENTITY, MODEL),
    "evaluate": (RESULT, MODEL),
    "compare": (RESULT,),
}
NUMBERS = ("version", "before")  # what a decision says of versions; as tags with "advalign." before it
UNKNOWN = "?"  # the number of a version that was not carried over
LABEL = re.compile(r"(?<!\S)(\S+) version ([0-9]+)\b")  # as `label_of` and the name of an audit run have it
OWN = re.compile(r"\bversion ([0-9]+)\b")  # as notes on a decision have it


def ended_runs(store: Store, kind: str) -> list[Run]:
    """What an experiment holds that is not under way; of the audit table also deleted rows, which it lists."""
    return [run for run in store.all_runs(kind, view=_view(kind)) if _ended(run)]


def _view(kind: str) -> int:
    return int(ViewType.ALL if kind == "promote" else ViewType.ACTIVE_ONLY)


def _ended(run: Run) -> bool:
    return run.info.status in ("FINISHED", "FAILED", "KILLED")


@dataclass
class Counterparts:
    """What the runs and versions of a source are called in a target.

    Attributes:
        runs: run in the source -> run in the target.
        versions: (model, number in the source) -> number in the target.
    """

    runs: dict[str, str] = field(default_factory=dict)
    versions: dict[tuple[str, str], str] = field(default_factory=dict)

    def number(self, model: str, number: object) -> str:
        """A version's number in the target; "?" where it is not there.

        >>> known = Counterparts(versions={("resnet18", "1"): "4"})
        >>> known.number("resnet18", 1), known.number("resnet18", 2)
        ('4', '?')
        """
        return self.versions.get((model, str(number)), UNKNOWN)

    def text(self, text: str) -> str:
        """A text in which versions have the target's numbers.

        >>> Counterparts(versions={("resnet18", "1"): "4"}).text("resnet18 version 1: promoted, vgg11 version 1")
        'resnet18 version 4: promoted, vgg11 version ?'
        """
        return LABEL.sub(lambda found: f"{found[1]} version {self.number(found[1], found[2])}", text)

    def decision(self, decision: Mapping[str, Any]) -> dict[str, Any]:
        """A decision, as its file or a version's tag has it, of the target's versions and runs; None: not there."""
        model = str(decision.get("model"))
        told = dict(decision)
        for name in NUMBERS:
            number = self.number(model, decision.get(name))
            told[name] = None if number == UNKNOWN else int(number)
        if "run_id" in decision:
            told["run_id"] = self.runs.get(str(decision["run_id"]))
        told["gates"] = [{**gate, "got": self.text(str(gate["got"]))} for gate in decision.get("gates", ())]
        told["notes"] = [
            OWN.sub(lambda found: f"version {self.number(model, found[1])}", str(note))
            for note in decision.get("notes", ())
        ]
        return told


@dataclass
class RunCopies:
    """Runs of a source and their counterparts in a target.

    Attributes:
        source, target: opened stores.
        known: takes the runs, and knows the versions, which rows of the audit table speak of.
    """

    source: Store
    target: Store
    known: Counterparts

    def bring(self, kind: str, run: Run) -> bool:
        """Find a run's counterpart, or make it; whether it was made. To be called under the lock.

        Raises:
            InputError: its artifacts are gone, or cannot be read.
        """
        found = self._find(kind, run)
        if found is not None and (_ended(found) or found.data.tags[COPIED] == run.info.run_id):
            self.known.runs[run.info.run_id] = str(found.info.run_id)
            self._restore_end(run, found)
            return False  # a copy that does not say so but has ended is whole; one that says so may be in use again
        self.known.runs[run.info.run_id] = self._copy(kind, run, found)
        return True

    def _restore_end(self, run: Run, copy: Run) -> None:
        """Registering a version changes when its run ended; who was cut off then could not set it back."""
        is_copy = copy.data.tags.get(COPIED) == run.info.run_id and copy.info.lifecycle_stage == "active"
        if is_copy and copy.info.end_time != run.info.end_time:
            self.target.client.set_terminated(copy.info.run_id, run.info.status, run.info.end_time)

    def _find(self, kind: str, run: Run) -> Run | None:
        """The copy of a run, whole or not, or what `publish` made of the same result, which is no other run's copy."""
        run_id = run.info.run_id
        copies = self.target.all_runs(kind, f"tags.`{COPIED}` LIKE '{run_id}%'", _view(kind))
        copies = [copy for copy in copies if _ended(copy) or copy.info.lifecycle_stage == "active"]
        if copies:
            return max(copies, key=_ended)
        key = {name: run.data.tags.get(name, "") for name in KEYS.get(kind, ())}
        if run.info.status == "FINISHED" and key and all(is_name(value) for value in key.values()):
            for found in self.target.of(experiment_of(run.data.tags)).find_runs(kind, key, finished=True):
                if COPIED not in found.data.tags:
                    self.target.client.set_tag(found.info.run_id, COPIED, run_id)
                    return found
        return None

    def _copy(self, kind: str, run: Run, begun: Run | None) -> str:
        """Copy a run, or complete a copy that was cut off; writing the same again changes nothing."""
        source, client, info = self.source.client, self.target.client, run.info
        history = [metric for name in run.data.metrics for metric in source.get_metric_history(info.run_id, name)]
        with TemporaryDirectory() as folder:
            files = self._artifacts(kind, run, folder)
            new_id = self._begin(kind, run) if begun is None else str(begun.info.run_id)
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
        client.set_tag(new_id, COPIED, info.run_id)
        if info.lifecycle_stage == "deleted":
            client.delete_run(new_id)
        return new_id

    def _begin(self, kind: str, run: Run) -> str:
        info, name = run.info, run.info.run_name
        tags = {tag: value for tag, value in run.data.tags.items() if tag != "mlflow.runName"}
        if kind == "promote":
            name = self.known.text(name)
            for tag in (f"advalign.{number}" for number in NUMBERS):
                if tags.get(tag):
                    tags[tag] = self.known.number(tags.get(MODEL, ""), tags[tag])
        tags[COPIED] = f"{info.run_id}{UNDER_WAY}"
        new = self.target.client.create_run(self.target.experiment_ids[kind], info.start_time, tags, name)
        return str(new.info.run_id)

    def _artifacts(self, kind: str, run: Run, folder: str) -> str | None:
        if self.source.client.list_artifacts(run.info.run_id):
            address = str(run.info.artifact_uri)
            files = str(mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=folder))
            if kind == "promote" and (Path(files) / FILE).is_file():
                self._rewrite(Path(files) / FILE)
            return files
        if kind in KEYS:
            raise InputError(f"its artifacts are no longer in {run.info.artifact_uri}")
        return None

    def _rewrite(self, file: Path) -> None:
        try:
            told = self.known.decision(json.loads(file.read_text()))
        except (ValueError, TypeError, LookupError, AttributeError):
            raise InputError(f"its {FILE} is not what advalign wrote: remove that artifact") from None
        write_text(file, json.dumps(told, indent=2))
