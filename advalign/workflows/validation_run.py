"""A validation of data and evaluations as an MLflow run: counts, all failing rows, and the Data Docs if there are."""

import json
from pathlib import Path

from mlflow.entities import Metric, RunTag

from advalign.data.expectations import Validation
from advalign.files import Project
from advalign.settings import Settings, digest
from advalign.tracking.store import RESULT, open_store
from advalign.tracking.training_run import lineage_tags, now_ms


def log_validation(project: Project, settings: Settings, validation: Validation, docs: Path | None = None) -> str:
    """Log a validation as a run of the experiment `advalign/validate`.

    Args:
        project: whose store, and for lineage.
        settings: what was validated against.
        validation: its metrics are `success` (0 or 1), `checked` and `failed` (expectations) and `failing_rows`, in all
            and per table (`maps.failed`); validation.json holds every failing row.
        docs: folder of Data Docs to log as `data_docs`.

    Returns:
        The run's id.

    Raises:
        InputError: the tracking store cannot be used.
    """
    store = open_store(project)
    found = validation.as_json()
    now = now_ms()
    run_id = store.begin_run("validate", "validation", {RESULT: digest(found)})
    tags = {"settings.sha256": digest(settings), **lineage_tags(project)}
    store.client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, 0) for name, value in _counts(validation).items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    store.client.log_text(run_id, json.dumps(found, indent=1) + "\n", "validation.json")
    if docs is not None:
        store.client.log_artifacts(run_id, str(docs), "data_docs")
    store.client.set_terminated(run_id, "FINISHED")
    return run_id


def _counts(validation: Validation) -> dict[str, float]:
    counts = {
        "success": float(validation.success),
        "checked": float(sum(validation.checked.values())),
        "failed": float(len(validation.failures)),
        "failing_rows": float(sum(len(failure.rows) for failure in validation.failures)),
    }
    for table, checked in validation.checked.items():
        failures = [failure for failure in validation.failures if failure.table == table]
        counts[f"{table}.checked"] = float(checked)
        counts[f"{table}.failed"] = float(len(failures))
        counts[f"{table}.failing_rows"] = float(sum(len(failure.rows) for failure in failures))
    return counts
