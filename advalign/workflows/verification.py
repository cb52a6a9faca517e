"""Verification: a registered version, fetched and loaded anew, gives the rows that were logged for it.

Minimum-norm search is chaotic: on another processor single norms move by percents and the mean by a fraction of one
(methods.md). So whole shards are computed, as they were the first time, and what is demanded is what chaos leaves
alone: the same predictions, and means that agree. On the machine that computed them the rows agree to the last bit,
which is told as well.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from advalign import catalog
from advalign.data.stimuli import load_stimuli
from advalign.errors import AdvalignError, InputError
from advalign.evaluation.tasks import Task, run_task
from advalign.files import Project
from advalign.names import Reference
from advalign.settings import Settings
from advalign.tracking.registry.evidence import read_evaluation
from advalign.tracking.registry.registered import WEIGHTS_TAG, Version, fetch, label_of, resolve
from advalign.tracking.store import Store

MEAN_NORM = 0.02  # relative; of a shard's mean norm
MEAN_RHO = 0.03  # absolute; of a shard's mean rank correlation


@dataclass(frozen=True)
class Verification:
    """What verifying found.

    Attributes:
        label: "NAME version 3 under fmn-fast".
        checks: rows of check, wanted, got, verdict.
        identical: rows that agree to the last bit, and rows that were computed again.
    """

    label: str
    checks: list[dict[str, str]]
    identical: int
    computed: int

    @property
    def holds(self) -> bool:
        """Whether every check does."""
        return all(check["verdict"] == "holds" for check in self.checks)

    @property
    def sentence(self) -> str:
        """The result in words."""
        if not self.holds:
            return f"{self.label}: what is stored does NOT give what was logged"
        return f"{self.label}: matches what was logged; {self.identical} of {self.computed} rows to the last bit"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "holds": self.holds}


def verify(
    project: Project, store: Store, reference: Reference, settings: Settings, protocol: str, shards: int = 1
) -> Verification:
    """Fetch a version, load it, compute some of its logged rows again, and compare.

    Args:
        project: whose frozen stimuli; they must be those of the evaluation.
        store: opened tracking store.
        reference: which version.
        settings: for the metrics that are computed.
        protocol: whose rows.
        shards: how many shards of the evaluation to compute again, spread over the stimuli.

    Raises:
        InputError: unknown version, not evaluated under the protocol, other stimuli here, or files that are gone.
    """
    version = resolve(store, reference)
    label = f"{label_of(version)} under {protocol}"
    try:
        found = read_evaluation(store, version, protocol)
        if found is None:
            raise InputError(f"{label_of(version)} is not evaluated under {protocol}: nothing to compare with")
        summary, logged = found
        if "tasks" not in summary:
            raise InputError(f"{label}: an earlier advalign evaluated it and kept no batch sizes: evaluate it again")
        _check_stimuli(project, summary, label)
        with TemporaryDirectory() as folder:
            checkpoint = fetch(version, Path(folder))
            tasks = _tasks(project, settings, summary, checkpoint, shards)
            again = pd.concat([run_task(task).rows for task in tasks], ignore_index=True)
    except AdvalignError as error:
        if error.exit_code != 1:
            raise
        return Verification(label, [_check("stored files", "as registered and logged", str(error), False)], 0, 0)
    then = logged.set_index("stimulus").loc[again["stimulus"]].reset_index()
    return Verification(label, _compare(version, then, again), _identical(then, again), len(again))


def _check_stimuli(project: Project, summary: dict[str, Any], label: str) -> None:
    stimuli = load_stimuli(project)
    if stimuli.digest != summary["stimuli_sha256"]:
        raise InputError(
            f"{label}: it was evaluated on stimuli {summary['stimuli_sha256'][:12]}, frozen here are "
            f"{stimuli.digest[:12]}: check out the commit and data of the evaluation (dvc checkout)"
        )


def _tasks(project: Project, settings: Settings, summary: dict[str, Any], checkpoint: Path, shards: int) -> list[Task]:
    """The tasks of the evaluation that are run again: the same members, threads and batches as then."""
    size, count = summary["tasks"]["shard_size"], summary["n_stimuli"]
    firsts = list(range(0, count, size))
    chosen = sorted({int(index) for index in np.linspace(0, len(firsts) - 1, min(shards, len(firsts)))})
    return [
        Task(
            kind="stimuli",
            root=project.root,
            checkpoint=checkpoint,
            weights=summary["weights_sha256"],
            first=firsts[index],
            last=min(firsts[index] + size, count),
            protocol=summary["protocol"],
            metrics=settings.evaluate.metrics or tuple(catalog.names("metric")),
            gallery=(),
            seed=summary["seed"],
            device="cpu",
            threads=summary["tasks"]["threads"],
            batch_size=summary["tasks"]["batch_size"],
            search_precision=summary["tasks"]["search_precision"],
        )
        for index in chosen
    ]


def _compare(version: Version, then: pd.DataFrame, again: pd.DataFrame) -> list[dict[str, str]]:
    """Checks of rows computed again against rows as logged, in the same order."""
    same = int((then["clean_prediction"] == again["clean_prediction"]).sum())
    ended = int((then["status"] == again["status"]).sum())
    checks = [
        _check("weights", "the registered SHA-256", str(version.tags[WEIGHTS_TAG])[:12], True),
        _check("predictions", f"{len(then)} as logged", f"{same} of {len(then)}", same == len(then)),
        _check("statuses", f"{len(then)} as logged", f"{ended} of {len(then)}", ended == len(then)),
    ]
    both = (then["status"] == "ok") & (again["status"] == "ok")
    for column, allowed, relative in (("norm_l2", MEAN_NORM, True), ("rho_released", MEAN_RHO, False)):
        if column not in then or then.loc[both, column].isna().all():
            continue
        logged, computed = float(then.loc[both, column].mean()), float(again.loc[both, column].mean())
        change = computed - logged
        off = abs(change / logged) if relative else abs(change)
        wanted = f"{logged:.4f} within {allowed:.0%}" if relative else f"{logged:.4f} within {allowed}"
        checks.append(_check(f"mean {column}", wanted, f"{computed:.4f}", off <= allowed))
    return checks


def _identical(then: pd.DataFrame, again: pd.DataFrame) -> int:
    columns = [
        name for name in ("clean_prediction", "status", "norm_l2", "rho_released") if name in then and name in again
    ]
    equal = (then[columns] == again[columns]) | (then[columns].isna() & again[columns].isna())
    return int(equal.all(axis=1).sum())


def _check(check: str, wanted: str, got: str, holds: bool) -> dict[str, str]:
    return {"check": check, "wanted": wanted, "got": got, "verdict": "holds" if holds else "FAILS"}
