"""A validation of data and evaluations as an MLflow run: counts, all failing rows, and the Data Docs if there are."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from advalign.data.validated import Validation
from advalign.files import Project, write_text
from advalign.settings import Settings
from advalign.strict_settings import digest
from advalign.tracking.lineage import lineage_tags
from advalign.tracking.results import log_result
from advalign.tracking.store import RESULT, open_store


def log_validation(project: Project, settings: Settings, validation: Validation, docs: Path | None = None) -> str:
    """Log a validation as a run of the experiment `advalign/validate`.

    Args:
        project: owner of the store; for lineage.
        settings: those of the validation.
        validation: its metrics are `success` (0 or 1), `checked` and `failed` (expectations) and `failing_rows`, in all
            and per table (`maps.failed`); validation.json holds every failing row.
        docs: folder of Data Docs to log as `data_docs`.

    Returns:
        The run's id.

    Raises:
        InputError: the tracking store cannot be used.
    """
    found = validation.as_json()
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_text(folder / "validation.json", json.dumps(found, indent=1) + "\n")
        if docs is not None:
            shutil.copytree(docs, folder / "data_docs")
        return log_result(
            open_store(project),
            "validate",
            "validation",
            {RESULT: digest(found)},
            metrics=_counts(validation),
            tags={"settings.sha256": digest(settings), **lineage_tags(project)},
            files=folder,
        )


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
