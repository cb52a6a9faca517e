"""The audit table: a run of the experiment `advalign/promote` per decision, with who, when, why and every gate.

Rows are only added. A row that was deleted in MLflow is still listed, and marked as deleted.
"""

import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.entities import Run, RunTag, ViewType
from mlflow.exceptions import MlflowException

from advalign.errors import InputError
from advalign.strict_files import read_json
from advalign.tracking.lineage import COPIED, RESTORED
from advalign.tracking.locks import may_be_alive
from advalign.tracking.registry.gates import Verdict
from advalign.tracking.store import Store

OUTCOME, MODEL, FILE = "advalign.outcome", "advalign.model", "decision.json"
HOST, PROCESS = "advalign.host", "advalign.process"
VERSION, BEFORE = "advalign.version", "advalign.before"  # numbers; empty where there was none
ALIAS = "advalign.alias"
MOVES = ("promoted", "rolled back")  # outcomes of decisions that gave an alias to a version


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Decision:
    """One decision about one version.

    Attributes:
        outcome: "promoted", "refused", "rolled back"; "kept" (the version holds the alias already) adds no row.
        model, version, alias: the version, and the alias that it was to get.
        before: version that held the alias, None where none did.
        who, at: git user, and time in UTC (ISO 8601).
        reason: given with --force or with a rollback; empty otherwise.
        gates: what the gates demanded and found.
        notes: further facts for people, such as the end of an earlier promotion that was cut off.
    """

    outcome: str
    model: str
    version: int
    alias: str
    before: int | None
    who: str
    gates: tuple[Verdict, ...] = ()
    reason: str = ""
    at: str = field(default_factory=now)
    notes: tuple[str, ...] = ()

    @property
    def forced(self) -> bool:
        """Whether the version was promoted although a gate does not hold."""
        return self.outcome == "promoted" and not all(verdict.holds for verdict in self.gates)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for tags, files and programs."""
        return {**asdict(self), "forced": self.forced}


def begin(store: Store, decision: Decision, lineage: dict[str, str]) -> str:
    """Add the row of a decision that is about to be carried out; the decision counts once its row is finished.

    Args:
        store: opened tracking store.
        decision: what was decided.
        lineage: further tags of the row.
    """
    run_id = store.create_run(
        "promote",
        f"{decision.model} version {decision.version}: {decision.outcome}",
        {
            MODEL: decision.model,
            OUTCOME: "under way",
            HOST: platform.node(),
            PROCESS: str(os.getpid()),
            VERSION: str(decision.version),
            ALIAS: decision.alias,
            "advalign.who": decision.who,
            "advalign.reason": decision.reason,
            "advalign.forced": str(decision.forced),
            BEFORE: str(decision.before or ""),
            **lineage,
        },
    )
    store.client.log_dict(run_id, decision.as_json(), FILE)
    return run_id


def is_there(store: Store, run_id: str) -> bool:
    """Whether a row can still be written: people may delete it in MLflow."""
    try:
        return bool(store.client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def read(store: Store, run_id: str) -> dict[str, Any]:
    """A row's `decision.json`; without gates where the file was removed or never written."""
    try:
        with TemporaryDirectory() as folder:
            found = read_json(Path(store.client.download_artifacts(run_id, FILE, folder)))
    except (MlflowException, OSError, InputError):
        row = _row(store.client.get_run(run_id))
        return {**row, "gates": []}
    return found if isinstance(found, dict) else {**_row(store.client.get_run(run_id)), "gates": []}


def finish(store: Store, run_id: str, outcome: str) -> None:
    """Record how a decision ended: its outcome, or "lost" (a race) or "cut off"."""
    store.client.log_batch(run_id, tags=[RunTag(OUTCOME, outcome)])
    store.client.set_terminated(run_id, "FINISHED" if outcome not in ("lost", "cut off") else "KILLED")


def cut_off(store: Store, model: str) -> None:
    """Close the rows of decisions that were cut off. The caller holds the lock."""
    for run in store.all_runs("promote", f"tags.`{MODEL}` = '{model}' and tags.`{OUTCOME}` = 'under way'"):
        tags = run.data.tags
        if not may_be_alive(tags.get(HOST, ""), int(tags.get(PROCESS, "0")), run.info.start_time / 1000):
            finish(store, run.info.run_id, "cut off")


def rows(store: Store, model: str | None = None) -> list[dict[str, Any]]:
    """The audit table, oldest first, with deleted rows.

    Args:
        store: opened tracking store.
        model: only decisions about this registered model.
    """
    wanted = f"tags.`{MODEL}` = '{model}'" if model else ""
    found = store.all_runs("promote", wanted, ViewType.ALL)
    return [_row(run) for run in reversed(found) if OUTCOME in run.data.tags]  # otherwise the run was made by hand


def names_of(run: Run) -> set[str]:
    """Ids of the decision that a row records: the row's own, and that of the row that it repeats or was copied from."""
    return {str(run.info.run_id)} | {run.data.tags[name] for name in (RESTORED, COPIED) if name in run.data.tags}


def _row(run: Run) -> dict[str, Any]:
    tags = run.data.tags
    return {
        "at": datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(timespec="seconds"),
        "who": tags.get("advalign.who"),
        "outcome": tags[OUTCOME],
        "model": tags.get(MODEL),
        "version": _number(tags.get(VERSION)),
        "alias": tags.get(ALIAS),
        "before": _number(tags.get(BEFORE)),
        "forced": tags.get("advalign.forced") == "True",
        "reason": tags.get("advalign.reason"),
        "copied_from": tags.get(COPIED),
        "restored": RESTORED in tags,
        "deleted": run.info.lifecycle_stage == "deleted",
        "run_id": run.info.run_id,
    }


def _number(text: str | None) -> int | None:
    """A version's number; None where there was none, or where the version was not copied from another store."""
    return int(text) if text and text.isdecimal() else None
