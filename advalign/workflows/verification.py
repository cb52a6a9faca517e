"""Verification: whether a registered version, fetched and loaded, gives the rows that were logged for it.

Minimum-norm search is chaotic: on another processor single norms move by percents and the mean by a fraction of one
(docs/fmn-fast.md, section Numerics). So whole shards are recomputed, and the checks use only what does not depend on
the processor: predictions must be equal, and means must agree. On the machine that computed the rows, the rows agree to
the last bit; that is reported too.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from advalign.errors import AdvalignError, InputError
from advalign.evaluation.protocols import protocol
from advalign.evaluation.tasks import Task, open_set, run_task
from advalign.files import Project
from advalign.names import Reference
from advalign.rows import BATCH_SIZE, CLEAN_PREDICTION, NORMS, RHO, STATUS, TASK, Status
from advalign.settings import Settings
from advalign.tracking.registry.evidence import Logged, read_evaluation
from advalign.tracking.registry.registered import WEIGHTS_TAG, Version, fetch, label_of, resolve
from advalign.tracking.store import Store

MEAN_NORM = 0.02  # relative; of a shard's mean norm
MEAN_RHO = 0.03  # absolute; of a shard's mean rank correlation
EXACT = {CLEAN_PREDICTION: "predictions", "prediction": "predictions", STATUS: "statuses"}
"""Column -> its name in a check, for columns that must be equal on any processor."""


@dataclass(frozen=True)
class Verification:
    """Result of a verification.

    Attributes:
        label: "NAME version 3 under fmn-fast".
        checks: rows of check, wanted, got, verdict.
        identical, computed: number of rows that agree to the last bit, and of recomputed rows.
    """

    label: str
    checks: list[dict[str, str]]
    identical: int
    computed: int

    @property
    def holds(self) -> bool:
        """Whether every check holds."""
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
    """Fetch a version, load it, recompute some of its logged rows, and compare.

    Args:
        project: its frozen stimuli must be those of the evaluation.
        store: opened tracking store.
        reference: of the version.
        settings: for the metrics.
        protocol: of the rows.
        shards: number of the evaluation's shards to recompute, spread over the stimuli.

    Raises:
        InputError: unknown version, not evaluated under the protocol, other stimuli here, or missing files.
    """
    version = resolve(store, reference)
    label = f"{label_of(version)} under {protocol}"
    try:
        found = read_evaluation(store, version, protocol, settings.evaluate)
        if found is None:
            raise InputError(f"{label_of(version)} is not evaluated under {protocol}: nothing to compare with")
        summary, logged = found.summary, found.rows
        _check_items(project, summary, label)
        with TemporaryDirectory() as folder:
            checkpoint = fetch(version, Path(folder))
            tasks = _tasks(project, settings, found, checkpoint, shards)
            again = pd.concat([run_task(task).rows for task in tasks], ignore_index=True)
    except AdvalignError as error:
        if error.exit_code != 1:
            raise
        return Verification(label, [_check("stored files", "as registered and logged", str(error), False)], 0, 0)
    then = pd.concat([logged.iloc[task.first : task.last] for task in tasks], ignore_index=True)
    return Verification(label, _compare(version, then, again), _identical(then, again), len(again))


def _check_items(project: Project, summary: dict[str, Any], label: str) -> None:
    name = summary.get("image_set", "stimuli")
    image_set = open_set(name, project)
    if image_set.digest != summary["stimuli_sha256"]:
        raise InputError(
            f"{label}: it was evaluated on {name} {summary['stimuli_sha256'][:12]}, here are {image_set.digest[:12]}: "
            "check out the commit and data of the evaluation (dvc checkout)"
        )


def _tasks(project: Project, settings: Settings, found: Logged, checkpoint: Path, shards: int) -> list[Task]:
    """The tasks of the evaluation that are run again, with the same members, threads and batches."""
    summary, rows = found.summary, found.rows
    asked = protocol(summary["protocol"], settings.evaluate.protocols, settings.evaluate.metrics or None)
    if TASK not in rows:
        raise InputError(f"{summary['model']} was evaluated by an earlier advalign: evaluate and publish it again")
    firsts = sorted(int(first) for first in rows[TASK].unique())
    lasts = [*firsts[1:], summary["n_stimuli"]]
    smaller = [rows[BATCH_SIZE].iloc[first] for first in firsts]
    chosen = sorted({int(index) for index in np.linspace(0, len(firsts) - 1, min(shards, len(firsts)))})
    return [
        Task(
            protocol=asked.spec,
            root=project.root,
            checkpoint=checkpoint,
            weights=summary["weights_sha256"],
            first=firsts[index],
            last=lasts[index],
            kept=(),
            seed=summary["seed"],
            device="cpu",
            threads=summary["tasks"]["threads"],
            batch_size=summary["tasks"]["batch_size"] if pd.isna(smaller[index]) else int(smaller[index]),
            search_precision=summary["tasks"]["search_precision"],
        )
        for index in chosen
    ]


def _compare(version: Version, then: pd.DataFrame, again: pd.DataFrame) -> list[dict[str, str]]:
    """Checks of recomputed rows against logged rows, in the same order."""
    checks = [
        _check("weights", "the registered SHA-256", str(version.tags[WEIGHTS_TAG])[:12], True),
        _check("summary", "the numbers of its rows", "the same, computed again", True),
    ]
    for column, what in EXACT.items():
        if column in then and column in again:
            same = int((then[column] == again[column]).sum())
            checks.append(_check(what, f"{len(then)} as logged", f"{same} of {len(then)}", same == len(then)))
    if STATUS not in then or STATUS not in again:
        return checks
    both = (then[STATUS] == Status.OK) & (again[STATUS] == Status.OK)
    for column, allowed, relative in (
        *((norm, MEAN_NORM, True) for norm in NORMS.values()),
        (RHO, MEAN_RHO, False),
    ):
        if column not in then or then.loc[both, column].isna().all():
            continue
        logged, computed = float(then.loc[both, column].mean()), float(again.loc[both, column].mean())
        change = computed - logged
        off = abs(change / logged) if relative else abs(change)
        wanted = f"{logged:.4f} within {allowed:.0%}" if relative else f"{logged:.4f} within {allowed}"
        checks.append(_check(f"mean {column}", wanted, f"{computed:.4f}", off <= allowed))
    return checks


def _identical(then: pd.DataFrame, again: pd.DataFrame) -> int:
    columns = [name for name in (*EXACT, *NORMS.values(), RHO) if name in then and name in again]
    equal = (then[columns] == again[columns]) | (then[columns].isna() & again[columns].isna())
    return int(equal.all(axis=1).sum())


def _check(check: str, wanted: str, got: str, holds: bool) -> dict[str, str]:
    return {"check": check, "wanted": wanted, "got": got, "verdict": "holds" if holds else "FAILS"}
